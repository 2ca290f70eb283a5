"""After a restore that lost entries: the log ends, and another one follows it (docs/audit.md)."""

from pathlib import Path
from typing import Annotated

import typer

from ringi.audit.keys import KeyUnusable, read_signers
from ringi.audit.ringi_verify import Refused
from ringi.cli.commands.embedded import DEFAULT_DATA_DIR, DataDir
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.operating import operate
from ringi.cli.output import emit, facts, note, save_to
from ringi.embedded.folder import write_private
from ringi.succession.statement import LONGEST_REASON, approve, new_admin_key

_PROGRAM = "ringi.succession"
Statement = Annotated[Path, typer.Argument(metavar="STATEMENT", help="The statement's file.")]


def admin_key(file: Annotated[Path, typer.Argument(help="Where to keep the key; a new file.")]) -> None:
    """Make the key with which you, an administrator, approve that another log follows this one; give its line to auditors."""
    if file.exists():
        raise Usage(f"'{file}' exists already.", next_step="Name a new file.")
    with connect() as client:
        person = client.identity.whoami().id
    key = new_admin_key(person)
    write_private(file, key.export() + "\n")
    emit({"file": str(file), "trust": f"#admin {key.verifier}"}, lambda: f"#admin {key.verifier}")
    note("This is your line of trust files. Keep the file where nobody else reads it.")


def propose_origin(
    statement: Statement,
    reason: Annotated[str, typer.Option(help="What happened, without names of persons: it stands in the log for ever.")],
    origin: Annotated[str | None, typer.Option(help="The new log's name; the next number unless given.", show_default=False)] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", help="A newer checkpoint of a witness or an auditor.", show_default=False)
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Write what two administrators are to approve, on the machine that holds the log's key; nothing is changed yet."""
    if len(reason.strip()) > LONGEST_REASON:
        raise Usage(f"A reason has at most {LONGEST_REASON} characters.", next_step="Say it shorter.")
    asked = ["propose", str(statement), "--reason", reason, *(["--origin", origin] if origin else [])]
    asked += [word for path in checkpoint or [] for word in ("--checkpoint", str(path))]
    done = operate(data_dir, *asked, program=_PROGRAM)
    emit(done, lambda: facts(list(done.items())))
    note(f"Two administrators approve it: ringi audit approve-origin {statement} --key KEY --save FILE.")


def approve_origin(
    statement: Statement,
    key: Annotated[Path, typer.Option("--key", help="Your key, of ringi audit admin-key.")],
    save: Annotated[Path, typer.Option("--save", metavar="FILE", help="Where to write the approval.")],
) -> None:
    """Approve a statement with your key; needs no server. Read it first: what it says of the loss is what you sign."""
    try:
        text = statement.read_text(encoding="utf-8")
        signed = approve(text, read_signers(key, "Your key")[0])
    except KeyUnusable as error:
        raise Usage(error.message, next_step=f"{error.next_step} ringi audit admin-key makes one.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"A file cannot be read: {error}.", next_step="Check its path.") from error
    except Refused as error:
        raise Usage(error.message, next_step=error.next_step) from error
    save_to(save, signed)
    emit({"approval": str(save)}, lambda: text.rstrip("\n"))


def open_origin(
    statement: Statement,
    approval: Annotated[list[Path], typer.Option("--approve", metavar="FILE", help="An administrator's approval; two of them.")],
    trust: Annotated[Path, typer.Option(metavar="FILE", help="The auditors' trust file, with the administrators' lines.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """End this log and begin the one that follows it, as the owner of the tables, while the platform's processes are stopped."""
    words = [word for path in approval for word in ("--approve", str(path))]
    done = operate(data_dir, "open", str(statement), *words, "--trust", str(trust), program=_PROGRAM)
    emit(done, lambda: "\n".join(done["trust"]))
    note(f"Set RINGI_AUDIT_ORIGIN={done['origin']} for every process, give these lines to auditors and witnesses, and start the platform.")


def add_to(app: Commands) -> None:
    """As verbs of `ringi audit`."""
    app.verb("admin-key", "ringi audit admin-key ~/ringi-admin.key")(admin_key)
    app.verb(
        "propose-origin",
        "ringi audit propose-origin statement --reason 'disk lost, incident 2026-114'",
        "ringi audit propose-origin statement --reason 'disk lost' --checkpoint witness-checkpoint",
    )(propose_origin)
    app.verb("approve-origin", "ringi audit approve-origin statement --key ~/ringi-admin.key --save approval-kenji")(approve_origin)
    app.verb("open-origin", "ringi audit open-origin statement --approve approval-kenji --approve approval-yuki --trust trust")(open_origin)
