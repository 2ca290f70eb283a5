"""Which writes may name what they change: all that change something in place. The others only add, and are listed here by hand."""

from architecture.openapi_document import document
from ringi.api.app import API_PREFIX

# A new thing, or a new one beside others: there is no earlier reading that it could be made on.
ONLY_ADD = {
    "POST /audit/export",
    "POST /bases",
    "POST /bases/{base}/revisions",
    "POST /memberships",
    "POST /organizations",
    "POST /projects",
    "POST /projects/{project}/adapters",
    "POST /projects/{project}/adapters/{adapter}/runs",
    "POST /projects/{project}/adapters/{adapter}/runs/{run_id}/again",
    "POST /projects/{project}/adapters/{adapter}/runs/{run_id}/branch",
    # Looks, and changes nothing.
    "POST /projects/{project}/adapters/{adapter}/runs/check",
    "POST /projects/{project}/adapters/{adapter}/versions",
    "POST /projects/{project}/adapters/{adapter}/versions/{selector}/approvals",
    "POST /projects/{project}/adapters/{adapter}/versions/{selector}/evaluations",
    "POST /projects/{project}/adapters/{adapter}/versions/{selector}/origins",
    "POST /projects/{project}/channels",
    "POST /projects/{project}/datasets",
    "POST /projects/{project}/datasets/{dataset}/versions",
    # Asks, and changes nothing but the audit log; what is asked is personal and belongs into no address.
    "POST /projects/{project}/datasets/trace",
    "POST /projects/{project}/deliveries/{delivery_id}/replay",
    "POST /projects/{project}/gates",
    "POST /projects/{project}/gates/together",
    "POST /projects/{project}/measurements/imports",
    "POST /projects/{project}/searches",
    "POST /projects/{project}/suites",
    "POST /projects/{project}/suites/{suite}/canaries",
    "POST /projects/{project}/suites/{suite}/versions",
    "POST /projects/{project}/sweeps",
    "POST /projects/{project}/subscriptions",
    "POST /projects/{project}/subscriptions/{subscription}/replay",
    "POST /projects/{project}/subscriptions/{subscription}/test",
    "POST /projects/{project}/watches",
    "POST /projects/{project}/watches/{watch}/look",
    "POST /storage/collections",
    "POST /tokens",
    "POST /users",
    "POST /users/{user}/tokens",
    # Ends once and for ever, whatever was read of it before.
    "POST /projects/{project}/sweeps/{job_id}/children/{measurement_id}/cancel",
    "DELETE /sessions/{session_id}",
    # Bytes are named by their digest, and a part of an upload by where it begins (`Upload-Offset`, 409).
    "POST /uploads",
    "POST /uploads/sessions",
    "PATCH /uploads/sessions/{session_id}",
    "POST /uploads/sessions/{session_id}/finish",
    "DELETE /uploads/sessions/{session_id}",
}


def test_every_route_that_changes_something_in_place_takes_if_match() -> None:
    without = {
        f"{method.upper()} {path.removeprefix(API_PREFIX)}"
        for path, methods in document()["paths"].items()
        for method, entry in methods.items()
        if method in ("post", "put", "patch", "delete")
        and path.startswith(API_PREFIX)
        and "if-match" not in {parameter["name"].lower() for parameter in entry.get("parameters", []) if parameter["in"] == "header"}
    }
    assert without == ONLY_ADD
