"""The fields of the lists of datasets and their versions, and `dataset_of` for what was made from one."""

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from ringi.datasets.models import Dataset, DatasetVersion
from ringi.identity.lists import owner
from ringi.jobs.contracts.datasets import RowFormat
from ringi.tags.lists import fill, tags_of
from ringi.web.listing import Field, Listing, column, measured, through


def dataset_of(reference: InstrumentedAttribute[object]) -> dict[str, Field]:
    """Name and version number of the dataset version that a row points at."""
    # unscoped: the list's own rows are scoped.
    versions = select(DatasetVersion.id)
    return {
        "dataset": through(reference, versions.join(DatasetVersion.dataset), Dataset.name, "The dataset's name."),
        "dataset_version": through(reference, versions, DatasetVersion.number, "The number of the dataset's version."),
    }


DATASETS = Listing(
    "datasets", key=Dataset.id, search=(Dataset.search.expression,), families=tags_of(Dataset.id), finish=fill,
    fields={
        "name": column(Dataset.name, "The dataset's name."),
        "description": column(Dataset.description, "What it is.", sort=False),
        "created_at": column(Dataset.created_at, "When it was made."),
    },
)  # fmt: skip
DATASET_VERSIONS = Listing(
    "dataset-versions", key=DatasetVersion.id, families=tags_of(DatasetVersion.id), finish=fill,
    fields={
        "number": column(DatasetVersion.number, "The version's number."),
        "digest": column(DatasetVersion.digest, "Its digest."),
        "source_digest": column(DatasetVersion.source_digest, "The digest of the file that it was made from."),
        "rows": measured(DatasetVersion.report, "rows", about="Rows in all."),
        "train_rows": measured(DatasetVersion.report, "train_rows", about="Rows to train on."),
        "validation_rows": measured(DatasetVersion.report, "validation_rows", about="Rows to evaluate on."),
        "format": measured(DatasetVersion.report, "row_format", about="Which fields its rows have.", choices=RowFormat),
        "near_duplicates": measured(DatasetVersion.report, "near_duplicates", about="Rows that are nearly equal to an earlier one."),
        "near_leaks": measured(DatasetVersion.report, "near_leaks", about="Rows to evaluate on of which something nearly equal is trained on."),
        "licence": column(DatasetVersion.licence, "Under which licence the rows are."),
        "origin": column(DatasetVersion.origin, "Where the rows come from."),
        "consent": column(DatasetVersion.consent, "On which ground they may be used."),
        "retain_until": column(DatasetVersion.retain_until, "The day until which they may be kept; none is not told."),
        "owner": owner(DatasetVersion.created_by, "Who added it."),
        "created_at": column(DatasetVersion.created_at, "When it was sealed."),
    },
)  # fmt: skip
