"""Every refusal can be made and read: a code of its own, a status, words that say what is and what to do, and a line in docs/errors.md."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from architecture import error_catalogue
from architecture.error_catalogue import COMMAND, KEPT, ROOT, build, catalogue, errors, has_own_words
from architecture.lint import dotted
from ringi.kit.digests import canonical_json
from ringi.kit.errors import RingiError

ERRORS = errors()
# One word to the voter, two causes: the subject moved after the request was opened, or the voter read something else.
SHARED_CODES = {"stale_subject": {"SubjectMoved", "StaleSubject"}}
# A hub client prints one line, so what is and what to do stand in it together.
SAY_BOTH_AT_ONCE = {"HubRefused"}
each = pytest.mark.parametrize("error", ERRORS, ids=[f"{error.__module__}.{error.__name__}" for error in ERRORS])


def test_the_walk_finds_the_errors_of_both_packages() -> None:
    packages = {error.__module__.partition(".")[0] for error in ERRORS}
    assert packages == {"ringi", "ringi_workers"}
    assert len(ERRORS) > 100


def test_a_code_names_one_refusal() -> None:
    by_code: dict[str, set[str]] = defaultdict(set)
    for error in ERRORS:
        by_code[error.code].add(error.__name__)
    assert {code: names for code, names in by_code.items() if len(names) > 1} == SHARED_CODES


@each
def test_an_error_has_a_stable_code_a_status_and_a_meaning(error: type[RingiError]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", error.code)
    assert 400 <= error.status < 600
    assert (error.__doc__ or "").strip()
    assert error.__doc__ != RingiError.__doc__


@each
def test_an_error_says_what_is_and_what_to_do(error: type[RingiError]) -> None:
    made = build(error)
    assert made.message.strip()
    assert made.next_step.strip() or error.__name__ in SAY_BOTH_AT_ONCE
    assert str(made) == f"{made.message} {made.next_step}".strip()
    assert made.message.endswith((".", "?", "example")), "a message is a sentence, or ends in one that it was given"
    for text in (made.message, made.next_step):
        assert "object at 0x" not in text
        assert "<class" not in text
        assert not re.search(r"(?<!^)\bNone\b", text), "a value was missing"


@each
def test_what_an_error_carries_is_json(error: type[RingiError]) -> None:
    assert canonical_json(build(error).details).startswith(b"{")


def calls_of_wordless_errors() -> list[tuple[str, ast.Call]]:
    """Where an error without words of its own is made, as `file:line` and call."""
    wordless = {error.__name__ for error in ERRORS if not has_own_words(error)}
    files = sorted([*(ROOT / "platform").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])
    nodes = ((path, node) for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    calls = ((path, node) for path, node in nodes if isinstance(node, ast.Call))
    return [(f"{path.relative_to(ROOT)}:{call.lineno}", call) for path, call in calls if dotted(call.func).rpartition(".")[2] in wordless]


def test_an_error_without_words_of_its_own_is_given_a_next_step_where_it_is_raised() -> None:
    silent = [place for place, call in calls_of_wordless_errors() if "next_step" not in {keyword.arg for keyword in call.keywords}]
    assert silent == []


def test_the_list_of_codes_is_current() -> None:
    assert KEPT.read_text(encoding="utf-8") == catalogue(), f"The errors changed. Run: {COMMAND}"


def test_the_list_holds_the_codes_of_the_web_layer() -> None:
    assert ("malformed_request", "422") in error_catalogue.web_codes()
    assert ("no_such_route", "404") in error_catalogue.web_codes()
    assert Path(KEPT).read_text(encoding="utf-8").count("| `malformed_request` |") == 2  # 400: no JSON; 422: another shape
