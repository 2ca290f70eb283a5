"""What the rows of the state tables must be if the log is all that ever happened. Pure.

Every entry that ended well says something of some rows: that a row is there, and what some of its fields are. An entry that carries an
`after` says the digest of the row's whole record. The newest entry that speaks of a field wins.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ringi.monitor.log import Entry, Place

Key = tuple[str, str]
# Rows whose record has a digest in the log (`after`).
RECORDED = frozenset({
    "adapter_version", "adapter_version_origin", "approval_grant", "approval_policy", "approval_request", "approval_vote",
    "compatibility_assessment", "evaluation", "gate_decision", "measurement", "membership", "release", "token",
})  # fmt: skip
# Rows of which the log tells fields alone.
TOLD = frozenset({"organization", "project", "user", "channel", "channel_head", "base_revision"})
KINDS = RECORDED | TOLD


class Saying(NamedTuple):
    """What one entry says of one row."""

    kind: str
    id: str
    fields: dict[str, Any]


class Said(NamedTuple):
    """A value, and the entry that says so."""

    value: Any
    place: Place
    event_id: str
    action: str

    def __str__(self) -> str:
        return f"{self.place} ({self.action})"


@dataclass
class Row:
    """What the log says of a row."""

    fields: dict[str, Said] = field(default_factory=dict)
    record: Said | None = None
    organization: str | None = None
    last: Said | None = None


@dataclass
class Replay:
    """The states after the entries so far."""

    rows: dict[Key, Row] = field(default_factory=lambda: defaultdict(Row))

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take more entries, in any order: of two about one field the one with the greater place counts."""
        for place, event in entries:
            if event["outcome"] != "ok":
                continue
            for one in sayings(event):
                self._note(place, event, one.kind, one.id, one.fields)
            thing = event["object"]
            if event["after"] is not None and thing["type"] in RECORDED:
                self._note(place, event, thing["type"], thing["id"], {}, record=event["after"])

    def _note(
        self, place: Place, event: dict[str, Any], kind: str, name: str, fields: dict[str, Any], *, record: str | None = None
    ) -> None:
        row = self.rows[kind, name]

        def newer(value: Any, known: Said | None) -> Said:
            return Said(value, place, event["id"], event["action"]) if known is None or known.place <= place else known

        row.organization = event["organization"] or row.organization
        row.last = newer(None, row.last)
        for key, value in fields.items():
            row.fields[key] = newer(value, row.fields.get(key))
        if record is not None:
            row.record = newer(record, row.record)


_VERSION_STATES = {"adapter.version.deprecate": "deprecated", "adapter.version.retire": "retired", "adapter.version.revoke": "revoked"}
_USER_STATES = {"user.disable": {"disabled": True}, "user.enable": {"disabled": False}, "user.link": {"linked": True}}
_ENDED = {"membership.revoke": "membership", "token.revoke": "token"}


def sayings(event: dict[str, Any]) -> Iterator[Saying]:
    """What an entry says of which rows, beside the digest of its own object's record."""
    action, name, digest = event["action"], event["object"]["id"], event["object"]["digest"]
    told = defaultdict[str, Any](lambda: None, event["details"] or {})
    match action:
        case "organization.create" | "project.create":
            yield Saying(action.partition(".")[0], name, {})
        case "user.create":
            yield Saying("user", name, {"kind": told["kind"], "disabled": False, "linked": False, "erased": False})
        case "user.disable" | "user.enable" | "user.link":
            yield Saying("user", name, _USER_STATES[action])
        case "payload.erased" if event["object"]["type"] == "user":
            yield Saying("user", name, {"linked": False, "erased": True})
        case "membership.grant":
            fields = {"user": told["user"], "role": told["role"], "project": event["project"], "revoked": False}
            yield Saying("membership", name, fields)
        case "token.issue":
            yield Saying("token", name, {"user": told["user"], "revoked": False})
        case "token.limit":
            yield Saying("token", name, {"requests_per_minute": told["requests_per_minute"]})
        case "membership.revoke" | "token.revoke":
            yield Saying(_ENDED[action], name, {"revoked": True})
        case "base_model.revision.register":
            yield Saying("base_revision", name, {"digest": digest, "state": "pending"})
        case "base_model.revision.seal":
            yield Saying("base_revision", name, {"digest": digest, "state": "sealed", "F1": told["f1"], "F2": told["f2"]})
        case "base_model.revision.refuse":
            yield Saying("base_revision", name, {"state": "refused"})
        case "adapter.version.seal":
            yield Saying("adapter_version", name, {"state": "sealed", "manifest": digest, "files": digest})
        case "adapter.version.deprecate" | "adapter.version.retire" | "adapter.version.revoke":
            yield Saying("adapter_version", name, {"state": _VERSION_STATES[action]})
        case "evaluation.complete":
            yield Saying("evaluation", name, {"evidence_digest": digest, "verdict": told["verdict"]})
        case "evaluation.measurement.complete" | "evaluation.measurement.import":
            yield Saying("measurement", name, {"evidence_digest": digest})
        case "evaluation.gate.decide":
            yield Saying("gate_decision", name, {"digest": digest, "verdict": told["verdict"], "imported": told["imported"]})
        case "policy.create":
            yield Saying("approval_policy", name, {"digest": digest, "number": told["number"], "environment": told["environment"]})
        case _:
            yield from _of_approvals_and_releases(event, told)


def _of_approvals_and_releases(event: dict[str, Any], told: dict[str, Any]) -> Iterator[Saying]:
    name, digest = event["object"]["id"], event["object"]["digest"]
    match event["action"]:
        case "approval.request":
            fields = {
                "version": told["version"],
                "environment": told["environment"],
                "manifest_digest": digest,
                "policy_digest": event["policy"],
            }
            yield Saying("approval_request", name, {**fields, "evidence_digest": told["evidence"], "state": "in_review"})
        case "approval.withdraw":
            yield Saying("approval_request", name, {"state": "withdrawn"})
        case "approval.refuse" | "approval.lapse":
            yield Saying("approval_request", name, {"state": told["state"]})
        case "approval.vote":
            fields = {"request": told["request"], "voter": event["actor"]["id"], "role": told["role"], "decision": told["decision"]}
            yield Saying("approval_vote", name, {**fields, "stage": told["stage"], "manifest_digest": digest})
        case "approval.grant":
            fields = {"request": told["request"], "version": told["version"], "environment": told["environment"], "manifest_digest": digest}
            yield Saying("approval_grant", name, {**fields, "policy_digest": event["policy"]})
            yield Saying("approval_request", str(told["request"]), {"state": "approved"})
        case "channel.create":
            yield Saying("channel", name, {"name": told["name"], "environment": told["environment"]})
        case "release.publish" | "release.roll_back":
            yield Saying("release", name, {"version": told["version"], "sequence": told["sequence"]})
            head = f"{event['project']}/{told['channel']}/{told['adapter']}"
            yield Saying("channel_head", head, {"version": told["version"], "sequence": told["sequence"]})
        case _:
            return
