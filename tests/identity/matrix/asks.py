"""The rows of the table as requests. What is not said here: no body for a read, and a body that no route takes for a write."""

import re
from dataclasses import dataclass, field
from typing import Any

from identity.matrix.table import CALLERS, TABLE

# A version that nothing has: whoever passes is told so, with 412, and nothing is changed.
STALE = {"If-Match": '"999999"'}
# A place that was never given, so that no stream begins.
NO_PLACE = {"Last-Event-ID": "9000000000000000000"}
_ROW = re.compile(r"(?P<method>[A-Z]+) (?P<path>\S+)(?: \[(?P<variant>[^]]+)\])? +(?P<cells>[+134 ]+)")
_IN_PROJECT = "/api/v1/projects/{project}"


@dataclass(frozen=True)
class Ask:
    """What is sent, beside the method. `values` are put into the path in place of the world's; `below` is a file of a folder that is served."""

    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    form: bytes | None = None
    values: dict[str, str] = field(default_factory=dict)
    below: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table: the cell of every caller, by its name."""

    method: str
    path: str
    variant: str
    cells: dict[str, str]

    @property
    def route(self) -> str:
        """As the application names it."""
        return f"{self.method} {self.path}"

    @property
    def name(self) -> str:
        """Unique in the table."""
        return f"{self.route} [{self.variant}]" if self.variant else self.route

    def __str__(self) -> str:
        return self.name

    @property
    def ask(self) -> Ask:
        """What is sent."""
        return ASKS.get(self.name) or (Ask() if self.method in {"GET", "HEAD"} else Ask(json={"無い": 1}))


def _row(line: str) -> Row:
    found = _ROW.fullmatch(line)
    assert found, line
    cells = found["cells"].replace(" ", "")
    assert len(cells) == len(CALLERS), line
    return Row(found["method"], found["path"].replace("…", _IN_PROJECT, 1), found["variant"] or "", dict(zip(CALLERS, cells, strict=True)))


_NOTHING = Ask()
_STALE = Ask(headers=STALE)
_FILE = {"path": "config.json", "digest": "sha256:" + "0" * 64}
_HF = "/hf/{channel}/api/models/{namespace}/{name}"
_SUBSCRIPTION = _IN_PROJECT + "/subscriptions/{subscription}"

ASKS = {
    "GET /static-offline-docs": Ask(below="/swagger-ui.css"),
    "GET /api/v1/tokens/{token_id} [own]": Ask(values={"token_id": "own_token"}),
    "DELETE /api/v1/tokens/{token_id} [own]": Ask(headers=STALE, values={"token_id": "own_token"}),
    "PUT /api/v1/tokens/{token_id}/limits": Ask(headers=STALE, json={"requests_per_minute": 1}),
    # A scope that is none: refused after the user was found.
    "POST /api/v1/users/{user}/tokens": Ask(json={"scopes": ["nothing:such"]}),
    "PUT /api/v1/users/{user}/subject": Ask(headers=STALE, json={"subject": "248289761001"}),
    "POST /api/v1/users/{user}/disable": _STALE,
    "POST /api/v1/users/{user}/enable": _STALE,
    "POST /api/v1/users/{user}/erase": Ask(headers=STALE, json={"reason": "退職に伴う削除の請求"}),
    "GET /api/v1/audit/events/{event_id}/proof": Ask(values={"event_id": "audit_entry"}),
    # A role that is held already.
    "POST /api/v1/memberships": Ask(json={"user": "viewer", "role": "viewer", "project": "risk"}),
    "DELETE /api/v1/memberships/{membership_id}": _STALE,
    "POST /api/v1/uploads": Ask(headers={"X-Content-Digest": "none"}),
    "GET /api/v1/uploads/sessions/{session_id}": Ask(values={"session_id": "own_upload"}),
    # Uploads that are stored: nobody adds to them any more.
    "PATCH /api/v1/uploads/sessions/{session_id}": Ask(headers={"Upload-Offset": "0"}, values={"session_id": "own_upload"}),
    "POST /api/v1/uploads/sessions/{session_id}/finish": Ask(values={"session_id": "own_upload"}),
    "DELETE /api/v1/uploads/sessions/{session_id}": Ask(values={"session_id": "own_upload"}),
    "DELETE /api/v1/uploads/sessions/{session_id} [another's]": _NOTHING,
    "GET /api/v1/workers/{name}": Ask(values={"name": "worker"}),
    **{
        f"POST /api/v1/workers/{{name}}/{verb}": Ask(
            headers=STALE, json={"reason": "試験のためにこの作業者を止める"}, values={"name": "worker"}
        )
        for verb in ("cordon", "uncordon", "drain")
    },
    "GET /api/v1/jobs/events": Ask(headers=NO_PLACE),
    f"GET {_IN_PROJECT}/jobs/events": Ask(headers=NO_PLACE),
    f"GET {_IN_PROJECT}/adapters/{{adapter}}/runs/{{run_id}}/events": Ask(headers=NO_PLACE),
    # It has ended; it has no snapshot; its recipe is not whole.
    **{f"POST {_IN_PROJECT}/adapters/{{adapter}}/runs/{{run_id}}/{verb}": _NOTHING for verb in ("pause", "continue", "again")},
    f"POST {_IN_PROJECT}/adapters/{{adapter}}/runs/{{run_id}}/branch": Ask(json={}),
    # The job has ended.
    "POST /api/v1/jobs/{job_id}/cancel": _NOTHING,
    f"GET {_IN_PROJECT}/searches/{{job_id}}": Ask(values={"job_id": "search_id"}),
    f"GET {_IN_PROJECT}/sweeps/{{job_id}}": Ask(values={"job_id": "sweep_id"}),
    f"GET {_IN_PROJECT}/sweeps/{{job_id}}/events": Ask(headers=NO_PLACE, values={"job_id": "sweep_id"}),
    f"POST {_IN_PROJECT}/sweeps/{{job_id}}/cancel": Ask(values={"job_id": "sweep_id"}),
    f"POST {_IN_PROJECT}/sweeps/{{job_id}}/children/{{measurement_id}}/cancel": Ask(values={"job_id": "sweep_id"}),
    "POST /api/v1/jobs/{job_id}/priority": Ask(json={"priority": 1}),
    # Bytes that nobody sent.
    "POST /api/v1/bases/{base}/revisions": Ask(json={"files": [_FILE]}),
    "GET /api/v1/bases/{base}/revisions/{selector}": Ask(values={"selector": "r1"}),
    "GET /api/v1/bases/{base}/revisions/{selector}/compatibility": Ask(values={"selector": "r1"}),
    # Nobody has stored its config.
    "GET /api/v1/bases/{base}/revisions/{selector}/estimate": Ask(values={"selector": "r1"}),
    # Refused before the items, which nobody has stored.
    f"GET {_IN_PROJECT}/suites/{{suite}}/versions/{{selector}}/items": Ask(below="?task=faq&limit=0"),
    "PUT /api/v1/tags/{kind}/{object_id}/{key}": Ask(headers=STALE, json={"value": "金融"}),
    "PUT /api/v1/tags/{kind}/{object_id}/{key} [of a base]": Ask(
        headers=STALE, json={"value": "金融"}, values={"kind": "base_model", "object_id": "base_id"}
    ),
    "DELETE /api/v1/tags/{kind}/{object_id}/{key}": _STALE,
    "POST /api/v1/audit/export": _NOTHING,
    f"DELETE {_SUBSCRIPTION}": _STALE,
    f"POST {_SUBSCRIPTION}/enable": _STALE,
    f"POST {_SUBSCRIPTION}/disable": _STALE,
    f"DELETE {_IN_PROJECT}/watches/{{watch}}": _STALE,
    # A look is on its way.
    f"POST {_IN_PROJECT}/watches/{{watch}}/look": _NOTHING,
    # It is disabled.
    f"POST {_SUBSCRIPTION}/test": _NOTHING,
    f"POST {_IN_PROJECT}/deliveries/{{delivery_id}}/replay": _NOTHING,
    f"GET {_HF} [of a base]": Ask(values={"namespace": "bases", "name": "base"}),
    f"GET {_HF}/revision/{{rest:path}}": Ask(values={"rest:path": "main"}),
    f"GET {_HF}/tree/{{rest:path}}": Ask(values={"rest:path": "main"}),
    f"GET {_HF}/commits/{{rest:path}}": Ask(values={"rest:path": "main"}),
    f"POST {_HF}/paths-info/{{rest:path}}": Ask(form=b"paths=README.md", values={"rest:path": "main"}),
    # Beyond its end: 416 without a byte of it.
    "GET /hf/{channel}/{namespace}/{name}/resolve/{rest:path}": Ask(headers={"Range": "bytes=999999-"}),
}

ROWS = [_row(line) for line in TABLE.splitlines() if line and not line.startswith(" ")]
