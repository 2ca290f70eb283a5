"""The fields of the lists of adapters and versions. They gather what every domain knows of a version, and so stand above them all.

A version's `metrics.*` and `verdict` are those of its newest completed evaluation on the base revision that it was trained on, which is
what an approval rests on. An adapter's `versions.*` are the fields of its versions: any of them may match.
"""

from typing import Any

from sqlalchemy import ColumnElement, Float, Select, cast, func, select

from ringi.adapters.lists import adapter_of
from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead
from ringi.adapters.schemas import VersionSource, VersionState
from ringi.base_models.lists import base_of
from ringi.base_models.models import BaseModel
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.evaluation.lists import METRICS
from ringi.evaluation.models import Evaluation
from ringi.evaluation.verdict import Verdict
from ringi.identity.lists import owner
from ringi.tags.lists import fill, tags_of
from ringi.training.models import TrainingRun
from ringi.web.listing import Field, Kind, Listing, column, flag, measured, of_any, through, word
from ringi.web.search import folded

# unscoped: the lists' own rows are scoped, and only what belongs to them is looked at.
_BASES, _LIVE, _VERSIONS = select(BaseModel.id), select(ChannelHead.version_id), select(AdapterVersion.adapter_id)
_TRAINED = (
    # unscoped: as above.
    select(TrainingRun.version_id)
    .join(DatasetVersion, DatasetVersion.id == TrainingRun.dataset_version_id)
    .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    .where(TrainingRun.version_id.is_not(None))
)


def _newest(query: Select[Any]) -> ColumnElement[Any]:
    evidence = query.where(
        Evaluation.version_id == AdapterVersion.id,
        Evaluation.base_revision_id == AdapterVersion.base_revision_id,
        Evaluation.evidence_digest.is_not(None),
    )
    return evidence.order_by(Evaluation.id.desc()).limit(1).correlate(AdapterVersion).scalar_subquery()


def _metric(name: str) -> Field:
    # unscoped: of the row's own evaluations.
    value = cast(_newest(select(func.jsonb_extract_path_text(Evaluation.summary, name))), Float(53))
    return Field(Kind.NUMBER, value, f"Its newest evaluation's {name}.", order=value)


def _verdict() -> Field:
    # unscoped: of the row's own evaluations.
    value = _newest(select(func.jsonb_extract_path_text(Evaluation.summary, "verdict")))
    return Field(Kind.CHOICE, value, "What its newest evaluation shows.", order=value, choices=tuple(verdict.value for verdict in Verdict))


def _run_metric(name: str, about: str) -> Field:
    # unscoped: of the run that sealed the row's version; equal bytes of several runs make one version, whose last run counts.
    query = select(func.jsonb_extract_path_text(TrainingRun.metrics, name)).where(TrainingRun.version_id == AdapterVersion.id)
    value = cast(query.order_by(TrainingRun.id.desc()).limit(1).correlate(AdapterVersion).scalar_subquery(), Float(53))
    return Field(Kind.NUMBER, value, about, order=value)


VERSIONS = Listing(
    "versions", key=AdapterVersion.id, families=tags_of(AdapterVersion.id), finish=fill,
    search=(
        # unscoped: the text of the row's own adapter.
        select(Adapter.search).where(Adapter.id == AdapterVersion.adapter_id).correlate(AdapterVersion).scalar_subquery(),
        folded(func.coalesce(AdapterVersion.state_reason, "")),
    ),
    fields={
        "adapter": adapter_of(AdapterVersion.adapter_id),
        "number": column(AdapterVersion.number, "The version's number."),
        "state": column(AdapterVersion.state, "What an operator decided about it.", choices=VersionState),
        "source": column(AdapterVersion.source, "Trained here, or registered.", choices=VersionSource),
        "manifest_digest": column(AdapterVersion.manifest_digest, "The digest of its manifest."),
        **base_of(AdapterVersion.base_revision_id),
        "dataset": through(AdapterVersion.id, _TRAINED, Dataset.name, "The dataset of a run that sealed it.", sort=False),
        "live_on": through(AdapterVersion.id, _LIVE, ChannelHead.channel, "A channel that serves it now.", sort=False),
        "method": word(AdapterVersion.facts, "peft_type", about="The PEFT method, e.g. LORA."),
        "use_rslora": flag(AdapterVersion.facts, "use_rslora", about="Whether the scale follows the square root of the rank."),
        "use_dora": flag(AdapterVersion.facts, "use_dora", about="Whether it is a DoRA."),
        "rank": measured(AdapterVersion.facts, "rank", about="The rank."),
        "alpha": measured(AdapterVersion.facts, "alpha", about="The scale."),
        "parameters": measured(AdapterVersion.facts, "parameters", about="Parameters in all."),
        "effect.change": measured(AdapterVersion.effect, "change", about="The effect proof's largest change of a logit."),
        "effect.noise": measured(AdapterVersion.effect, "noise", about="The base's own numerical noise."),
        "verdict": _verdict(),
        **{f"metrics.{name}": _metric(name) for name in METRICS},
        "metrics.final_loss": _run_metric("final_loss", "The last loss of its run."),
        "metrics.tokens_per_s": _run_metric("tokens_per_s", "The speed of its run."),
        "owner": owner(AdapterVersion.created_by, "Who trained or registered it."),
        "created_at": column(AdapterVersion.created_at, "When it was sealed."),
    },
)  # fmt: skip
ADAPTERS = Listing(
    "adapters", key=Adapter.id, search=(Adapter.search.expression,), families=tags_of(Adapter.id), finish=fill,
    fields={
        "name": column(Adapter.name, "The adapter's name."),
        "description": column(Adapter.description, "What it is.", sort=False),
        "base": through(Adapter.base_model_id, _BASES, BaseModel.name, "The base model's name."),
        "owner": owner(Adapter.created_by, "Who made it."),
        "created_at": column(Adapter.created_at, "When it was made."),
        **{f"versions.{name}": of_any(Adapter.id, _VERSIONS, one) for name, one in VERSIONS.fields.items() if name != "adapter"},
    },
)  # fmt: skip
