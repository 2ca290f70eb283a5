"""The catalogue: documented, named in one way, and every event of it is really told somewhere."""

import ast
import inspect
import pkgutil
import re

import pytest

from architecture.event_catalogue import COMMAND, KEPT, ROOT, catalogue
from ringi.audit.schemas import AuditAction
from ringi.events import catalogue as catalogue_pages
from ringi.events.catalogue.data import EventData
from ringi.events.catalogue.names import CATALOGUE, PAGES

each = pytest.mark.parametrize("event", CATALOGUE.values(), ids=CATALOGUE)
# What the audit log records and no event tells: identities and uploads lie below events, the log's own life and erased texts are of no project,
# reading changes nothing, and the rest has its event under another name, or is the subscription's own administration.
NOT_TOLD = {
    "organization", "project", "user", "membership", "token", "session", "authentication", "upload", "hub", "access", "audit", "subscription", "quota", "tag", "storage", "blob", "worker",
    "log", "payload",
}  # fmt: skip
# Single actions without an event: who waits behind whom, a note beside a version, what is told once it is sealed or refused, and a look, whose
# sweep is told; what a project wants of its datasets and of new rows, and a question about them.
NOT_TOLD_ALONE = {
    AuditAction.JOB_PRIORITIZE, AuditAction.ADAPTER_VERSION_ORIGIN, AuditAction.DATASET_VERSION_ADD, AuditAction.ADAPTER_VERSION_REGISTER,
    AuditAction.MEASUREMENT_IMPORT, AuditAction.WATCH_LOOK, AuditAction.DATASET_POLICY_SET, AuditAction.DATASET_TRACE,
    AuditAction.RETRAINING_POLICY_SET,
}  # fmt: skip
TOLD_AS = {
    AuditAction.BASE_MODEL_CREATE: "base.created", AuditAction.BASE_MODEL_REVISION_REGISTER: "base.revision.registered",
    AuditAction.BASE_MODEL_REVISION_SEAL: "base.revision.sealed", AuditAction.BASE_MODEL_REVISION_REFUSE: "base.revision.refused",
    AuditAction.DATASET_CREATE: "dataset.created", AuditAction.DATASET_VERSION_SEAL: "dataset.version.sealed",
    AuditAction.ADAPTER_CREATE: "adapter.created", AuditAction.ADAPTER_VERSION_SEAL: "adapter.version.sealed",
    AuditAction.ADAPTER_VERSION_REFUSE: "adapter.version.refused", AuditAction.ADAPTER_VERSION_DEPRECATE: "adapter.version.deprecated",
    AuditAction.ADAPTER_VERSION_RETIRE: "adapter.version.retired", AuditAction.ADAPTER_VERSION_REVOKE: "adapter.version.revoked",
    AuditAction.TRAINING_RUN_START: "training.run.started", AuditAction.TRAINING_RUN_COMPLETE: "training.run.succeeded",
    AuditAction.TRAINING_RUN_FAIL: "training.run.failed", AuditAction.TRAINING_RUN_PAUSE: "training.run.paused",
    AuditAction.TRAINING_RUN_CONTINUE: "training.run.continued",
    AuditAction.SEARCH_REQUEST: "training.search.requested", AuditAction.SEARCH_COMPLETE: "training.search.completed",
    AuditAction.RETRAINING_PLAN: "training.retraining.planned", AuditAction.RETRAINING_END: "training.retraining.ended", AuditAction.EVALUATION_REQUEST: "evaluation.requested",
    AuditAction.EVALUATION_COMPLETE: "evaluation.completed", AuditAction.COMPATIBILITY_ASSESS: "compatibility.assessed",
    AuditAction.SUITE_CREATE: "suite.created", AuditAction.SUITE_VERSION_SEAL: "suite.version.sealed",
    AuditAction.SWEEP_REQUEST: "evaluation.sweep.requested", AuditAction.MEASUREMENT_COMPLETE: "evaluation.measurement.completed",
    AuditAction.MEASUREMENT_CANCEL: "evaluation.measurement.cancelled", AuditAction.MEASUREMENT_STOP: "evaluation.measurement.stopped",
    AuditAction.GATE_DECIDE: "evaluation.gate.decided",
    **dict.fromkeys((AuditAction.WATCH_CREATE, AuditAction.WATCH_CHANGE, AuditAction.WATCH_DELETE), "evaluation.watch.changed"),
    AuditAction.WATCH_TURN: "evaluation.watch.turned", AuditAction.WATCH_DRIFT: "evaluation.watch.drifted",
    AuditAction.WATCH_FAIL: "evaluation.watch.failed",
    AuditAction.POLICY_CREATE: "approval.policy.set", AuditAction.APPROVAL_REQUEST: "approval.requested", AuditAction.APPROVAL_VOTE: "approval.voted",
    AuditAction.APPROVAL_REFUSE: "approval.refused", AuditAction.APPROVAL_LAPSE: "approval.lapsed", AuditAction.APPROVAL_WITHDRAW: "approval.withdrawn", AuditAction.APPROVAL_GRANT: "approval.granted", AuditAction.CHANNEL_CREATE: "channel.created",
    AuditAction.RELEASE_PUBLISH: "release.published", AuditAction.RELEASE_ROLL_BACK: "release.rolled_back", AuditAction.RELEASE_REFUSE: "release.refused",
    AuditAction.JOB_CANCEL: "job.cancelled", AuditAction.JOB_FAIL: "job.failed",
}  # fmt: skip


def test_every_page_of_the_catalogue_is_in_it() -> None:
    pages = {page.name for page in pkgutil.iter_modules(catalogue_pages.__path__)} - {"data", "names"}
    assert {page.__name__.rpartition(".")[2] for page in PAGES} == pages


def test_the_page_is_current() -> None:
    assert KEPT.read_text(encoding="utf-8") == catalogue(), f"The catalogue changed. Run: {COMMAND}"


@each
def test_an_event_has_a_name_of_one_form_a_japanese_title_and_an_explanation(event: type[EventData]) -> None:
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+){1,2}", event.NAME)
    assert len(event.NAME) <= 64
    assert re.search(r"[\u3040-\u30ff]", event.TITLE)
    assert (inspect.getdoc(event) or "").endswith(".")
    assert event.model_config["extra"] == "forbid"
    assert event.model_json_schema()["additionalProperties"] is False


def test_every_event_is_told_by_the_platform() -> None:
    files = [path for path in (ROOT / "platform" / "ringi").rglob("*.py") if path.parent.name != "catalogue"]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert {event.__name__ for event in CATALOGUE.values()} - named == set()


def test_every_change_that_the_audit_log_knows_is_told_or_stands_here_with_a_reason() -> None:
    missing = [
        action for action in AuditAction if action not in TOLD_AS.keys() | NOT_TOLD_ALONE and action.value.partition(".")[0] not in NOT_TOLD
    ]
    assert missing == []
    assert set(TOLD_AS.values()) <= set(CATALOGUE)
