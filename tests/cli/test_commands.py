"""The program `ringi` as a person or a script runs it: its own process, a real server, real profiles."""

import json
import stat
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ringi.audit import ringi_verify
from support.hub_client import free_port
from support.running_platform import SETUP_KEY, Platform, Processes
from support.shell import Shell, shell
from support.story import Sources
from support.tiny_model import make_tiny_rows
from support.waiting import until

pytestmark = pytest.mark.long

__all__ = ["shell"]


def test_an_organisation_is_set_up_from_the_key_to_the_first_users_token(shared_platform: Processes, tmp_path: Path) -> None:
    shell = Shell(tmp_path, shared_platform.server)
    organization = f"acme-{uuid4().hex[:8]}"
    begin = ("setup", organization, "--admin", "aiko", "--display-name", "株式会社アクメ", "--server", shell.server)
    assert "setup key" in shell.refused(*begin, code="no_setup_key", exit_code=2)
    shell.refused(*begin, "--setup-key", "wrong", code="unauthenticated")
    shown = shell.ok(*begin, RINGI_SETUP_KEY=SETUP_KEY)
    saved = json.loads((tmp_path / "config.json").read_text())["profiles"]["default"]
    assert saved["token"].startswith("hf_rgi")
    assert saved["token"] in shown
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == 0o600
    shell.refused(*begin, "--setup-key", SETUP_KEY, code="profile_exists", exit_code=2)

    assert shell.json("projects", "create", "risk", "--display-name", "与信審査")["display_name"] == "与信審査"
    shell.refused("projects", "create", "risk", code="name_taken")
    shell.ok("users", "create", "kenji", "--display-name", "健二")
    assert shell.json("roles", "grant", "kenji", "reviewer", "--project", "risk")["role"] == "reviewer"
    token = shell.ok("tokens", "issue", "kenji", "--days", "7", "--save-as", "kenji").strip()
    me = shell.json("--profile", "kenji", "whoami")
    assert (me["name"], me["organization"], list(me["projects"])) == ("kenji", organization, ["risk"])
    assert shell.json("whoami", RINGI_TOKEN=token)["name"] == "kenji"
    done = shell.process("login", "--server", shell.server, "--profile", "again", "--token", "-", stdin=token + "\n")
    assert (done.returncode, "kenji" in done.stdout) == (0, True)
    issued = next(one for one in shell.json("tokens", "list") if one["user"] == "kenji")
    shell.ok("tokens", "revoke", issued["id"])
    shell.refused("whoami", "--profile", "kenji", code="unauthenticated")


def test_a_dataset_is_added_followed_and_shown_and_equal_bytes_add_nothing(shell: Shell, tmp_path: Path) -> None:
    rows = make_tiny_rows(tmp_path / "質問.jsonl", 60)
    shell.ok("datasets", "create", "support/faq", "--description", "問い合わせ", "--profile", "contributor")
    done = shell.run("datasets", "add", "support/faq", str(rows), "--profile", "contributor")
    assert done.returncode == 0, done.stderr
    assert "support/faq:v1" in done.stdout
    assert "duplicate rows" in done.stdout
    assert "validation of support/faq · succeeded" in done.stderr
    again = shell.run("datasets", "add", "support/faq", str(rows), "--profile", "contributor", "--json")
    assert json.loads(again.stdout)["reference"] == "support/faq:v1"
    assert "known already" in again.stderr
    assert [one["number"] for one in shell.json("datasets", "versions", "support/faq", "--profile", "viewer")] == [1]
    report = shell.json("datasets", "show", "support/faq:v1", "--profile", "viewer")["report"]
    assert report["rows"] == 60


def test_a_dataset_that_is_not_utf8_fails_with_the_jobs_own_code_and_exit_code_1(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b'{"prompt": "\xff\xfe", "completion": "x"}\n')
    shell.ok("datasets", "create", "support/bad", "--profile", "contributor")
    done = shell.run("datasets", "add", "support/bad", "bad.jsonl", "--profile", "contributor")
    assert done.returncode == 1
    assert "[dataset_not_utf8]" in done.stderr
    assert "next: " in done.stderr


