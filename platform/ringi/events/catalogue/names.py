"""Every event that the platform tells of, by name; the pages beside this one hold them in the order of an adapter's life.

docs/events.md is made from it. Plain values only: an event explains itself long after the rows behind it have moved on.
A field may be added to an event; a name or a field is never renamed or removed, because receivers are programs of other people.
"""

from types import ModuleType

from ringi.events.catalogue import adapters, approvals, bases, datasets, receivers, releases, suites, watches, work
from ringi.events.catalogue.data import EventData

# A page that is not named here would be missing from the catalogue; a test looks.
PAGES: tuple[ModuleType, ...] = (datasets, bases, adapters, work, suites, approvals, releases, watches, receivers)


def _on(page: ModuleType) -> list[type[EventData]]:
    return [one for one in vars(page).values() if isinstance(one, type) and issubclass(one, EventData) and one.NAME]


CATALOGUE: dict[str, type[EventData]] = {
    event.NAME: event for event in sorted((one for page in PAGES for one in _on(page)), key=lambda one: one.NAME)
}
