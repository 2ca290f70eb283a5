"""References as people write them. Pure.

    project/adapter              project/adapter:v3       project/adapter:production    project/adapter@sha256:…
    project/dataset              project/dataset:v1       project/dataset@sha256:…
    base                         base:r2                  base@sha256:…

What moves has a past: `project/adapter:production@2026-11-01T00:00Z` is what the channel served then, `:latest@2026-11-01` the latest of then.
A selector is what the API takes in a path: `v3` or `r2`, `latest`, a channel's name, one of these with `@TIME`, a 40-hex commit, or a digest.
"""

import re
from typing import NamedTuple

from ringi.cli.errors import Usage
from ringi.kit.digests import parse_digest
from ringi.kit.times import FORMS, read_time

# What `ringi.web.schemas.Name` accepts; a test holds the two together.
_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")
LATEST = "latest"


class BadReference(Usage):
    """A reference that names nothing."""

    code = "bad_reference"

    def __init__(self, text: str, reason: str, *, example: str) -> None:
        super().__init__(f"'{text[:200]}' is not a reference: {reason}.", next_step=f"Write it like this: {example}.")


class Reference(NamedTuple):
    """A thing in a project; `selector` names a version of it."""

    project: str
    name: str
    selector: str | None

    def __str__(self) -> str:
        return f"{self.project}/{self.name}{_selected(self.selector)}"


class BaseReference(NamedTuple):
    """A base model of the organisation; `selector` names a revision of it."""

    name: str
    selector: str | None

    def __str__(self) -> str:
        return f"{self.name}{_selected(self.selector)}"


class Grammar(NamedTuple):
    """How one kind of reference is written: the letter of its numbers, and an example for the refusal."""

    letter: str
    example: str
    in_project: bool = True


ADAPTER = Grammar("v", "risk/answers or risk/answers:v3")
DATASET = Grammar("v", "risk/questions or risk/questions:v1")
SUITE = Grammar("v", "risk/quality or risk/quality:v1")
BASE = Grammar("r", "smollm2 or smollm2:r2", in_project=False)


def check_name(text: str, *, what: str) -> str:
    """`text` when it is a name (of a user, project, channel …); raises BadReference otherwise."""
    if not _NAME.match(text):
        reason = f"a name of a {what} has 1 to 63 of a-z and 0-9, with single '.', '-' or '_' between them"
        raise BadReference(text, reason, example="risk-model.2")
    return text


def parse_adapter(text: str) -> Reference:
    """`project/adapter`, without a version."""
    return _without_selector(text, _parse(text, ADAPTER), ADAPTER)


def parse_version(text: str, *, default: str | None = None) -> Reference:
    """`project/adapter:v3`, `:production`, `:latest`, `@sha256:…`; without a selector `default` is taken, or the reference refused."""
    return _with_selector(text, _parse(text, ADAPTER), default, "risk/answers:v3, risk/answers:production or risk/answers@sha256:…")


def parse_dataset(text: str) -> Reference:
    """`project/dataset`, without a version."""
    return _without_selector(text, _parse(text, DATASET), DATASET)


def parse_dataset_version(text: str) -> Reference:
    """`project/dataset:v1`, `project/dataset@sha256:…`; the latest version without a selector."""
    return _with_selector(text, _parse(text, DATASET), LATEST, DATASET.example)


def dataset_within(text: str, *, project: str) -> str:
    """`name`, `name:v1` or `project/name:v1` as the API takes it beside a project; refuses one of another project."""
    reference = _parse(text if "/" in text else f"{project}/{text}", DATASET)
    if reference.project != project:
        raise BadReference(text, f"the dataset must be in the project '{project}'", example=f"{project}/{reference.name}")
    return reference.name if reference.selector is None else f"{reference.name}:{reference.selector}"


def parse_suite(text: str) -> Reference:
    """`project/suite`, without a version."""
    return _without_selector(text, _parse(text, SUITE), SUITE)


def parse_suite_version(text: str) -> Reference:
    """`project/suite:v1`, `project/suite@sha256:…`; the latest version without a selector."""
    return _with_selector(text, _parse(text, SUITE), LATEST, SUITE.example)