def test_references_and_files_that_name_nothing_end_with_code_2_and_reach_no_server(shell: Shell) -> None:
    away = {"RINGI_SERVER": f"http://127.0.0.1:{free_port()}", "RINGI_TOKEN": "hf_rgiX"}
    assert "it names no version" in shell.refused("standing", "support/bot", code="bad_reference", exit_code=2, **away)
    shell.refused("datasets", "add", "support/faq", "nowhere.jsonl", code="usage", exit_code=2, **away)
    shell.refused("adapters", "register", "support/bot", "nowhere", code="nothing_to_send", exit_code=2, **away)
    shell.refused(
        "approvals",
        "vote",
        "support",
        str(uuid4()),
        "--approve",
        "--reject",
        "--reason",
        "because of both",
        code="usage",
        exit_code=2,
        **away,
    )
    shell.refused("whoami", "--profile", "stranger", code="no_such_profile", exit_code=2)
    shell.refused("whoami", code="no_token", exit_code=2)


def test_a_server_that_is_away_ends_with_code_3(shell: Shell) -> None:
    refusal = shell.refused(
        "whoami", code="server_unreachable", exit_code=3, RINGI_SERVER=f"http://127.0.0.1:{free_port()}", RINGI_TOKEN="hf_rgiX"
    )
    assert "next: Start it (ringi up)" in refusal


def test_a_refusal_with_json_is_one_json_object_on_stderr(shell: Shell) -> None:
    done = shell.run("adapters", "show", "support/nobody:v1", "--json", "--profile", "viewer")
    error = json.loads(done.stderr)
    assert (done.returncode, done.stdout, error["code"], error["status"]) == (1, "", "not_found", 404)
    assert error["request_id"]
    done = shell.run("channels", "create", "support", "production", "--profile", "viewer")
    assert (done.returncode, "[forbidden]" in done.stderr) == (1, True)


def test_channels_and_the_policy_are_shown_and_the_pull_variables_printed(shell: Shell, platform: Platform) -> None:
    assert shell.json("channels", "create", "support", "production", "--profile", "deployer")["environment"] == "production"
    assert "production" in shell.ok("channels", "list", "support", "--profile", "viewer")
    policy = shell.json("approvals", "policy", "support", "--profile", "viewer")
    assert policy["document"]["stages"][0]["seats"][0]["role"] == "reviewer"
    variables = shell.ok("pull-env", "production", "--profile", "deployer").splitlines()
    assert variables == [f"HF_ENDPOINT={platform.server}/hf/production", f"HF_TOKEN={platform.tokens['deployer']}"]


def test_the_log_is_exported_and_verified_with_no_server_in_reach(shell: Shell, tmp_path: Path) -> None:
    shell.ok("audit", "key", "--save", "audit.vkey", "--profile", "auditor")
    assert shell.json("audit", "events", "--action", "project.create", "--profile", "auditor")[0]["action"] == "project.create"
    assert "ringi" in shell.ok("audit", "checkpoint", "--profile", "auditor")
    shell.ok("audit", "export", "log.zip", "--profile", "auditor")
    assert not list(tmp_path.glob(".log.zip*"))
    away = {"RINGI_SERVER": f"http://127.0.0.1:{free_port()}"}
    assert "VERIFIED: every byte" in shell.ok("audit", "verify", "log.zip", "--key", "audit.vkey", **away)
    whole = bytearray((tmp_path / "log.zip").read_bytes())
    where = whole.index(b'"action":"project.create"')
    whole[where + 10 : where + 11] = b"P"
    (tmp_path / "forged.zip").write_bytes(whole)
    done = shell.run("audit", "verify", "forged.zip", "--key", "audit.vkey", **away)
    assert (done.returncode, "NOT VERIFIED" in done.stdout) == (1, True)
    report = json.loads(shell.run("audit", "verify", "forged.zip", "--key", "audit.vkey", "--json", **away).stdout)
    assert report["ok"] is False
    assert report["problems"]


