"""The fields of the list of retrainings."""

from ringi.adapters.lists import adapter_of
from ringi.datasets.lists import dataset_of
from ringi.identity.lists import owner
from ringi.retraining.models import Retraining
from ringi.retraining.schemas import RetrainingState
from ringi.web.listing import Listing, column, word

RETRAININGS = Listing(
    "retrainings", key=Retraining.id,
    fields={
        "adapter": adapter_of(Retraining.adapter_id),
        **dataset_of(Retraining.dataset_version_id),
        "state": column(Retraining.state, "How far it is.", choices=RetrainingState),
        "environment": column(Retraining.environment, "For which approval is asked."),
        "problem": word(Retraining.problem, "code", about="The code of the refusal that ended it."),
        "owner": owner(Retraining.on_behalf_of, "Who added the rows."),
        "created_at": column(Retraining.created_at, "When the rows were sealed."),
        "completed_at": column(Retraining.completed_at, "When it ended."),
    },
)  # fmt: skip
