"""The application: routers in the order of an adapter's life. The process that serves it loads neither torch nor Celery."""

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from ringi.adapters.endpoints import router as adapters
from ringi.api.audit import router as audit
from ringi.api.health import router as health
from ringi.api.metrics import router as metrics
from ringi.approvals.endpoints import router as approvals
from ringi.base_models.endpoints import router as base_models
from ringi.compatibility.endpoints import router as compatibility
from ringi.datasets.endpoints import router as datasets
from ringi.evaluation.endpoints import router as evaluation
from ringi.hub.endpoints import router as hub
from ringi.identity.endpoints import router as identity
from ringi.jobs.endpoints import router as jobs
from ringi.observe import logs
from ringi.releases.endpoints import router as releases
from ringi.training.endpoints import router as training
from ringi.uploads.endpoints import router as uploads
from ringi.web import errors
from ringi.web.body_limit import BodyLimit

API_PREFIX = "/api/v1"
ROUTERS: tuple[APIRouter, ...] = (
    identity,
    uploads,
    jobs,
    datasets,
    base_models,
    adapters,
    training,
    evaluation,
    compatibility,
    approvals,
    releases,
    audit,
)


def create_app() -> FastAPI:
    """A new application; its state is in the database and the blob store only."""
    logs.configure()
    # The pages /docs and /redoc with their scripts in the package: a company's network may not reach a content network.
    app = FastAPIOffline(
        title="Ringi",
        version="1",
        description="The lifecycle of LoRA/PEFT adapters. Errors are problem+json (RFC 9457) with a stable `code` and a `next_step`.",
    )
    app.add_middleware(BodyLimit, streamed=frozenset({f"{API_PREFIX}/uploads"}))
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router, prefix=API_PREFIX)
    app.include_router(health)
    app.include_router(metrics)
    app.include_router(hub, prefix="/hf")
    return app


app = create_app()
