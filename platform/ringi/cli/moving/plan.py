"""What would be moved, and as what: made from both sides before anything is written, shown by `--dry-run`, then carried out.

A source (`mlflow_source.py`, `folder_source.py`) tells its names and their versions, oldest first; everything else is the same for both.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import Field

from ringi.adapters.schemas import AdapterOut
from ringi.base_models.schemas import RevisionOut
from ringi.cli.client import RingiClient
from ringi.cli.connection import OnBytes
from ringi.cli.errors import AnswerNotUnderstood, Unreachable, Usage
from ringi.cli.moving.names import adapter_name, collisions
from ringi.cli.moving.refusals import BaseNotDeclared, NameCollides, NameTaken, NotMoved, SourceNotUnderstood, SourceRefused
from ringi.cli.references import parse_version
from ringi.kit.errors import RingiError
from ringi.origins.schemas import RecordOrigin, SourceFile
from ringi.web.schemas import Schema


class Outcome(StrEnum):
    """What becomes of one version."""

    PLANNED = "to import"
    IMPORTED = "imported"
    ALREADY_IN = "already in"
    REFUSED = "refused"
    SKIPPED = "skipped"
    FAILED = "failed"
    NOT_TRIED = "not tried"


class Line(Schema):
    """One version of the other system in the plan and in the report. `reference` is the version here."""

    name: str
    version: str
    adapter: str
    base: str | None = None
    aliases: list[str] = Field(default_factory=list)
    outcome: Outcome = Outcome.PLANNED
    reference: str | None = None
    code: str | None = None
    reason: str | None = None


class Sight(NamedTuple):
    """What a version is, seen without its weights. `fetch` writes its PEFT folder and returns the files as they were found."""

    origin: RecordOrigin
    fetch: Callable[[Path, OnBytes], list[SourceFile]]


class Found(NamedTuple):
    """A version of the source. `look` asks for the rest; it raises NotMoved for what is no adapter, or a refusal."""

    name: str
    version: str
    aliases: list[str]
    base: str | None
    look: Callable[[], Sight]


class Source(Protocol):
    """Another system: `system` is its kind, `address` which one of them."""

    system: str
    address: str

    def names(self) -> list[str]:
        """Every name, in the order in which they are moved."""

    def named(self, name: str) -> str | None:
        """The adapter name that the source itself asks for."""

    def versions(self, name: str) -> Iterator[Found]:
        """Oldest first."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for. `trained_on` are the names that stand for the chosen base elsewhere."""

    project: str
    base: str | None
    base_revision: str = "latest"
    trained_on: tuple[str, ...] = ()
    renames: dict[str, str] = field(default_factory=dict)


class Ready(NamedTuple):
    """What carrying out a step needs. `bind` says that the config's base is to be named as it is here."""

    sight: Sight
    base: RevisionOut
    repository: str
    bind: bool


@dataclass
class Step:
    """A line, and with it what is needed to carry it out, when it is to be."""

    line: Line
    ready: Ready | None = None

    def end(self, outcome: Outcome, error: RingiError | None = None, *, reason: str | None = None) -> None:
        """Say how it ended."""
        self.line.outcome = outcome
        if error is not None:
            self.line.code, self.line.reason = error.code, f"{error.message} {error.next_step}".strip()
        if reason is not None:
            self.line.reason = reason


class NoBase(Usage):
    """Neither the command nor the mapping says which base the adapters belong to."""

    code = "no_base"

    def __init__(self, name: str) -> None:
        super().__init__(f"Nothing says which base '{name}' belongs to.", next_step="Add --base NAME, or a column 'base' to the mapping.")


def imported_from(source: Source, name: str) -> str:
    """The description of an adapter made by an import: it tells the original name, and a repeated import knows its own by it."""
    return f"Imported from {source.system} {source.address}: {name}"


