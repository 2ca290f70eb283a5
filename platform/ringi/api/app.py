"""The application: routers in the order of an adapter's life. The process that serves it loads neither torch nor Celery."""

import gc
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from ringi.adapters.endpoints import router as adapters
from ringi.api.as_of import router as as_of
from ringi.api.audit import router as audit
from ringi.api.audit_log import router as audit_log
from ringi.api.catalogue import router as catalogue
from ringi.api.health import router as health
from ringi.api.metrics import router as metrics
from ringi.api.tags import router as tags
from ringi.approvals.endpoints import router as approvals
from ringi.audit import personal
from ringi.base_models.endpoints import router as base_models
from ringi.compatibility.endpoints import router as compatibility
from ringi.datasets.endpoints import project_router as dataset_policies
from ringi.datasets.endpoints import router as datasets
from ringi.erasure.endpoints import router as erasure
from ringi.evaluation.endpoints import project_router as evaluations
from ringi.evaluation.endpoints import router as evaluation
from ringi.events.endpoints import router as events
from ringi.fleet.endpoints import router as fleet
from ringi.gates.endpoints import router as gates
from ringi.hub.endpoints import router as hub
from ringi.identity.denials import note_refusal
from ringi.identity.endpoints import router as identity
from ringi.identity.login_endpoints import router as login
from ringi.identity.provider import get_provider
from ringi.identity.session_endpoints import router as sessions
from ringi.jobs.endpoints import router as jobs
from ringi.jobs.stream import ended_by_signals
from ringi.measurements.endpoints import router as measurements
from ringi.observe import logs
from ringi.origins.endpoints import router as origins
from ringi.preflight.endpoints import router as preflight
from ringi.releases.endpoints import router as releases
from ringi.retention.endpoints import router as retention
from ringi.retraining.endpoints import router as retraining
from ringi.searches.endpoints import router as searches
from ringi.settings import get_settings
from ringi.suites.endpoints import router as suites
from ringi.sweeps.endpoints import router as sweeps
from ringi.training.endpoints import project_router as runs
from ringi.training.endpoints import router as training
from ringi.training.life_endpoints import router as lives_of_runs
from ringi.uploads.endpoints import router as uploads
from ringi.uploads.session_endpoints import router as upload_sessions
from ringi.usage.endpoints import router as limits
from ringi.watches.endpoints import router as watches
from ringi.web import errors
from ringi.web.body_limit import BodyLimit
from ringi.web.document import describe

log = logging.getLogger("ringi.api")
API_PREFIX = "/api/v1"
# Bodies that go to the store piece by piece.
STREAMED = re.compile(f"{API_PREFIX}/uploads(/sessions/[^/]+)?")
ROUTERS: tuple[APIRouter, ...] = (
    identity,
    sessions,
    uploads,
    fleet,
    upload_sessions,
    retention,
    jobs,
    limits,
    datasets,
    dataset_policies,
    base_models,
    preflight,
    adapters,
    catalogue,
    origins,
    training,
    lives_of_runs,
    runs,
    evaluation,
    evaluations,
    suites,
    measurements,
    searches,
    retraining,
    sweeps,
    gates,
    compatibility,
    approvals,
    releases,
    watches,
    tags,
    events,
    audit,
    audit_log,
    erasure,
    as_of,
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """What holds from the first request to the last."""
    if get_provider() is None:
        log.warning("no identity provider: people are local users with tokens that an identity_admin hands out; not for production")
    if get_settings().id_tokens_are_for_the_api:
        log.warning("RINGI_OIDC_AUDIENCE is the terminals' client: give the API a name of its own; not for production")
    # Without it nobody could vote: better not to start.
    personal.deployment_key()
    # Routes and models are never garbage, so no later search looks at them.
    gc.freeze()
    gc.enable()
    async with ended_by_signals():
        yield


def create_app() -> FastAPI:
    """A new application; its state is in the database and the blob store only."""
    logs.configure()
    # The pages /docs and /redoc with their scripts in the package: a company's network may not reach a content network.
    app = FastAPIOffline(
        title="Ringi",
        version="1",
        description="The lifecycle of LoRA/PEFT adapters. Errors are problem+json (RFC 9457) with a stable `code` and a `next_step`.",
        lifespan=lifespan,
        # A path with a slash too many is another path; a redirect would send the caller to the Host that the caller named.
        redirect_slashes=False,
    )
    app.add_middleware(BodyLimit, streamed=STREAMED)
    errors.install(app, before_refusal=note_refusal)
    for router in ROUTERS:
        app.include_router(router, prefix=API_PREFIX)
    app.include_router(health)
    app.include_router(metrics)
    app.include_router(login)
    app.include_router(hub, prefix="/hf")
    describe(app)
    return app


app = create_app()
