"""The fields of the lists of suites and their versions, and `suite_of` for what was measured with one."""

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from ringi.identity.lists import owner
from ringi.suites.models import Suite, SuiteVersion
from ringi.tags.lists import fill, tags_of
from ringi.web.listing import Field, Listing, column, through


def suite_of(reference: InstrumentedAttribute[object]) -> dict[str, Field]:
    """Name, version number and digest of the suite version that a row points at."""
    # unscoped: the list's own rows are scoped.
    versions = select(SuiteVersion.id)
    return {
        "suite": through(reference, versions.join(SuiteVersion.suite), Suite.name, "The suite's name."),
        "suite_version": through(reference, versions, SuiteVersion.number, "The number of the suite's version."),
        "suite_digest": through(reference, versions, SuiteVersion.digest, "The digest of the suite's version."),
    }


SUITES = Listing(
    "suites", key=Suite.id, search=(Suite.search.expression,), families=tags_of(Suite.id), finish=fill,
    fields={
        "name": column(Suite.name, "The suite's name."),
        "description": column(Suite.description, "What it is for.", sort=False),
        "owner": owner(Suite.created_by, "Who made it."),
        "created_at": column(Suite.created_at, "When it was made."),
    },
)  # fmt: skip
SUITE_VERSIONS = Listing(
    "suite-versions", key=SuiteVersion.id, families=tags_of(SuiteVersion.id), finish=fill,
    fields={
        "number": column(SuiteVersion.number, "The version's number."),
        "digest": column(SuiteVersion.digest, "Its digest."),
        "items": column(SuiteVersion.items, "Items of all tasks."),
        "owner": owner(SuiteVersion.created_by, "Who added it."),
        "created_at": column(SuiteVersion.created_at, "When it was sealed."),
    },
)  # fmt: skip