class Planner:
    """Reads both sides; `tell` hears how far it is."""

    def __init__(self, client: RingiClient, source: Source, wanted: Wanted, tell: Callable[[str], None]) -> None:
        self.client, self.source, self.wanted, self.tell = client, source, wanted, tell
        self._bases: dict[str, tuple[RevisionOut, str]] = {}

    def steps(self) -> list[Step]:
        """Every version of every name. Raises what ends the whole: an unreachable side, a base that is not here."""
        names = self.source.names()
        as_here = {name: self.wanted.renames.get(name) or self.source.named(name) or adapter_name(name) for name in names}
        if self.wanted.base is not None:
            self._base(self.wanted.base)  # a base that is not here ends it before anything is looked at
        here = {adapter.name: adapter for adapter in self.client.adapters.all(self.wanted.project)}
        known = {
            (origin.name, origin.version): origin.reference
            for origin in self.client.origins.all(self.wanted.project, system=self.source.system, source=self.source.address)
        }
        steps: list[Step] = []
        for number, name in enumerate(names, start=1):
            self.tell(f"looking at {name} ({number} of {len(names)})")
            adapter = as_here[name]
            trouble = self._name_trouble(name, adapter, here.get(adapter), known)
            for found in self.source.versions(name):
                line = Line(name=name, version=found.version, adapter=f"{self.wanted.project}/{adapter}", aliases=found.aliases)
                step = Step(line)
                steps.append(step)
                if (reference := known.get((name, found.version))) is not None:
                    line.reference = reference
                    step.end(Outcome.ALREADY_IN)
                elif trouble is not None:
                    step.end(Outcome.REFUSED, trouble)
                else:
                    self._look(step, found, here.get(adapter))
        self._refuse_collisions(steps, as_here)
        return steps

    def _refuse_collisions(self, steps: Sequence[Step], as_here: dict[str, str]) -> None:
        """Of what would really be imported: a model that is skipped takes no name away."""
        shared = collisions({step.line.name: as_here[step.line.name] for step in steps if step.ready is not None})
        for step in steps:
            adapter = as_here[step.line.name]
            if step.ready is not None and adapter in shared:
                step.ready = None
                step.end(Outcome.REFUSED, NameCollides(adapter, ", ".join(f"'{one}'" for one in shared[adapter])))

    def _name_trouble(self, name: str, adapter: str, existing: AdapterOut | None, known: dict[tuple[str, str], str]) -> RingiError | None:
        if existing is None:
            return None
        ours = existing.description == imported_from(self.source, name)[:2000]
        before = any(known_name == name and parse_version(reference).name == adapter for (known_name, _), reference in known.items())
        # Whoever renames to a name that exists has said that it is the same adapter.
        if ours or before or self.wanted.renames.get(name) == adapter or self.source.named(name) == adapter:
            return None
        if next(iter(self.client.adapters.versions(self.wanted.project, adapter)), None) is None:
            return None
        return NameTaken(f"{self.wanted.project}/{adapter}", f"its versions are not those of '{name}'")

    def _look(self, step: Step, found: Found, existing: AdapterOut | None) -> None:
        base = found.base or self.wanted.base
        if base is None:
            raise NoBase(found.name)
        try:
            sight = found.look()
            revision, repository = self._base(base)
            step.line.base = revision.reference
            if existing is not None and existing.base != base:
                raise NameTaken(existing.reference, f"it belongs to the base '{existing.base}', not to '{base}'")
            facts = sight.origin.facts
            at_home = (facts.base, facts.base_revision) == (repository, revision.commit)
            if not at_home and not self._declared(facts.base, facts.base_revision):
                named = f"'{facts.base}'" + (f" at '{facts.base_revision}'" if facts.base_revision else "") if facts.base else "of no name"
                raise BaseNotDeclared(named, revision.reference)
            step.ready = Ready(sight, revision, repository, bind=not at_home)
        except NotMoved as reason:
            step.end(Outcome.SKIPPED, reason)
        except (Unreachable, AnswerNotUnderstood):
            raise
        except (SourceRefused, SourceNotUnderstood) as trouble:
            step.end(Outcome.FAILED, trouble)
        except RingiError as refusal:
            step.end(Outcome.REFUSED, refusal)

    def _base(self, name: str) -> tuple[RevisionOut, str]:
        if name not in self._bases:
            revision = self.client.bases.revision(name, self.wanted.base_revision)
            self._bases[name] = (revision, self.client.bases.get(name).repository)
        return self._bases[name]

    def _declared(self, base: str | None, revision: str | None) -> bool:
        """Whether the user said that `base` (at `revision`) is the chosen one: `NAME` for any revision of it, `NAME@REVISION` for one."""
        return base is not None and (base in self.wanted.trained_on or f"{base}@{revision}" in self.wanted.trained_on)