def named_suite(reference: Reference) -> str:
    """`suite:v1` as the API takes it beside a project."""
    return f"{reference.name}:{reference.selector or 'latest'}"


def version_within(text: str, *, project: str) -> str:
    """`adapter:selector` of `project/adapter:selector`, or of a name without a project; refuses one of another project."""
    found = parse_version(text if "/" in text.partition("@")[0] else f"{project}/{text}")
    if found.project != project:
        raise BadReference(text, f"the version must be in the project '{project}'", example=f"{project}/{found.name}:v1")
    return f"{found.name}:{found.selector}"


def parse_base(text: str) -> str:
    """A base model's name."""
    return check_name(text, what="base model")


def parse_base_revision(text: str) -> BaseReference:
    """`base:r2`, `base@sha256:…`; the latest revision without a selector."""
    reference = _parse(text, BASE)
    return BaseReference(reference.name, reference.selector or LATEST)


def _parse(text: str, grammar: Grammar) -> Reference:
    path, at, digest = text.partition("@")
    path, colon, selector = path.partition(":")
    project, slash, name = path.partition("/")
    if grammar.in_project != bool(slash):
        reason = "the project is missing" if grammar.in_project else "a base model belongs to no project"
        raise BadReference(text, reason, example=grammar.example)
    for part in (project, name) if slash else (project,):
        if not _NAME.match(part):
            raise BadReference(text, f"'{part}' is not a name", example=grammar.example)
    if colon and at:
        return Reference(project, name, _at(text, selector, digest, grammar))
    chosen = _digest(text, digest, grammar) if at else _number_or_name(text, selector, grammar) if colon else None
    return Reference(project, name, chosen) if slash else Reference("", project, chosen)


def _digest(text: str, digest: str, grammar: Grammar) -> str:
    try:
        return parse_digest(digest)
    except ValueError as error:
        raise BadReference(text, str(error), example=grammar.example) from None


def _at(text: str, moving: str, time: str, grammar: Grammar) -> str:
    """`production@2026-11-01`: what a name that moves meant at a time."""
    if time.startswith("sha256"):
        raise BadReference(text, "it has a version and a digest; one is enough", example=grammar.example)
    try:
        read_time(time)
    except ValueError:
        reason = f"behind a channel's '@' stands a time, {FORMS}"
        raise BadReference(text, reason, example=grammar.example) from None
    if re.fullmatch(r"[a-z]?[0-9]+", moving):
        raise BadReference(text, f"'{moving}' always means the same, so it has no past", example=grammar.example)
    return f"{_number_or_name(text, moving, grammar)}@{time}"


def as_of(reference: Reference, time: str | None) -> Reference:
    """The reference at that time, as `--as-of` says it; the same without one."""
    if time is None:
        return reference
    text = f"{reference}@{time}"
    if reference.selector is None or "@" in str(reference):
        raise BadReference(text, "it has a time or a digest already", example="risk/answers:production@2026-11-01")
    return reference._replace(selector=_at(text, reference.selector, time, ADAPTER))


def _number_or_name(text: str, selector: str, grammar: Grammar) -> str:
    if selector.startswith("sha256"):
        raise BadReference(text, "a digest follows '@', not ':'", example=f"{text.partition(':')[0]}@sha256:…")
    if not _NAME.match(selector):
        raise BadReference(text, f"'{selector}' is no version", example=grammar.example)
    other = "r" if grammar.letter == "v" else "v"
    if re.fullmatch(rf"{other}?[0-9]{{1,9}}", selector):
        raise BadReference(text, f"versions are numbered {grammar.letter}1, {grammar.letter}2, …", example=grammar.example)
    return selector


def _selected(selector: str | None) -> str:
    if selector is None:
        return ""
    return f"@{selector}" if selector.startswith("sha256:") else f":{selector}"


def _without_selector(text: str, reference: Reference, grammar: Grammar) -> Reference:
    if reference.selector is not None:
        raise BadReference(text, "no version is meant here", example=grammar.example.partition(" or ")[0])
    return reference


def _with_selector(text: str, reference: Reference, default: str | None, example: str) -> Reference:
    if reference.selector is None and default is None:
        raise BadReference(text, "it names no version", example=example)
    return reference._replace(selector=reference.selector or default)
