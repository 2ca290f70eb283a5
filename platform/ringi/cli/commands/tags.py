"""Tags: what people write on things, sealed or not."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, NamedTuple
from uuid import UUID

import typer

from ringi.cli.client import RingiClient
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.output import emit, table
from ringi.cli.references import (
    BadReference,
    check_name,
    parse_adapter,
    parse_base,
    parse_base_revision,
    parse_dataset,
    parse_dataset_version,
    parse_suite,
    parse_suite_version,
    parse_version,
)
from ringi.tags.schemas import Taggable, TagsOut

app = Commands("Tags of everything: key and value beside a thing, sealed or not.")


class Thing(StrEnum):
    """What can be tagged. A reference with a version means the version, one without means the whole."""

    PROJECT = "project"
    DATASET = "dataset"
    BASE = "base"
    ADAPTER = "adapter"
    RUN = "run"
    EVALUATION = "evaluation"
    SUITE = "suite"
    APPROVAL = "approval"
    CHANNEL = "channel"
    RELEASE = "release"
    JOB = "job"


class Found(NamedTuple):
    """A thing as the API names it."""

    kind: Taggable
    id: UUID


What = Annotated[Thing, typer.Argument(metavar="KIND", help=f"One of: {', '.join(Thing)}.")]
Which = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="project, project/dataset[:v1], project/suite[:v1], base[:r2], project/adapter[:v3], project/channel; the id of a run, evaluation, approval, release or job."
    ),
]  # fmt: skip
_BY_ID = {
    Thing.RUN: Taggable.TRAINING_RUN,
    Thing.EVALUATION: Taggable.EVALUATION,
    Thing.APPROVAL: Taggable.APPROVAL_REQUEST,
    Thing.RELEASE: Taggable.RELEASE,
    Thing.JOB: Taggable.JOB,
}


@app.verb("set", "ringi tags set adapter risk/answers:v3 team=risk 用途=応答", "ringi tags set project risk reviewed")
def set_tags(
    kind: What,
    reference: Which,
    tags: Annotated[list[str], typer.Argument(metavar="KEY[=VALUE]…", help="Tags; an equal key gets the new value.")],
) -> None:
    """Set tags of a thing."""
    with connect() as client:
        thing = _found(client, kind, reference)
        for tag in tags:
            key, _, value = tag.partition("=")
            client.tags.set(thing.kind, thing.id, key, value)
        _show(client.tags.of(thing.kind, thing.id))


@app.verb("remove", "ringi tags remove adapter risk/answers:v3 team")
def remove_tags(
    kind: What, reference: Which, keys: Annotated[list[str], typer.Argument(metavar="KEY…", help="Keys of the tags to take away.")]
) -> None:
    """Remove tags of a thing."""
    with connect() as client:
        thing = _found(client, kind, reference)
        for key in keys:
            client.tags.remove(thing.kind, thing.id, key)
        _show(client.tags.of(thing.kind, thing.id))


@app.verb("list", "ringi tags list adapter risk/answers", "ringi tags list job 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e --json")
def list_tags(kind: What, reference: Which) -> None:
    """List the tags of a thing."""
    with connect() as client:
        thing = _found(client, kind, reference)
        _show(client.tags.of(thing.kind, thing.id))


def _show(found: TagsOut) -> None:
    rows = [(one.key, one.value, one.set_at) for one in found.tags]
    emit(found, lambda: table(["key", "value", "set"], rows) if rows else "nothing yet")


def _found(client: RingiClient, kind: Thing, reference: str) -> Found:
    if kind in _BY_ID:
        try:
            return Found(_BY_ID[kind], UUID(reference))
        except ValueError:
            raise Usage(f"'{reference[:200]}' is not the id of a {kind}.", next_step=f"Find it: ringi {_LISTED[kind]}.") from None
    finders: dict[Thing, Callable[[RingiClient, str], Found]] = {
        Thing.PROJECT: _project, Thing.DATASET: _dataset, Thing.SUITE: _suite, Thing.BASE: _base, Thing.ADAPTER: _adapter, Thing.CHANNEL: _channel,
    }  # fmt: skip
    return finders[kind](client, reference)


_LISTED = {
    Thing.RUN: "runs list PROJECT", Thing.EVALUATION: "evaluations list PROJECT", Thing.APPROVAL: "approvals list PROJECT",
    Thing.RELEASE: "channels history PROJECT --json", Thing.JOB: "jobs list",
}  # fmt: skip


def _project(client: RingiClient, text: str) -> Found:
    return Found(Taggable.PROJECT, client.identity.project(check_name(text, what="project")).id)


def _dataset(client: RingiClient, text: str) -> Found:
    if _is_whole(text):
        whole = parse_dataset(text)
        return Found(Taggable.DATASET, client.datasets.get(whole.project, whole.name).id)
    version = parse_dataset_version(text)
    return Found(Taggable.DATASET_VERSION, client.datasets.version(version.project, version.name, version.selector or "").id)


def _suite(client: RingiClient, text: str) -> Found:
    if _is_whole(text):
        whole = parse_suite(text)
        return Found(Taggable.SUITE, client.suites.get(whole.project, whole.name).id)
    version = parse_suite_version(text)
    return Found(Taggable.SUITE_VERSION, client.suites.version(version.project, version.name, version.selector or "").id)


def _base(client: RingiClient, text: str) -> Found:
    if _is_whole(text):
        return Found(Taggable.BASE_MODEL, client.bases.get(parse_base(text)).id)
    revision = parse_base_revision(text)
    return Found(Taggable.BASE_REVISION, client.bases.revision(revision.name, revision.selector or "").id)


def _adapter(client: RingiClient, text: str) -> Found:
    if _is_whole(text):
        whole = parse_adapter(text)
        return Found(Taggable.ADAPTER, client.adapters.get(whole.project, whole.name).id)
    version = parse_version(text)
    return Found(Taggable.ADAPTER_VERSION, client.adapters.version(version.project, version.name, version.selector or "").id)


def _channel(client: RingiClient, text: str) -> Found:
    project, slash, name = text.partition("/")
    if not slash:
        raise BadReference(text, "the project is missing", example="risk/production")
    channel = client.releases.channel(check_name(project, what="project"), check_name(name, what="channel"))
    return Found(Taggable.CHANNEL, channel.id)


def _is_whole(text: str) -> bool:
    return ":" not in text and "@" not in text
