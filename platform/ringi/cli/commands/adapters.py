"""Adapters, their versions, and the moves of a version's state."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table

from ringi.adapters.schemas import VersionKind, VersionOut, VersionState
from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.follow import follow, uploading
from ringi.cli.invocation import Commands, connect, in_project, invocation
from ringi.cli.options import AdapterName, AdapterOrProject, AsOf, Description, Detach, IfMatch, Limit, Reason, Version
from ringi.cli.output import emit, emit_list, facts, marks, note, short, table
from ringi.cli.references import LATEST, as_of, check_name, parse_adapter, parse_base, parse_version
from ringi.origins.schemas import OriginOut

app = Commands("Adapters and their sealed versions.")
verbs = Commands()
KINDS = {VersionKind.ADAPTER: "adapter", VersionKind.FULL_WEIGHTS: "FULL WEIGHTS, no adapter"}

_SHOWN_CLASSES = 20


@app.verb("create", "ringi adapters create risk/answers --base smollm2 --description 回答アダプター")
def create(
    name: AdapterName,
    base: Annotated[str, typer.Option(help="The base model it is made for.")],
    description: Description = "",
) -> None:
    """Create an adapter without versions."""
    wanted = parse_adapter(name)
    with connect() as client:
        made = client.adapters.create(wanted.project, wanted.name, base=parse_base(base), description=description)
    emit(made, lambda: facts([("adapter", made.reference), ("base", made.base), ("description", made.description), ("id", made.id)]))


@app.verb(
    "list",
    "ringi adapters list risk",
    "ringi adapters list risk --search 応答 --sort name",
    "ringi adapters list risk --filter tags.team=risk --filter 'versions.metrics.improvement>0.1'",
)
def list_adapters(project: str, asked: Asked, limit: Limit = 50) -> None:
    """List the adapters of a project."""
    with connect() as client:
        emit_list(
            client.adapters.all(project, **asked), limit=limit,
            render=lambda found: table(
                ["adapter", "base", "description", "tags", "created"],
                [(one.reference, one.base, one.description, marks(one.tags), one.created_at) for one in found],
            ),
        )  # fmt: skip


@app.verb(
    "versions",
    "ringi adapters versions risk/answers",
    "ringi adapters versions risk --filter state=sealed --filter 'metrics.improvement>0.1' --sort -metrics.improvement",
)
def versions(name: AdapterOrProject, asked: Asked, limit: Limit = 50) -> None:
    """List the versions of an adapter, or of all adapters of a project."""
    columns = ["version", "kind", "state", "source", "base", "rank", "manifest", "commit", "tags", "created"]
    with connect() as client:
        if "/" in name:
            wanted = parse_adapter(name)
            listed = client.adapters.versions(wanted.project, wanted.name, **asked)
        else:
            listed = client.adapters.all_versions(check_name(name, what="project"), **asked)
        emit_list(
            listed, limit=limit,
            render=lambda found: table(columns, [
                (one.reference, KINDS[one.kind], one.state, one.source, f"{one.base}:r{one.base_revision}", one.facts.rank, short(one.manifest_digest), one.commit,
                 marks(one.tags), one.created_at) for one in found
            ]),
        )  # fmt: skip


@app.verb(
    "show",
    "ringi adapters show risk/answers:v3",
    "ringi adapters show risk/answers:production@2026-11-01T00:00Z",
    "ringi adapters show risk/answers:production --as-of 2026-11-01",
)
def show(
    reference: Annotated[str, typer.Argument(metavar="REF", help="A version; the latest without a selector.", callback=in_project)],
    at: AsOf = None,
) -> None:
    """Show a version: its manifest digest, what its files say, and its measured effect."""
    wanted = as_of(parse_version(reference, default=LATEST), at)
    with connect() as client:
        version = client.adapters.version(wanted.project, wanted.name, wanted.selector or "latest")
        origins = [] if invocation.as_data else list(client.origins.of_version(wanted.project, wanted.name, f"v{version.number}"))
    emit(version, lambda: drawn(version, origins))


@app.verb("origins", "ringi adapters origins risk/answers:v3", "ringi adapters origins risk/answers:v3 --json")
def origins(reference: Version, asked: AskedInOrder, limit: Limit = 50) -> None:
    """Show where an imported version came from: its name, run, tags, metrics and aliases in the other system."""
    wanted = parse_version(reference)
    with connect() as client:
        emit_list(
            client.origins.of_version(wanted.project, wanted.name, wanted.selector or "", **asked), limit=limit,
            render=lambda found: Group(*(facts(origin_facts(one), title=f"{one.system} {one.name} {one.version}") for one in found)),
        )  # fmt: skip


def origin_facts(origin: OriginOut) -> list[tuple[str, object]]:
    """An origin, a line a fact."""
    told = origin.facts
    return [
        ("version here", origin.reference),
        ("source", origin.source),
        ("run", origin.run_url or origin.run_id),
        ("base there", f"{told.base or '-'} at {told.base_revision or '-'}"),
        ("description", told.description),
        ("aliases", told.aliases),
        *((f"tag {key}", value) for key, value in told.tags.items()),
        *((f"model tag {key}", value) for key, value in told.model_tags.items()),
        *((f"run tag {key}", value) for key, value in told.run_tags.items()),
        *((f"metric {key}", value) for key, value in told.metrics.items()),
        *((f"parameter {key}", value) for key, value in told.parameters.items()),
        *((f"file {file.path}", f"{file.size:,} bytes  {file.digest}") for file in told.files),
        ("imported", origin.imported_at),
        ("digest", origin.digest),
    ]


@app.verb("manifest", "ringi adapters manifest risk/answers:v3 --json")
def manifest(reference: Version) -> None:
    """Show the canonical manifest that a version's digest names."""
    wanted = parse_version(reference)
    with connect() as client:
        found = client.adapters.manifest(wanted.project, wanted.name, wanted.selector or "")
    emit(found, lambda: facts([("digest", found.manifest_digest), *((key, str(value)) for key, value in found.manifest.items())]))


