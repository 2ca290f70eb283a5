"""A suite's version from the training rows of a dataset: whether a model repeats them, or the secrets planted among them."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from ringi.datasets import service as datasets
from ringi.datasets.contents import Document, from_sealed
from ringi.jobs.contracts.suites import Item
from ringi.kit.actor import Actor
from ringi.kit.digests import Digest
from ringi.storage import blobs
from ringi.storage.blobs import UploadTooLarge
from ringi.suites import canaries, refusals, sealing, service
from ringi.suites.canaries import Canary, TrainingRow
from ringi.suites.mapping import rows_of
from ringi.suites.models import Suite, SuiteVersion
from ringi.suites.schemas import AddCanaries, AddSuiteVersion
from ringi.suites.sealing import Drafted

# Read through while the caller waits; little of it is kept.
LIMIT_BYTES = 1024 * 2**20


def add_version(session: Session, actor: Actor, *, suite: Suite, body: AddCanaries) -> tuple[SuiteVersion, bool]:
    """The version of this content, and whether it is new. Raises SuiteNoCanaries, UploadTooLarge, and what `service.add_version` raises."""
    name, _, selector = body.dataset.partition(":")
    dataset = datasets.find(session, actor, project=suite.project, name=name)
    version = datasets.find_version(session, actor, dataset=dataset, selector=selector or "latest")
    called = f"{name}:v{version.number}"
    secrets = _planted(called, version.train_digest, body) if body.planted else []
    drawn = _drawn(called, version.train_digest, body) if body.rows else []
    asked = AddSuiteVersion.model_validate(canaries.document(secrets, drawn, rivals=body.rivals))
    drafts = [Drafted(task, sealing.items_of(task.name, task.items or []), (), dataset=version.digest) for task in asked.tasks]
    # Training rows are shown to all who read the project from here on: whose they were and how many is kept, their texts are not.
    shown = {"dataset_digest": version.digest, "rows": len(drawn), "planted": len(secrets)}
    return service.seal_drafts(session, actor, suite=suite, drafts=drafts, wanted=asked.requirements, off_task=body.off_task, details=shown)


def _planted(called: str, rows: Digest, body: AddCanaries) -> list[Canary]:
    made = [one for language in dict.fromkeys(body.languages) for one in canaries.planted(body.planted, seed=body.seed, language=language)]
    found = list(canaries.found_among(made, _training_rows(called, rows)))
    if not found:
        raise refusals.SuiteNoCanaries(
            called, f"none of {len(made)} planted secrets stands there",
            next_step="Add what `ringi suites plant` writes to the upload, and name the number, seed and languages that it was told.",
        )  # fmt: skip
    return found


def _drawn(called: str, rows: Digest, body: AddCanaries) -> list[Item]:
    found = canaries.sampled_items(_training_rows(called, rows), count=body.rows, seed=body.seed, shortest=body.shortest)
    if not found:
        raise refusals.SuiteNoCanaries(
            called, f"no completion has {body.shortest} characters", next_step="Ask for shorter ones, or for planted secrets."
        )
    return found


def _training_rows(called: str, digest: Digest) -> Iterator[TrainingRow]:
    store = blobs.get_store()
    if store.look(digest).size > LIMIT_BYTES:
        raise UploadTooLarge(LIMIT_BYTES)
    for number, document in enumerate(rows_of(called, blobs.lines(store.open(digest))), start=1):
        row = from_sealed(document, number)
        # A document has no question that it could be asked by.
        if not isinstance(row.content, Document):
            yield TrainingRow(id=str(document["id"]), prompt=row.prompt, completion=row.answer)
