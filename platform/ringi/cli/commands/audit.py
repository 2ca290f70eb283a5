"""The audit log: read it, export it, and verify an export without any server."""

import os
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ringi.api.audit_schemas import AuditEntryOut
from ringi.audit.findings import Problem, VerifyReport
from ringi.audit.verify import trusted_vkey, verify_bundle
from ringi.cli.asked import Asked
from ringi.cli.errors import REFUSED, Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import AdapterName, Limit
from ringi.cli.output import cell, emit, emit_list, facts, note, short, table
from ringi.cli.references import parse_adapter
from ringi.embedded.folder import write_private

app = Commands("The audit log: who did what, when, on which digest.")


@app.verb("trail", "ringi audit trail risk/answers", "ringi audit trail risk/answers --limit 500 --json")
def trail(name: AdapterName, asked: Asked, limit: Limit = 200) -> None:
    """Show everything that happened to an adapter."""
    wanted = parse_adapter(name)
    with connect() as client:
        emit_list(client.audit.trail(wanted.project, wanted.name, **asked), limit=limit, render=_entries)


@app.verb("events", "ringi audit events --limit 20", "ringi audit events --action approval.vote --user kenji")
def events(
    asked: Asked,
    object_id: Annotated[str | None, typer.Option("--object", help="Only on this object's id.", show_default=False)] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, e.g. release.publish.", show_default=False)] = None,
    user: Annotated[str | None, typer.Option(help="Only by this user.", show_default=False)] = None,
    limit: Limit = 50,
) -> None:
    """Show entries of the organisation; needs the role auditor."""
    with connect() as client:
        emit_list(client.audit.events(object_id=object_id, action=action, user=user, **asked), limit=limit, render=_entries)


@app.verb("key", "ringi audit key", "ringi audit key --save audit.vkey")
def key(save: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the key in a file.", show_default=False)] = None) -> None:
    """Show the log's verifier key. Pin it once, over another way than this server."""
    with connect() as client:
        found = client.audit.key()
    if save is not None:
        write_private(save, found.vkey + "\n")
    emit(found, lambda: found.vkey)


@app.verb("checkpoint", "ringi audit checkpoint")
def checkpoint() -> None:
    """Show the newest signed checkpoint (C2SP tlog-checkpoint)."""
    with connect() as client:
        text = client.audit.checkpoint()
    emit({"checkpoint": text}, lambda: text.rstrip("\n"))


@app.verb("export", "ringi audit export ringi-audit.zip")
def export(file: Annotated[Path, typer.Argument(help="Where to write the bundle; an existing file is replaced.")]) -> None:
    """Export the organisation's entries and state rows, the hashes of all others and the checkpoint: one file that verifies offline."""
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with connect() as client:
        try:
            with aside.open("xb") as out:
                size = client.audit.export(out)
                out.flush()
                os.fsync(out.fileno())
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
    emit({"file": str(file), "bytes": size}, lambda: facts([("file", file), ("bytes", f"{size:,}")]))
    note(f"Verify it, also without a server: ringi audit verify {file} --key KEY.")


@app.verb(
    "verify",
    "ringi audit verify ringi-audit.zip --key audit.vkey",
    "ringi audit verify new.zip --key ringi.local/audit/1+1a2b3c4d+AbCd… --against old.zip",
)
def verify(
    file: Annotated[Path, typer.Argument(help="An exported bundle.")],
    key: Annotated[str, typer.Option("--key", metavar="VKEY", help="The trusted verifier key, or a file that holds it.")],
    against: Annotated[Path | None, typer.Option(metavar="FILE", help="An older export that is trusted.", show_default=False)] = None,
) -> None:
    """Check an export, with every server switched off; exit code 1 names each problem and its entry."""
    for bundle in filter(None, (file, against)):
        if not bundle.is_file():
            raise Usage(f"'{bundle}' is not a file.", next_step="Export one: ringi audit export FILE.")
    report = verify_bundle(file, trusted_vkey(key), against=against)
    emit(asdict(report) | {"ok": report.ok}, lambda: _report(report))
    if not report.ok:
        raise typer.Exit(REFUSED)


def _entries(found: list[AuditEntryOut]) -> Table:
    rows = [
        (one.index, one.ts, one.actor, one.action, one.outcome, f"{one.object_type} {one.object_id}", short(one.digest),
         [f"{name}={cell(value)}" for name, value in (one.details or {}).items()]) for one in found
    ]  # fmt: skip
    return table(["entry", "at (UTC)", "who", "action", "outcome", "object", "digest", "details"], rows)


def _report(report: VerifyReport) -> Table:
    whole = Table.grid()
    verdict = "VERIFIED: every byte was checked" if report.ok else f"NOT VERIFIED: {report.problem_count} problems"
    pairs: list[tuple[str, object]] = [("result", verdict), ("log", report.origin), ("entries", report.size), ("root", report.root)]
    others = f"{report.withheld} entries, as belonging to other organisations or to none" if report.withheld else None
    pairs += [
        ("withheld", others),
        ("records", f"{report.records} agree with the log" if report.ok else report.records),
        ("changed since", report.unsealed),
    ]
    whole.add_row(facts([*pairs, ("not included", [f"{count} {kind}" for kind, count in report.not_included.items()])]))
    if report.problems:
        whole.add_row("")
        whole.add_row(table(["entry", "problem", "action", "object", "what"], [_problem(one) for one in report.problems]))
    return whole


def _problem(one: Problem) -> tuple[object, ...]:
    return (one.index, one.code, one.action, one.object, one.message)
