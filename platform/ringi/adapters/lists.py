"""Fields that adapters and their versions bring to every list that points at them."""

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.web.listing import Field, through


def adapter_of(reference: InstrumentedAttribute[object]) -> Field:
    """The name of the adapter that a row points at."""
    # unscoped: the list's own rows are scoped.
    return through(reference, select(Adapter.id), Adapter.name, "The adapter's name.")


def version_of(reference: InstrumentedAttribute[object]) -> dict[str, Field]:
    """Adapter name and number of the version that a row points at."""
    # unscoped: the list's own rows are scoped.
    versions = select(AdapterVersion.id)
    return {
        "adapter": through(reference, versions.join(AdapterVersion.adapter), Adapter.name, "The adapter's name."),
        "version": through(reference, versions, AdapterVersion.number, "The number of the adapter's version."),
    }
