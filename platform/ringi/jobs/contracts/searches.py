"""Search for a rank and a learning rate: trials of one plan on the same rows, of which losers are stopped early."""

from uuid import UUID

from pydantic import Field, FiniteFloat

from ringi.jobs.contracts.parts import BaseRef, Contract, FileRef, Part
from ringi.jobs.contracts.training import LoraSpec, PreflightFinding
from ringi.kit.digests import Digest


class PlannedTrial(Part):
    """One trial. Its validation loss is measured where the rule compares, whatever `spec` says of early stopping."""

    trial_id: UUID
    spec: LoraSpec


class HalvingRule(Part):
    """Which trials go on (searches/halving.py): one of `reduction` at each comparison, the first after at least `first_steps` steps.

    `tie`: validation losses no further than this share above the best one count as equal.
    """

    reduction: int = Field(ge=2, le=8)
    first_steps: int = Field(ge=1)
    tie: FiniteFloat = Field(ge=0, lt=1)


class SearchPayload(Contract):
    """Train `trials` on `rows`, compare them on `validation`. How far each is, is asked of the platform: a later attempt goes on from there."""

    adapter_name: str
    dataset: str
    base: BaseRef
    rows: Digest
    validation: Digest
    trials: tuple[PlannedTrial, ...]
    rule: HalvingRule
    preflight: tuple[PreflightFinding, ...] = ()


class Comparison(Part):
    """A trial where the rule compares: its validation loss in nats per label token after `step` steps.

    `seconds` of training up to there, loading included, without what a lost worker did in vain; `label_tokens` learnt from.
    """

    step: int = Field(ge=1)
    validation_loss: FiniteFloat
    seconds: FiniteFloat = Field(ge=0)
    label_tokens: int = Field(ge=0)


class TrialCheckpoint(Part):
    """Where a trial goes on: the run's checkpoint after `step` steps, and the seconds up to there."""

    step: int
    seconds: FiniteFloat
    files: tuple[FileRef, ...]


class SearchResult(Contract):
    """`steps`: those of a whole trial. How many trials ended in which way, over all attempts, and the seconds of the last one."""

    steps: int
    trained: int
    stopped: int
    failed: int
    seconds: FiniteFloat
