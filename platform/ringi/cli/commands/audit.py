"""The audit log: read it, export it, and verify an export without any server."""

import os
import secrets
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from ringi.audit.ringi_verify import Policy, Refused, parse_policy, report_document, trusted_vkey, verify_bundle
from ringi.audit.schemas import Outcome
from ringi.cli import audit_tables as drawn
from ringi.cli.asked import AskedInOrder
from ringi.cli.commands import audit_origin
from ringi.cli.commands.embedded import DEFAULT_DATA_DIR, DataDir
from ringi.cli.errors import REFUSED, Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.operating import operate
from ringi.cli.options import AdapterName, Limit
from ringi.cli.output import emit, emit_list, facts, note, save_to
from ringi.cli.references import parse_adapter
from ringi.embedded.folder import write_private

OnlyAction = Annotated[str | None, typer.Option("--action", help="Only this action, e.g. release.publish.", show_default=False)]
Since = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="At or after it: 2026-11-01, 2026-11-01T09:30Z.", show_default=False)
]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before it.", show_default=False)]

app = Commands("The audit log: who did what, when, on which digest.")


@app.verb("trail", "ringi audit trail risk/answers", "ringi audit trail risk/answers --limit 500 --json")
def trail(name: AdapterName, asked: AskedInOrder, limit: Limit = 200) -> None:
    """Show everything that happened to an adapter."""
    wanted = parse_adapter(name)
    with connect() as client:
        emit_list(client.audit.trail(wanted.project, wanted.name, **asked), limit=limit, render=drawn.entries)


