"""/metrics of the API: what this process counted (or all that share its port), and the database's own figures.

Figures are of the whole deployment and so of every organisation at once: no role of one may read them, only who holds RINGI_METRICS_TOKEN.
"""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from ringi.api.gauges import DatabaseGauges
from ringi.identity.dependencies import Scraper
from ringi.observe.metrics import readable

# Prometheus reads this, not a client of the API.
router = APIRouter(include_in_schema=False)
_database = CollectorRegistry()
_database.register(DatabaseGauges())


@router.get("/metrics")
def metrics(actor: Scraper) -> Response:  # noqa: ARG001  # asked for its right alone
    """The text format of Prometheus, version 0.0.4."""
    return Response(generate_latest(readable()) + generate_latest(_database), media_type=CONTENT_TYPE_LATEST)