def test_an_entry_is_proven_and_a_sample_drawn_again_with_no_server_in_reach(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_auditor = ("--profile", "auditor")
    shell.ok("audit", "key", "--save", "audit.vkey", *as_auditor)
    (tmp_path / "trust").write_text(f"log {(tmp_path / 'audit.vkey').read_text()}quorum none\n")

    def sealed() -> list[dict[str, Any]]:
        asked = ("--action", "user.create", "--outcome", "ok", "--object-type", "user", "--from", "2020-01-01", "--to", "2100-01-01")
        found: list[dict[str, Any]] = shell.json("audit", "events", *asked, *as_auditor)
        size = int(shell.ok("audit", "checkpoint", *as_auditor).split("\n")[1])
        return found if found and all(entry["index"] is not None and entry["index"] < size for entry in found) else []

    entries = until(sealed)
    assert shell.json("audit", "events", "--outcome", "denied", "--action", "user.create", *as_auditor) == []
    shell.ok("audit", "proof", entries[0]["event_id"], "--save", "one.tlog-proof", *as_auditor)
    assert ringi_verify.main(["--proof", str(tmp_path / "one.tlog-proof"), "--trust", str(tmp_path / "trust")]) == 0
    assert f"entry {entries[0]['index']} of" in capsys.readouterr().out
    drawn = shell.json("audit", "sample", "--action", "user.create", "--size", "2", "--seed", "7", *as_auditor)
    assert (drawn["population"] >= len(entries), len(drawn["entries"]), drawn["seed"]) == (True, 2, "7")
    assert "population" in shell.ok("audit", "sample", "--size", "3", *as_auditor)
    assert shell.json("audit", "consistency", "1", "2", *as_auditor)["new"] == 2
    shell.ok("audit", "export", "log.zip", *as_auditor)
    away = {"RINGI_SERVER": f"http://127.0.0.1:{free_port()}"}
    assert "VERIFIED: every byte" in shell.ok("audit", "verify", "log.zip", "--trust", "trust", **away)
    for wrong in ((), ("--trust", "trust", "--key", "audit.vkey"), ("--trust", "log.zip"), ("--key", "no+such+key")):
        assert shell.run("audit", "verify", "log.zip", *wrong, **away).returncode == 2, wrong


def test_an_export_that_is_refused_leaves_the_old_file_alone(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "log.zip").write_bytes(b"old")
    shell.refused("audit", "export", "log.zip", code="forbidden", RINGI_PROFILE="viewer")
    assert (tmp_path / "log.zip").read_bytes() == b"old"
    assert not list(tmp_path.glob(".log.zip*"))


def test_japanese_goes_in_and_comes_out_in_a_c_locale(shell: Shell) -> None:
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    made = shell.process("projects", "create", "plain", "--display-name", "日本語の名前", "--profile", "admin", **plain)
    assert (made.returncode, "日本語の名前" in made.stdout) == (0, True), made.stderr
    assert "日本語の名前" in shell.ok("projects", "list", "--profile", "admin")


def test_the_walk_from_a_folder_to_a_rollback_is_done_by_commands_alone(shell: Shell, sources: Sources) -> None:
    as_contributor, as_reviewer, as_deployer = (("--profile", user) for user in ("contributor", "reviewer", "deployer"))
    shell.ok("bases", "create", "tiny", "--profile", "admin")
    assert "tiny:r1" in shell.ok("bases", "register", "tiny", str(sources.base), "--note", "最初の版", "--profile", "admin")
    assert "最初の版" in shell.ok("bases", "revisions", "tiny", *as_contributor)
    assert "bfp1" not in shell.ok("bases", "show", "tiny", *as_contributor)
    shell.ok("datasets", "create", "support/faq", *as_contributor)
    shell.ok("datasets", "add", "support/faq", str(sources.rows), *as_contributor)
    shell.ok("adapters", "create", "support/bot", "--base", "tiny", *as_contributor)
    train = ("train", "support/bot", "--dataset", "faq", "--rank", "8", "--max-steps", "60", "--batch-size", "8", "--learning-rate", "0.01")
    run = shell.json(*train, "--max-length", "128", *as_contributor)
    assert (run["version"], run["state"], run["spec"]["alpha"]) == ("support/bot:v1", "succeeded", 16.0)
    done = shell.run(*train, "--max-length", "128", "--seed", "1", *as_contributor)
    assert ("support/bot:v2" in done.stdout, "training support/bot · succeeded" in done.stderr) == (True, True), done.stderr
    shell.ok(*train, "--start-from", "v1", "--stacked", "--rank-of", "q_proj=4", "--quantisation", "nf4", "--check", *as_contributor)
    assert "support/bot:v2" in shell.ok("runs", "list", "support/bot", *as_contributor)
    assert "rank 8, alpha 16" in shell.ok("runs", "show", "support/bot", run["id"], *as_contributor)
    assert "logits change by" in shell.ok("adapters", "show", "support/bot:v1", *as_contributor)
    assert "support/bot:v1" in shell.ok("adapters", "versions", "support/bot", *as_contributor)
    assert "sha256:" in shell.ok("adapters", "manifest", "support/bot:v1", *as_contributor)

    refusal = shell.refused("approvals", "request", "support/bot:v1", code="approval_evidence_missing", RINGI_PROFILE="contributor")
    assert "  - Needed is an evaluation" in refusal
    requests = []
    for version in ("v1", "v2"):
        verdict = shell.json("evaluate", f"support/bot:{version}", "--dataset", "faq", "--max-new-tokens", "8", *as_contributor)
        assert verdict["summary"]["verdict"] == "better"
        request = shell.json("approvals", "request", f"support/bot:{version}", "--note", "検証済み", *as_contributor)
        requests.append(request["id"])
    assert "better" in shell.ok("evaluations", "list", "support/bot:v1", *as_reviewer)
    assert "lies above zero" in shell.ok("evaluations", "show", "support/bot:v2", verdict["id"], *as_reviewer)
    assert len(shell.json("evaluations", "records", "support/bot:v2", verdict["id"], "--limit", "5", *as_reviewer)) == 5
    by_loss = shell.json(
        "evaluations", "records", "support/bot:v2", verdict["id"], "--filter", "candidate.nll", "--sort", "-candidate.nll", *as_reviewer
    )
    assert len(by_loss) > 1
    assert by_loss == sorted(by_loss, key=lambda one: -one["candidate"]["nll"])
    assert "baseline nll" in shell.ok("evaluations", "records", "support/bot:v2", verdict["id"], "--limit", "5", *as_reviewer)

    shell.ok("channels", "create", "support", "production", *as_deployer)
    release = ("release", "--channel", "production", "--reason", "最初の公開です。よろしく")
    reasons = shell.refused(release[0], "support/bot:v1", *release[1:], *as_deployer, code="release_refused")
    assert "[release_gate_approved]" in reasons
    assert "検証済み" in shell.ok("approvals", "show", "support", requests[0], *as_reviewer)
    for request in requests:
        done = shell.run("approvals", "vote", "support", request, "--approve", "--reason", "改善が十分に示されている", *as_reviewer)
        assert (done.returncode, "approved" in done.stdout, "manifest" in done.stderr) == (0, True, True), done.stderr
    assert "approved" in shell.ok("approvals", "list", "support", *as_reviewer)
    # Asked for at once: the release waits until the signed log covers the grant.
    for version in ("v1", "v2"):
        assert f"support/bot:{version}" in shell.ok(release[0], f"support/bot:{version}", *release[1:], *as_deployer)
    back = shell.json("rollback", "support/bot", "--channel", "production", "--reason", "苦情が増えたため元に戻す", *as_deployer)
    assert (back["version"], back["previous"], back["action"]) == ("support/bot:v1", "support/bot:v2", "roll_back")
    assert "苦情が増えたため" in shell.ok("releases", "list", "support/bot", "--channel", "production", *as_deployer)
    assert "support/bot:v1" in shell.ok("channels", "show", "support", "production", *as_deployer)
    assert "✓" in shell.ok("standing", "support/bot:production", *as_deployer)
    assert shell.ok("compat", "show", "support/bot", *as_reviewer).strip() == "nothing yet"
    assert "deprecated" in shell.ok("deprecate", "support/bot:v2", "--reason", "v1 is preferred by users", *as_deployer)
    assert "release.roll_back" in shell.ok("audit", "trail", "support/bot", *as_reviewer)
    assert "train" in shell.ok("jobs", "list", *as_contributor)


def test_a_person_is_erased_once_it_was_said_twice(shell: Shell) -> None:
    shell.ok("users", "create", "sora", "--display-name", "空", "--profile", "admin")
    asked = shell.process("users", "erase", "sora", "--reason", "退職者からの削除の請求", "--profile", "admin", stdin="n\n")
    assert asked.returncode != 0
    assert "There is no way back" in asked.stderr
    assert shell.json("users", "list", "--filter", "name=sora", "--profile", "admin")[0]["display_name"] == "空"
    erased = shell.json("users", "erase", "sora", "--reason", "退職者からの削除の請求", "--yes", "--profile", "admin")
    assert (erased["name"].startswith("erased-"), erased["display_name"], erased["erased_at"] is None) == (True, "", False)
    assert shell.json("users", "list", "--filter", "name=sora", "--profile", "admin") == []
