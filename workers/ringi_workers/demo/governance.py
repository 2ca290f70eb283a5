"""The second half: approval, release, rollback, pull, revocation, new base revisions, the audit trail and its tampering."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

from ringi.embedded import postgres
from ringi.embedded.processes import platform_down
from ringi_workers.demo.base_variants import perturb, reshard
from ringi_workers.demo.birth import ADAPTER, BASE, PROJECT, in_words, newest_summary, pull_environment
from ringi_workers.demo.stage import DemoFailed, Stage

_COMPARISON_S = 60
QUESTION = "What is machine learning?"


def approve(stage: Stage, version: str) -> None:
    """7. A request, the requester's own vote refused, the reviewer's vote, the grant."""
    stage.run("approvals", "request", f"{ADAPTER}:{version}", "--environment", "production", user="aiko")
    request = _newest_request(stage, version)
    if version == "v1":
        stage.refused(
            "approvals",
            "vote",
            *_in_project(request["id"]),
            "--approve",
            "--reason",
            "自分で承認してみる、通らないはず",
            user="aiko",
            code="self_approval",
        )
        stage.note("the requester's own vote was refused (self_approval)")
    stage.run("approvals", "vote", *_in_project(request["id"]), "--approve", "--reason", "評価で基盤モデルを明確に上回った", user="ken")
    grant = _newest_request(stage, version)["grant"]
    stage.note(
        f"{version} approved for production until {grant['expires_at'][:10]}, bound to {grant['manifest_digest'][:19]}… and {len(grant['evidence'])} evidence digests"
    )


def releases(stage: Stage) -> None:
    """8. Release, second release, rollback; an unapproved version is refused with its reasons."""
    _release(stage, "v1", "最初のリリース、承認済み")
    stage.refused(
        "release", f"{ADAPTER}:v2", "--channel", "production", "--reason", "before its approval", user="dana", code="release_gate_approved"
    )
    stage.note("the unapproved v2 was refused with its reasons")


def second_release(stage: Stage) -> None:
    """8, continued: v2 is approved meanwhile."""
    _release(stage, "v2", "二回目のリリース、承認済み")
    stage.run("rollback", ADAPTER, "--channel", "production", "--reason", "v2 answers too briefly", user="dana")
    stage.run("releases", "list", ADAPTER, "--channel", "production", user="dana")
    stage.note("v1 released, v2 released, rolled back to v1")


def _release(stage: Stage, version: str, reason: str) -> None:
    stage.run("release", f"{ADAPTER}:{version}", "--channel", "production", "--reason", reason, user="dana")


def pull(stage: Stage, server: str, scratch: Path) -> None:
    """9. The real clients pull what the channel serves; what is not approved, unknown or revoked is refused."""
    environment = pull_environment(stage, server, "dana", scratch)
    found = json.loads(stage.python("ringi_workers.demo.pull", ADAPTER, "main", QUESTION, environment=environment))
    version = stage.read("adapters", "show", f"{ADAPTER}:production", user="dana")
    sealed = {file["path"]: file["digest"] for file in version["files"]}
    if found["files"] != sealed:
        raise DemoFailed("The pulled files are not the sealed ones.", next_step="This must never happen; report it.")
    stage.say(f"Q: {QUESTION}   A: {found['answer'].strip()!r}")
    stage.note(f"pulled with huggingface_hub and peft: {len(sealed)} files, digests equal the manifest; it answers")
    for repository, revision, expected in (
        (ADAPTER, "v9", "RevisionNotFoundError"),
        (f"{PROJECT}/none", "main", "RepositoryNotFoundError"),
    ):
        _refused_pull(stage, environment, repository, revision, expected)
    stage.note("unknown revision and unknown repository are refused")


def revoke(stage: Stage, server: str, scratch: Path) -> None:
    """9, continued: one person stops v2; a client that has it in its cache is refused as well."""
    environment = pull_environment(stage, server, "dana", scratch)
    warm = json.loads(stage.python("ringi_workers.demo.pull", ADAPTER, "v2", environment=environment))
    if "refused" in warm["files"]:
        raise DemoFailed("The approved v2 could not be pulled.", next_step="See the API's log.")
    stage.run("revoke", f"{ADAPTER}:v2", "--reason", "不適切な回答が報告されたため停止", user="iris")
    _refused_pull(stage, environment, ADAPTER, "v2", "RevisionNotFoundError")
    stage.note("v2 revoked by one person: refused although the client has it in its cache")


def _refused_pull(stage: Stage, environment: dict[str, str], repository: str, revision: str, expected: str) -> None:
    answer = json.loads(stage.python("ringi_workers.demo.pull", repository, revision, environment=environment))["files"]
    stage.say(f"pull {repository}@{revision}: {answer.get('refused', 'served')}")
    if answer.get("refused") != expected:
        raise DemoFailed(f"Pulling {repository}@{revision} gave {answer}, not {expected}.", next_step="See the API's log.")


def new_bases(stage: Stage, base: Path, scratch: Path) -> None:
    """10. Revision 2 with slightly other weights, revision 3 re-sharded: every adapter is flagged; a regression evaluation on 2."""
    changed = perturb(base, scratch / "base-2", seed=secrets.randbits(31))
    stage.run("bases", "register", BASE, str(scratch / "base-2"), "--note", "微調整された重み", user="mio")
    _assessed(stage, "r2")
    live = stage.read("channels", "show", f"{PROJECT}", "production", user="dana")["live"][0]
    stage.run("channels", "show", f"{PROJECT}", "production", user="dana")
    stage.note(f"{live['base_note']}; live: {live['version']} on {live['base']}")
    reshard(base, scratch / "base-3")
    stage.run("bases", "register", BASE, str(scratch / "base-3"), "--note", "same values, other shards", user="mio")
    _assessed(stage, "r3")
    stage.run("compat", "show", f"{ADAPTER}:v1", user="aiko")
    verdicts = {row["base"]: row["assessment"] for row in _items(stage.read("compat", "show", f"{ADAPTER}:v1", user="aiko"))}
    drifted, relaid = verdicts[f"{BASE}:r2"], verdicts[f"{BASE}:r3"]
    named = {name for finding in drifted["findings"] for name in finding["affected"]}
    if (drifted["verdict"], relaid["verdict"], relaid["action"]) != ("DRIFTED", "RESERIALISED", "keep") or not set(changed) <= named:
        raise DemoFailed(f"The verdicts are wrong: {verdicts}.", next_step="This must never happen; report it.")
    stage.note(f"r2: DRIFTED, {len(changed)} changed tensors named; r3: RESERIALISED, keep")
    stage.run(
        "evaluate",
        f"{ADAPTER}:v1",
        "--dataset",
        "chat:v1",
        "--on",
        "r2",
        "--baseline",
        "trained_on",
        "--max-new-tokens",
        "8",
        "--batch-size",
        "64",
        user="aiko",
    )
    summary = newest_summary(stage, "v1")
    stage.note(f"regression run of v1 on r2 against v1 on r1: regressed = {summary['regressed']}; {in_words(summary)}")


def _assessed(stage: Stage, revision: str) -> None:
    """The comparison is a job that the sealing of the revision started; wait until every adapter has its verdict."""
    deadline = time.monotonic() + _COMPARISON_S
    while not _items(stage.read("compat", "base", f"{BASE}:{revision}", user="aiko")):
        if time.monotonic() > deadline:
            raise DemoFailed(f"{BASE}:{revision} was not compared within {_COMPARISON_S} s.", next_step="See the cpu worker's log.")
    stage.run("compat", "base", f"{BASE}:{revision}", user="aiko")


def audit(stage: Stage, scratch: Path) -> None:
    """11. The trail; an export that verifies without a database; an edited approval that does not."""
    stage.run("audit", "trail", ADAPTER, user="otto")
    key, good = scratch / "audit.pub", scratch / "audit.zip"
    key.write_text(stage.read("audit", "key", user="otto")["vkey"] + "\n", encoding="utf-8")
    stage.run("audit", "export", str(good), user="otto")
    vote = stage.read("approvals", "list", PROJECT, user="otto")
    first = _items(vote)[-1]["votes"][0]
    stage.say("the platform and its database are switched off")
    platform_down(stage.data_dir)
    stage.run("audit", "verify", str(good), "--key", str(key))
    stage.note("the export verifies with the database switched off")
    _tamper(stage, first["id"])
    stage.run("up", "--data-dir", str(stage.data_dir))
    edited = scratch / "audit-edited.zip"
    stage.run("audit", "export", str(edited), user="otto")
    stage.refused("audit", "verify", str(edited), "--key", str(key), code=first["id"])
    stage.note("one approval edited in the database as superuser: the verification fails and names the entry")
    _restore(stage, first)


def _tamper(stage: Stage, vote_id: str) -> None:
    stage.say("a database superuser edits the reviewer's reason, past every right and trigger")
    _as_superuser(stage, "UPDATE approval_votes SET reason = %s WHERE id = %s", ("It was never looked at by anybody.", vote_id))


def _restore(stage: Stage, vote: dict[str, Any]) -> None:
    """The data folder stays with the reader, so it is left as it was."""
    _as_superuser(stage, "UPDATE approval_votes SET reason = %s WHERE id = %s", (vote["reason"], vote["id"]))
    stage.say("the edit was taken back, so that the data folder left behind verifies")


def _as_superuser(stage: Stage, statement: str, values: tuple[str, str]) -> None:
    handle = postgres.start(stage.data_dir)
    with handle.connect("ringi") as connection:
        connection.execute(statement, values)


def _newest_request(stage: Stage, version: str) -> dict[str, Any]:
    requests = _items(stage.read("approvals", "list", PROJECT, user="aiko"))
    return next(request for request in requests if request["version"] == f"{ADAPTER}:{version}")


def _in_project(request_id: str) -> tuple[str, ...]:
    return (PROJECT, request_id)


def _items(answer: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = answer["items"] if isinstance(answer, dict) else answer
    return items
