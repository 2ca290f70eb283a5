"""The same from the command line: options of every list, tags, the history of channels, references with a time."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lists.conftest import Filled
from lists.world import Tenant
from ringi.cli.main import COMMANDS, load
from ringi.cli.main import run as ringi
from ringi.cli.references import as_of, parse_version
from support.refusals import refused

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program's entry point with a tenant's token; exit code, output and errors."""

    def called(tenant: Tenant, user: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("RINGI_SERVER", tenant.url)
        monkeypatch.setenv("RINGI_TOKEN", tenant.tokens[user])
        code: Any = 0
        try:
            ringi(arguments)
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return called


def names(run: Run, tenant: Tenant, *arguments: str, by: str = "name", user: str = "aiko") -> list[Any]:
    code, out, err = run(tenant, user, *arguments, "--json")
    assert code == 0, err
    return [one[by] for one in json.loads(out)]


def test_every_verb_that_lists_has_the_options_of_lists() -> None:
    lists = {"adapters": {"list", "versions"}, "datasets": {"list", "versions"}, "bases": {"list", "revisions"}, "runs": {"list"}, "evaluations": {"list"},
             "jobs": {"list"}, "approvals": {"list"}, "channels": {"list", "history"}, "releases": {"list"}, "projects": {"list"}, "users": {"list"},
             "roles": {"list"}, "tokens": {"list"}, "sessions": {"list"}, "audit": {"events", "trail"}, "compat": {"show", "base"}}  # fmt: skip
    for group, verbs in lists.items():
        commands = load(group).commands
        assert verbs <= set(commands), group
        for verb in verbs:
            assert {"--filter", "--sort"} <= {option for param in commands[verb].params for option in param.opts}, (group, verb)
    assert {"set", "remove", "list"} <= set(load("tags").commands)
    assert "tags" in COMMANDS


def test_lists_are_filtered_sorted_and_searched(run: Run, filled: Filled) -> None:
    acme = filled.acme
    assert names(run, acme, "adapters", "list", "risk", "--search", "応答") == ["bot"]
    assert names(run, acme, "adapters", "list", "risk", "--filter", "base=tiny", "--filter", "owner=aiko", "--sort", "-name") == [
        "empty",
        "bot",
    ]
    best = names(
        run, acme, "adapters", "versions", "risk", "--filter", "metrics.improvement>0", "--sort", "-metrics.improvement", by="reference"
    )
    assert best == ["risk/bot:v2", "risk/bot:v1"]
    assert names(run, acme, "adapters", "versions", "risk/bot", "--filter", "state=deprecated", by="reference") == ["risk/bot:v1"]
    assert names(run, acme, "runs", "list", "risk", "--filter", "metrics.final_loss<1", by="adapter") == ["risk/mail"]
    assert names(run, acme, "evaluations", "list", "risk", "--filter", "verdict=worse", by="version") == ["risk/mail:v1"]
    code, out, _ = run(acme, "aiko", "adapters", "list", "risk", "--search", "下書き")
    assert (code, "risk/mail" in out, "risk/bot" in out) == (0, True, False)


def test_a_wrong_field_ends_with_code_1_and_names_what_there_is(run: Run, filled: Filled) -> None:
    code, out, err = run(filled.acme, "aiko", "adapters", "list", "risk", "--filter", "colour=red")
    assert (code, out) == (1, "")
    assert "[unknown_field]" in err
    assert "versions.metrics.improvement" in err


def test_references_have_a_past(run: Run, filled: Filled) -> None:
    for arguments in (("risk/bot:production@2025-10-02",), ("risk/bot:production", "--as-of", "2025-10-02")):
        code, out, err = run(filled.acme, "aiko", "adapters", "show", *arguments, "--json")
        assert code == 0, err
        assert json.loads(out)["reference"] == "risk/bot:v1"
    history = names(run, filled.acme, "channels", "history", "risk", "production", "--filter", "adapter=bot", by="version")
    assert history == ["risk/bot:v3", "risk/bot:v2", "risk/bot:v1"]
    assert set(names(run, filled.acme, "channels", "history", "risk", "--as-of", "2025-10-11T00:00Z", by="version")) == {
        "risk/bot:v2",
        "risk/bot:v3",
    }
    code, _, err = run(filled.acme, "aiko", "adapters", "show", "risk/bot:v1@2025-10-02")
    assert (code, "[bad_reference]" in err) == (2, True)


@pytest.mark.parametrize(
    "text", ["risk/bot:v1@2026-01-01", "risk/bot:production@soon", "risk/bot:production@2026-02-30", "risk/bot:production@"]
)
def test_a_reference_with_a_past_that_cannot_be_is_refused_before_anything_is_sent(text: str) -> None:
    with refused("bad_reference"):
        parse_version(text)


def test_a_time_is_added_to_a_reference_once() -> None:
    reference = parse_version("risk/bot:production")
    assert str(as_of(reference, "2026-01-01T00:00+09:00")) == "risk/bot:production@2026-01-01T00:00+09:00"
    assert as_of(reference, None) == reference
    for given in ("risk/bot:v2", "risk/bot:production@2026-01-01", "risk/bot@sha256:" + "0" * 64):
        with refused("bad_reference"):
            as_of(parse_version(given), "2026-01-02")


def test_tags_are_set_listed_filtered_by_and_removed(run: Run, fresh: Tenant) -> None:
    with fresh.sessions.begin() as session:
        base = fresh.base(session, "tiny")
        fresh.version(session, fresh.adapter(session, "bot", base))
        fresh.channel(session, "production")
    job = str(next(iter(fresh.as_("aiko").jobs.all(filter=["kind=train"]))).id)
    for kind, reference in (
        ("adapter", "risk/bot"), ("adapter", "risk/bot:v1"), ("channel", "risk/production"), ("project", "risk"), ("job", job),
    ):  # fmt: skip
        code, out, err = run(fresh, "aiko", "tags", "set", kind, reference, "team=risk", "用途=応答", "reviewed", "--json")
        assert code == 0, err
        assert {tag["key"]: tag["value"] for tag in json.loads(out)["tags"]} == {"team": "risk", "用途": "応答", "reviewed": ""}
    assert names(run, fresh, "adapters", "list", "risk", "--filter", "tags.用途~応") == ["bot"]
    assert names(run, fresh, "channels", "list", "risk", "--filter", "tags.reviewed") == ["production"]
    code, out, _ = run(fresh, "aiko", "tags", "remove", "adapter", "risk/bot", "team", "reviewed")
    assert (code, "team" in out, "応答" in out) == (0, False, True)
    for kind in ("base", "base"):
        code, _, err = run(fresh, "sys", "tags", "set", kind, "tiny:r1", "gpu=h100")
        assert code == 0, err
    code, _, err = run(fresh, "aiko", "tags", "set", "job", "not-an-id", "x=y")
    assert (code, "[usage]" in err) == (2, True)
    code, _, err = run(fresh, "vera", "tags", "set", "adapter", "risk/bot", "x=y")
    assert (code, "[forbidden]" in err) == (1, True)
