"""Every table of the platform, for Alembic."""

import ringi.adapters.models
import ringi.approvals.models
import ringi.audit.models
import ringi.base_models.models
import ringi.compatibility.models
import ringi.datasets.models
import ringi.evaluation.models
import ringi.events.models
import ringi.fleet.models
import ringi.gates.models
import ringi.identity.models
import ringi.jobs.models
import ringi.measurements.models
import ringi.observe.models
import ringi.origins.models
import ringi.quotas.models
import ringi.releases.models
import ringi.retraining.models
import ringi.searches.models
import ringi.storage.models
import ringi.suites.models
import ringi.tags.models
import ringi.training.models
import ringi.uploads.models
import ringi.watches.models
import ringi.web.models  # noqa: F401  # importing registers the tables
from ringi.db.base import Base

metadata = Base.metadata
