"""The fields of the lists of base models and their revisions, and `base_of` for what stands on one."""

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from ringi.base_models.models import BaseModel, BaseRevision
from ringi.base_models.schemas import RevisionState
from ringi.identity.lists import owner
from ringi.tags.lists import fill, tags_of
from ringi.web.listing import Field, Listing, column, measured, through, word
from ringi.web.search import folded


def base_of(reference: InstrumentedAttribute[object]) -> dict[str, Field]:
    """Name and revision number of the base revision that a row points at."""
    # unscoped: the list's own rows are scoped.
    revisions = select(BaseRevision.id)
    return {
        "base": through(reference, revisions.join(BaseRevision.base_model), BaseModel.name, "The base model's name."),
        "base_revision": through(reference, revisions, BaseRevision.number, "The number of the base's revision."),
    }


BASES = Listing(
    "bases", key=BaseModel.id, search=(folded(BaseModel.name), folded(BaseModel.description)), families=tags_of(BaseModel.id), finish=fill,
    fields={
        "name": column(BaseModel.name, "The base model's name."),
        "description": column(BaseModel.description, "What it is.", sort=False),
        "created_at": column(BaseModel.created_at, "When it was made."),
    },
)  # fmt: skip
BASE_REVISIONS = Listing(
    "base-revisions", key=BaseRevision.id, search=(folded(BaseRevision.note),), families=tags_of(BaseRevision.id), finish=fill,
    fields={
        "number": column(BaseRevision.number, "The revision's number."),
        "state": column(BaseRevision.state, "Whether it can be used.", choices=RevisionState),
        "digest": column(BaseRevision.digest, "The digest of its files."),
        "note": column(BaseRevision.note, "What changed.", sort=False),
        "model_type": word(BaseRevision.facts, "model_type", about="The architecture that its config names."),
        "parameters": measured(BaseRevision.facts, "parameters", about="Parameters in all."),
        "owner": owner(BaseRevision.created_by, "Who registered it."),
        "created_at": column(BaseRevision.created_at, "When it was registered."),
    },
)  # fmt: skip
