"""Base models and their revisions."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ringi.base_models.schemas import RevisionOut
from ringi.cli.asked import Asked
from ringi.cli.follow import follow, uploading
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import Description, Detach, Limit
from ringi.cli.output import emit, emit_list, facts, note, short, table
from ringi.cli.references import parse_base, parse_base_revision

app = Commands("Base models: what adapters are made for.")

Base = Annotated[str, typer.Argument(metavar="BASE", help="The base model's name.")]


@app.verb("create", "ringi bases create smollm2 --description 'SmolLM2-135M-Instruct'")
def create(name: Base, description: Description = "") -> None:
    """Create a base model without revisions."""
    with connect() as client:
        made = client.bases.create(parse_base(name), description=description)
    emit(made, lambda: facts([("base", made.name), ("repository", made.repository), ("description", made.description)]))


@app.verb("list", "ringi bases list")
def list_bases(asked: Asked, limit: Limit = 50) -> None:
    """List the base models of the organisation."""
    with connect() as client:
        emit_list(
            client.bases.all(**asked), limit=limit,
            render=lambda found: table(
                ["base", "repository", "description", "created"], [(one.name, one.repository, one.description, one.created_at) for one in found]
            ),
        )  # fmt: skip


@app.verb("show", "ringi bases show smollm2", "ringi bases show smollm2:r2")
def show(reference: Annotated[str, typer.Argument(metavar="BASE[:rN]", help="The base model, or one revision of it.")]) -> None:
    """Show a revision of a base model: its fingerprint, what its config says, its files."""
    base = parse_base_revision(reference)
    with connect() as client:
        revision = client.bases.revision(base.name, base.selector or "latest")
    emit(revision, lambda: _drawn(revision))


@app.verb("revisions", "ringi bases revisions smollm2")
def revisions(name: Base, asked: Asked, limit: Limit = 50) -> None:
    """List the revisions of a base model."""
    columns = ["revision", "state", "F1 config", "F2 weights", "commit", "files", "note", "created"]
    with connect() as client:
        emit_list(
            client.bases.revisions(parse_base(name), **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.reference, one.state, short(one.fingerprint.F1), short(one.fingerprint.F2), one.commit, len(one.files), one.note, one.created_at)
                for one in found
            ]),
        )  # fmt: skip


@app.verb("register", "ringi bases register smollm2 ./SmolLM2-135M-Instruct", "ringi bases register smollm2 ./new --note 重み更新 --detach")
def register(
    name: Base,
    folder: Annotated[Path, typer.Argument(help="A Hugging Face folder with config.json and safetensors weights.")],
    note_: Annotated[str, typer.Option("--note", help="What changed.")] = "",
    detach: Detach = False,
) -> None:
    """Upload a folder as the next revision, and wait until its fingerprint is computed. Equal bytes give the revision that exists."""
    with connect() as client:
        with uploading(f"sending {folder.name}") as on_bytes:
            revision = client.bases.register(parse_base(name), folder, note=note_, on_bytes=on_bytes)
        if not detach:
            follow(client, revision.job_id, f"fingerprint of {revision.reference}")
            revision = client.bases.revision(revision.reference.partition(":")[0], f"r{revision.number}")
    emit(revision, lambda: _drawn(revision))
    if detach:
        note(f"Follow it: ringi jobs wait {revision.job_id}.")


def _drawn(revision: RevisionOut) -> Table:
    known = revision.facts
    described: list[tuple[str, object]] = []
    if known is not None:
        described = [
            ("model", f"{known.model_type}, {known.parameters:,} parameters in {known.tensors} tensors ({', '.join(known.dtypes)})"),
            ("tokenizer", known.tokenizer_class),
            ("chat template", known.chat_template),
        ]
    return facts(
        [
            ("revision", revision.reference),
            ("state", revision.state),
            ("commit", revision.commit),
            ("digest", revision.digest),
            ("F1 config", revision.fingerprint.F1),
            ("F2 weights", revision.fingerprint.F2),
            ("not measured", revision.fingerprint.not_measured),
            *described,
            ("files", f"{len(revision.files)}, {sum(file.size for file in revision.files):,} bytes"),
            ("note", revision.note),
            ("job", revision.job_id),
        ]
    )