@app.verb(
    "register",
    "ringi adapters register risk/answers ./my-peft-folder",
    "ringi adapters register risk/answers ./peft --base-revision r1 --detach",
)
def register(
    name: AdapterName,
    folder: Annotated[Path, typer.Argument(help="A PEFT folder: adapter_config.json and adapter_model.safetensors.")],
    base_revision: Annotated[str, typer.Option(help="The revision of its base that it was trained on.")] = "latest",
    detach: Detach = False,
) -> None:
    """Upload an adapter trained elsewhere; it is inspected, its effect measured, and sealed or refused with the reasons."""
    wanted = parse_adapter(name)
    with connect() as client:
        with uploading(f"sending {folder.name}") as on_bytes:
            accepted = client.adapters.register(wanted.project, wanted.name, folder, base_revision=base_revision, on_bytes=on_bytes)
        if detach:
            emit(accepted, lambda: facts([("job", accepted.job_id)]))
            note(f"Follow it: ringi jobs wait {accepted.job_id}.")
            return
        job = follow(client, accepted.job_id, f"inspection of {wanted}")
        sealed = parse_version(job.produced or "")
        version = client.adapters.version(sealed.project, sealed.name, sealed.selector or LATEST)
    emit(version, lambda: drawn(version))


def _advance(reference: str, to: VersionState, reason: str, if_match: str | None) -> None:
    wanted = parse_version(reference)
    with connect() as client:
        version = client.adapters.advance(wanted.project, wanted.name, wanted.selector or "", to=to, reason=reason, if_match=if_match)
    emit(version, lambda: facts([("version", version.reference), ("state", version.state), ("reason", version.state_reason)]))


@verbs.verb("deprecate", "ringi deprecate risk/answers:v1 --reason 'v2 answers better'")
def deprecate(reference: Version, reason: Reason, if_match: IfMatch = None) -> None:
    """Warn whoever uses a version; it goes on serving."""
    _advance(reference, VersionState.DEPRECATED, reason, if_match)


@verbs.verb(
    "retire",
    "ringi retire risk/answers:v1 --reason 'nobody uses it any more'",
    "ringi retire risk/answers:v1 --reason 利用を終了するため --if-match 2",
)
def retire(reference: Version, reason: Reason, if_match: IfMatch = None) -> None:
    """End a version's service in good order."""
    _advance(reference, VersionState.RETIRED, reason, if_match)


@verbs.verb("revoke", "ringi revoke risk/answers:v1 --reason 不適切な回答が確認されたため")
def revoke(reference: Version, reason: Reason, if_match: IfMatch = None) -> None:
    """Stop a version at once and for ever; nobody can pull it from then on."""
    _advance(reference, VersionState.REVOKED, reason, if_match)


def drawn(version: VersionOut, origins: Sequence[OriginOut] = ()) -> Table:
    """A version as a person reads it."""
    known, effect = version.facts, version.effect
    measured = f"logits change by {effect.change:.4g}" if effect.change is not None else "change of the logits not measured"
    # Not every method has them.
    sizes = [f"{name} {size:g}" for name, size in (("rank", known.rank), ("alpha", known.alpha)) if size is not None]
    noise = f"noise {effect.noise:.3g}" if effect.noise is not None else "noise not measured"
    return facts(
        [
            ("version", version.reference),
            ("kind", KINDS[version.kind]),
            ("state", f"{version.state}: {version.state_reason}" if version.state_reason else version.state),
            ("source", version.source),
            ("manifest", version.manifest_digest),
            ("commit", version.commit),
            ("base", f"{version.base}:r{version.base_revision}"),
            ("method", ", ".join([known.peft_type, *sizes, f"{known.parameters:,} parameters"])),
            ("modules", f"{', '.join(known.target_modules)} ({len(known.adapted_modules)} adapted)" if known.target_modules else None),
            *([("classes", _classes(known.labels))] if known.labels else []),
            ("effect", f"{measured}, {noise}, on {effect.prompts} prompts"),
            *((f"file {file.path}", f"{file.size:,} bytes  {file.digest}") for file in version.files),
            ("tags", marks(version.tags)),
            *(("origin", f"{one.system} {one.name} {one.version}  {one.run_url or one.source}") for one in origins),
            ("created", version.created_at),
        ]
    )


def _classes(labels: Sequence[str]) -> str:
    shown = ", ".join(f"{place} {label}" for place, label in enumerate(labels[:_SHOWN_CLASSES]))
    return f"{len(labels)}: {shown}" + (" …" if len(labels) > _SHOWN_CLASSES else "")