@app.verb("events", "ringi audit events --limit 20", "ringi audit events --action approval.vote --user kenji")
def events(
    asked: AskedInOrder,
    object_id: Annotated[str | None, typer.Option("--object", help="Only on this object's id.", show_default=False)] = None,
    object_type: Annotated[str | None, typer.Option("--object-type", help="Only on this kind of thing.", show_default=False)] = None,
    action: OnlyAction = None,
    user: Annotated[str | None, typer.Option(help="Only by this user.", show_default=False)] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Only what ended so.", show_default=False)] = None,
    project: Annotated[str | None, typer.Option(help="Only in this project.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
) -> None:
    """Show entries of the organisation; needs the role auditor."""
    bounds = {"object_type=": object_type, "outcome=": outcome, "project=": project, "ts>=": since, "ts<": until}
    asked["filter"] = [*asked.get("filter", ()), *(f"{field}{value}" for field, value in bounds.items() if value is not None)]
    with connect() as client:
        emit_list(client.audit.events(object_id=object_id, action=action, user=user, **asked), limit=limit, render=drawn.entries)


@app.verb(
    "sample", "ringi audit sample --action approval.vote --from 2026-10-01 --to 2027-01-01", "ringi audit sample --size 5 --seed 7 --json"
)
def sample(
    action: OnlyAction = None,
    since: Since = None,
    until: Until = None,
    size: Annotated[int, typer.Option("--size", min=1, max=200, help="How many to draw.")] = 25,
    seed: Annotated[str | None, typer.Option(help="Of the draw; a random one unless given.", show_default=False)] = None,
) -> None:
    """Count a population of entries and draw a sample that an auditor can draw again; needs the role auditor."""
    with connect() as client:
        found = client.audit.sample(action=action, since=since, until=until, size=size, seed=seed)
    emit(found, lambda: drawn.sample(found))
    note(f"Draw it again from an export: ringi-verify FILE --trust TRUST {drawn.redraw(found)}.")


@app.verb(
    "as-of",
    "ringi audit as-of 2026-11-01T09:00Z --project risk",
    "ringi audit as-of 2026-11-01 --project risk --adapter answers --approved",
)
def as_of(
    time: Annotated[str, typer.Argument(metavar="TIME", help="When: 2026-11-01, 2026-11-01T09:30Z.")],
    project: Annotated[str, typer.Option(help="In which project.")],
    asked: AskedInOrder,
    adapter: Annotated[str | None, typer.Option(help="Only for this adapter.", show_default=False)] = None,
    channel: Annotated[str | None, typer.Option(help="Only on this channel.", show_default=False)] = None,
    approved: Annotated[bool, typer.Option("--approved", help="Every approval in force then, released or not.")] = False,
    limit: Limit = 50,
) -> None:
    """Show what was live at a time, by whose release and approval, on which evidence; needs the role auditor."""
    if approved and channel:
        raise Usage("An approval is for an environment, not for a channel.", next_step="Leave --channel out.")
    with connect() as client:
        if approved:
            emit_list(client.audit.approved_then(time, project, adapter=adapter, **asked), limit=limit, render=drawn.approved)
        else:
            emit_list(client.audit.live_then(time, project, adapter=adapter, channel=channel, **asked), limit=limit, render=drawn.live)
    note("Each sentence names its entry (--json: said.event_id); prove one with: ringi audit proof EVENT_ID.")


@app.verb("proof", "ringi audit proof 019f2b3c-0d4e-7f5a-8b6c-7d8e9f0a1b2c --save vote.tlog-proof")
def proof(
    event: Annotated[UUID, typer.Argument(metavar="EVENT_ID", help="An entry, as `ringi audit events --json` names it.")],
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the proof in a file.", show_default=False)] = None,
) -> None:
    """Get the proof that an entry is in the log (C2SP tlog-proof); ringi-verify --proof checks it offline."""
    with connect() as client:
        text = client.audit.proof(event)
    if save is not None:
        save_to(save, text)
    emit({"proof": text}, lambda: text.rstrip("\n"))


@app.verb("consistency", "ringi audit consistency 100 2000")
def consistency(
    old: Annotated[int, typer.Argument(min=0, metavar="OLD", help="The size of an older checkpoint.")],
    new: Annotated[int | None, typer.Argument(min=0, metavar="NEW", help="Of a newer one; the newest unless given.")] = None,
) -> None:
    """Get the proof that the log has only grown between two sizes (RFC 9162 section 2.1.4)."""
    with connect() as client:
        found = client.audit.consistency(old, new)
    emit(found, lambda: "\n".join([f"{found.old} -> {found.new}", *found.proof]))


@app.verb("key", "ringi audit key", "ringi audit key --save audit.vkey")
def key(save: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the key in a file.", show_default=False)] = None) -> None:
    """Show the log's verifier key. Pin it once, over another way than this server."""
    with connect() as client:
        found = client.audit.key()
    if save is not None:
        write_private(save, found.vkey + "\n")
    emit(found, lambda: found.vkey)
    if found.also:
        note(f"It is being replaced; this one still signs too: {', '.join(found.also)}.")


@app.verb("checkpoint", "ringi audit checkpoint")
def checkpoint() -> None:
    """Show the newest signed checkpoint (C2SP tlog-checkpoint)."""
    with connect() as client:
        text = client.audit.checkpoint()
    emit({"checkpoint": text}, lambda: text.rstrip("\n"))


@app.verb(
    "export",
    "ringi audit export ringi-audit.zip",
    "ringi audit export q4.zip --from 2026-10-01 --to 2027-01-01",
    "ringi audit export answers.zip --adapter risk/answers",
)
def export(
    file: Annotated[Path, typer.Argument(help="Where to write the bundle; an existing file is replaced.")],
    since: Since = None,
    until: Until = None,
    adapter: Annotated[str | None, typer.Option(metavar="PROJECT/NAME", help="Only what belongs to it.", show_default=False)] = None,
    origin: Annotated[
        str | None, typer.Option(help="Of a log that has ended; the one that grows unless given.", show_default=False)
    ] = None,
) -> None:
    """Export the organisation's entries and state rows, the hashes of all others and the checkpoint: one file that verifies offline."""
    wanted = parse_adapter(adapter) if adapter else None
    part = {"since": since, "until": until, "project": wanted and wanted.project, "adapter": wanted and wanted.name, "origin": origin}
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with connect() as client:
        try:
            with aside.open("xb") as out:
                size = client.audit.export(out, **part)
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
    "ringi audit verify new.zip --trust trust.policy --against old.zip",
)
def verify(
    file: Annotated[Path, typer.Argument(help="An exported bundle.")],
    key: Annotated[
        str | None, typer.Option("--key", metavar="VKEY", help="The trusted verifier key, or a file that holds it.", show_default=False)
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead: logs, witnesses and quorum (C2SP tlog-policy).", show_default=False)
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An older export or checkpoint that is trusted.", show_default=False)
    ] = None,
) -> None:
    """Check an export, with every server switched off; exit code 1 names each problem and its entry."""
    for bundle in filter(None, (file, against)):
        if not bundle.is_file():
            raise Usage(f"'{bundle}' is not a file.", next_step="Export one: ringi audit export FILE.")
    report = verify_bundle(file, _trusted(key, trust), against=against)
    emit(report_document(report), lambda: drawn.report(report))
    if not report.ok:
        raise typer.Exit(REFUSED)


@app.verb("rotate-key", "ringi audit rotate-key", "ringi audit rotate-key --finish", "ringi audit rotate-key --data-dir /srv/ringi")
def rotate_key(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    finish: Annotated[
        bool, typer.Option("--finish", help="Retire the older key, once the new one has signed and everybody knows it.")
    ] = False,
) -> None:
    """Replace the log's key, on the machine that holds it: first both sign, then the older one is retired."""
    done = operate(data_dir, "rotate-key", *(["--finish"] if finish else []))
    emit(done, lambda: "\n".join(done["trust"]))
    if finish:
        note("These are the log's lines of trust files from now on; checkpoints up to that size stay verifiable.")
    else:
        note("Both keys sign now. Give auditors and witnesses the second line, then: ringi audit rotate-key --finish.")


@app.verb("resume", "ringi audit resume --reason 'entries 40 to 52 are back, incident 2026-114'")
def resume(
    reason: Annotated[str, typer.Option(help="Why the log is believed again; it is kept.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """End the read-only mode as the owner of the tables; while its cause is there, the platform stops again at the next check."""
    done = operate(data_dir, "resume", "--reason", reason)
    emit(done, lambda: f"ended: {', '.join(done['ended'])}")
    note("If its cause is still there, the next comparison makes the platform read-only again.")


audit_origin.add_to(app)


def _trusted(key: str | None, trust: Path | None) -> Policy:
    if (key is None) == (trust is None):
        raise Usage("It must be said whom to trust.", next_step="Pass either --key VKEY or --trust FILE.")
    try:
        return Policy.of_log(trusted_vkey(key)) if key is not None else parse_policy((trust or Path()).read_bytes())
    except Refused as error:
        raise Usage(error.message, next_step=error.next_step) from error
    except OSError as error:
        raise Usage(f"The trust file cannot be read: {error}.", next_step="Check its path.") from error
