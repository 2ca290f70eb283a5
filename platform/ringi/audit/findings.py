"""What a verification finds, and what an entry claims. Pure."""

from dataclasses import dataclass, field
from typing import NamedTuple

MAX_PROBLEMS = 200


class Claim(NamedTuple):
    """What an entry says: which event, which object, and the digest of the state it left."""

    leaf: int | None
    event_id: str | None
    action: str | None
    type: str | None
    id: str | None
    after: str | None
    origin: str | None = None
    organization: str | None = None


@dataclass(frozen=True)
class Problem:
    """One finding; `index` is the leaf, None where it is about the file as a whole. `object` reads `type id`."""

    index: int | None
    event_id: str | None
    action: str | None
    object: str | None
    code: str
    message: str


@dataclass
class VerifyReport:
    """`ok` means that every byte was checked and nothing was found.

    `withheld`: entries without bytes that the bundle declares as not of its organisation's; each counts with its stored leaf hash only.
    `unsealed`: records that changed after the checkpoint and come with a later export. `not_included`: how many objects of each type
    the log speaks of and this bundle brings no records for. `problem_count` goes on counting after `problems` is full.
    """

    origin: str | None = None
    size: int | None = None
    root: str | None = None
    withheld: int = 0
    records: int = 0
    unsealed: int = 0
    not_included: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether the bundle is accepted."""
        return self.problem_count == 0

    def add(self, code: str, message: str, *, claim: Claim | None = None, index: int | None = None) -> None:
        """Note a problem, named by `claim` where an entry is known."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            known = claim or Claim(index, None, None, None, None, None)
            name = f"{known.type} {known.id}" if known.type else None
            self.problems.append(Problem(known.leaf, known.event_id, known.action, name, code, message))
