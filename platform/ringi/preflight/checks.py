"""What a run is asked before a worker is taken: a numbered list of pure checks over facts. Comes after estimating.py.

Each check returns its findings, each with a stable code: `refuse` for what would waste the worker, `warn` for what somebody should know,
`not_measured` where the platform could not look. The same list stands in docs/preflight.md.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ringi.adapters.labels import FEWEST_LABELS, MOST_LABELS
from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.datasets import DatasetReport
from ringi.jobs.contracts.training import Gravity, PreflightFinding
from ringi.preflight.labels import LabelCounts, alike
from ringi.preflight.lengths import Lengths, longer, why_unmeasured
from ringi.preflight.memory import snapshot_bytes, trainable_parameters
from ringi.preflight.schemas import Memory, Trained, Workload
from ringi.preflight.shapes import WORDS, Shape

GIB = 2**30
_SHOWN = 5
# What the forecast of memory may be off by (docs/preflight.md): within it nobody is refused.
TOLERANCE = 0.15


@dataclass(frozen=True)
class WorkerMemory:
    """A registered worker of the run's queue, what it has, and what the run would need there (None where the base's shape is unknown)."""

    name: str
    memory_bytes: int | None
    needs: Memory | None


@dataclass(frozen=True)
class Facts:
    """What is known before a run. `shape` is None where the base's family is not known, `why_unknown` says why. `licence` is the dataset's. `labels` of a classifier's rows.

    `known_labels`: of the version that a classifier is gone on from. `patterns`: names with a rank or an alpha of their own.
    """

    work: Workload
    shape: Shape | None
    why_unknown: str
    modules: frozenset[str]
    base: BaseFacts | None
    report: DatasetReport
    licence: str | None
    lengths: Lengths | None
    workers: Sequence[WorkerMemory] = field(default=())
    labels: LabelCounts | None = None
    known_labels: tuple[str, ...] = ()
    patterns: frozenset[str] = frozenset()


def examine(facts: Facts) -> list[PreflightFinding]:
    """All findings, in the order of the checks."""
    return [finding for check in CHECKS for finding in check(facts)]


def _refuse(code: str, message: str, next_step: str) -> PreflightFinding:
    return PreflightFinding(code=code, gravity=Gravity.REFUSE, message=message, next_step=next_step)


def _warn(code: str, message: str, next_step: str) -> PreflightFinding:
    return PreflightFinding(code=code, gravity=Gravity.WARN, message=message, next_step=next_step)


def _open(code: str, message: str, next_step: str = "") -> PreflightFinding:
    return PreflightFinding(code=code, gravity=Gravity.NOT_MEASURED, message=message, next_step=next_step)


def known_shape(facts: Facts) -> list[PreflightFinding]:
    """1. The base's shape is known; otherwise neither memory nor time is forecast."""
    return [] if facts.shape is not None else [_open("preflight_shape_unknown", f"Memory and time are not forecast: {facts.why_unknown}")]


def targets(facts: Facts) -> list[PreflightFinding]:
    """2. Every target names a matrix of the base: by its shape, or else by the names of its tensors. Full fine-tuning has no targets."""
    if facts.work.method is Trained.FULL:
        return []
    if facts.shape is not None:
        missing = facts.shape.unmatched(facts.work.target_modules)
        choices = facts.shape.module_names
    elif facts.modules:
        missing = tuple(sorted(one for one in set(facts.work.target_modules) - WORDS if not _is_module(one, facts.modules)))
        choices = sorted({name.rsplit(".", 1)[-1] for name in facts.modules})
    else:
        return [_open("preflight_targets_not_checked", "Whether the targets match was not checked: the base's tensors are not known.")]
    if not missing:
        return []
    text = f"The base has no linear module named {', '.join(map(repr, missing))}."
    return [_refuse("preflight_target_unmatched", text, f"Choose from: {', '.join(choices[:64])}.")]


def patterns(facts: Facts) -> list[PreflightFinding]:
    """2. So does every name with a rank or an alpha of its own, and it is among the targets."""
    targeted = {one.rpartition(".")[2] for one in facts.work.target_modules}
    missing = set() if WORDS & targeted else {one for one in facts.patterns if one.rpartition(".")[2] not in targeted}
    if facts.shape is not None:
        missing |= set(facts.shape.unmatched(sorted(facts.patterns)))
    elif facts.modules:
        missing |= {one for one in facts.patterns if not _is_module(one, facts.modules)}
    if not missing:
        return []
    text = f"No module that is adapted is named {', '.join(map(repr, sorted(missing)))}, and it is given a rank or an alpha of its own."
    return [_refuse("preflight_pattern_unmatched", text, "Name modules that are among the targets: --rank-of, --alpha-of.")]


def _is_module(target: str, modules: frozenset[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for name in modules)


def memory(facts: Facts) -> list[PreflightFinding]:
    """3. A registered worker has the memory. Refused below what is certain, or below the forecast where the longest row was measured."""
    if facts.shape is None:
        return []
    sized = [(one.name, one.memory_bytes, one.needs) for one in facts.workers if one.memory_bytes is not None and one.needs is not None]
    if not sized:
        return [_open("preflight_memory_not_compared", "No registered worker of the queue has said how much memory it has.")]
    # The worker that comes nearest to having enough.
    name, has, needs = min(sized, key=lambda one: one[2].total / one[1])
    least = needs.least if facts.lengths is None else max(needs.least, round(needs.total * (1 - TOLERANCE)))
    told = f"The run needs about {needs.total / GIB:.1f} GiB; of the registered workers {name} comes nearest, with {has / GIB:.1f} GiB."
    smaller = "Lower --batch-size or --max-length, or bring up a worker with more memory."
    if least > has:
        return [_refuse("preflight_memory", told, smaller)]
    if needs.total > has:
        return [_warn("preflight_memory_tight", told, smaller)]
    return []


def batch(facts: Facts) -> list[PreflightFinding]:
    """4. A batch holds no more rows than there are."""
    rows = facts.report.train_rows
    if facts.work.batch_size <= rows:
        return []
    text = f"A batch of {facts.work.batch_size} holds every one of the {rows} training rows: each epoch is one step."
    return [_warn("preflight_batch_exceeds_rows", text, "Lower --batch-size.")]


def context(facts: Facts) -> list[PreflightFinding]:
    """5. Rows are no longer than the base's context. Refused where positions are a table: the first longer row would end the run."""
    if facts.shape is None or facts.work.max_length <= facts.shape.context:
        return []
    text = f"max_length {facts.work.max_length} is beyond the base's context of {facts.shape.context} tokens."
    step = f"Use --max-length {facts.shape.context} at most."
    if facts.shape.layout.fixed_positions:
        return [_refuse("preflight_context_exceeded", text, step)]
    return [_warn("preflight_context_exceeded", text, step)]


def licence(facts: Facts) -> list[PreflightFinding]:
    """6. The dataset names a licence."""
    if facts.licence:
        return []
    return [
        _warn(
            "preflight_no_licence",
            "The dataset names no licence.",
            "Add rows with --licence, or: ringi tags set dataset PROJECT/NAME license=…",
        )
    ]


def validation_rows(facts: Facts) -> list[PreflightFinding]:
    """7. There are rows to validate on."""
    if facts.report.validation_rows:
        return []
    return [_warn("preflight_no_validation_rows", "The dataset has no validation rows.", "Add a version with a validation fraction.")]


def duplicates(facts: Facts) -> list[PreflightFinding]:
    """8. What the dataset's report says of duplicates, contradictions and leakage."""
    report, found = facts.report, []
    if report.duplicate_rows:
        text = f"{report.duplicate_rows} of {report.rows} rows were copies of others; one of each was kept, for training."
        found.append(_warn("preflight_duplicates", text, "Look at the report: ringi datasets show."))
    if report.conflicting_prompts:
        text = f"{report.conflicting_prompts} prompts have more than one answer."
        found.append(_warn("preflight_conflicting_prompts", text, "Decide for one answer each: ringi datasets show lists lines."))
    if report.leakage_prevented:
        text = f"{report.leakage_prevented} groups of equal prompts would have been on both sides of a plain split; they were kept on one."
        found.append(_warn("preflight_leakage_prevented", text, "Nothing leaked by them."))
    if report.near_leaks:
        text = f"{report.near_leaks} of {report.validation_rows} validation rows are nearly equal to one that is trained on: their loss says less than it seems."
        found.append(_warn("preflight_near_leakage", text, "Add the rows anew: ringi datasets add … --near-duplicates remove."))
    return found


def lengths(facts: Facts) -> list[PreflightFinding]:
    """9. Rows fit their length and keep a label, by the base's own tokenizer over a sample of the training rows."""
    # A classifier's rows without a label are refused below (12): nothing of them would be learnt, however long they are.
    if facts.lengths is None and facts.labels is not None and facts.labels.unlabelled:
        return []
    if facts.lengths is None:
        return [_open("preflight_lengths_not_measured", why_unmeasured(facts.report.row_format))]
    found, seen, limit = [], facts.lengths.rows, facts.work.max_length
    context = facts.shape.context if facts.shape is not None else None
    end = "the left of their prompt" if facts.work.classes is None else "their end"
    cut, lost, unlabelled = facts.lengths.longer_than(limit), facts.lengths.answers_longer_than(limit - 1), facts.lengths.without_label
    if unlabelled:
        text = f"{unlabelled} of {seen} sampled rows have no token to learn."
        everything = unlabelled == seen
        found.append((_refuse if everything else _warn)("preflight_no_label_left", text, "Give every row a completion."))
    if cut:
        text = f"At least {cut} of {seen} sampled rows are longer than {limit} tokens and lose {end}."
        found.append(_warn("preflight_rows_truncated", text, longer(facts.lengths.longest, limit, context) + "shorten them."))
    if lost:
        text = f"{lost} of {seen} sampled rows have an answer of more than {limit - 1} tokens: without its end the adapter learns to stop too late or never."
        found.append(_warn("preflight_answers_truncated", text, longer(facts.lengths.longest, limit, context) + "shorten them."))
    return found


def template(facts: Facts) -> list[PreflightFinding]:
    """10. Rows, template and tokenizer belong together: no chat without a template, no token without a row of the embedding."""
    if facts.base is None:
        return []
    found = []
    # A classifier's rows are no conversations, whatever they are (11).
    chats = facts.lengths.chats if facts.lengths is not None and facts.work.classes is None else 0
    if chats and not facts.base.chat_template:
        text = f"{chats} of {facts.lengths.rows if facts.lengths else 0} sampled rows are conversations, and the base has no chat template."
        found.append(_refuse("preflight_no_chat_template", text, "Train on a base with a chat template, or on prompts and completions."))
    size, vocabulary = facts.base.tokenizer_vocab_size, facts.base.vocab_size
    if size is None:
        found.append(
            _open("preflight_tokenizer_unknown", "Whether tokenizer and embedding agree was not checked: there is no tokenizer.json.")
        )
    elif vocabulary is not None and size > vocabulary:
        text = f"The tokenizer has {size} tokens, the embedding {vocabulary} rows."
        found.append(_refuse("preflight_tokenizer_mismatch", text, "Register the base with the tokenizer that it was trained with."))
    return found


def snapshots(facts: Facts) -> list[PreflightFinding]:
    """11. The snapshots of full fine-tuning are no surprise to the blob store."""
    work = facts.work
    if work.method is not Trained.FULL or facts.shape is None or work.snapshot_every is None:
        return []
    steps = work.epochs * -(-facts.report.train_rows // work.batch_size)
    count = (min(steps, work.max_steps or steps) - 1) // work.snapshot_every
    if count <= 0:
        return []
    each = snapshot_bytes(work, trainable_parameters(facts.shape, work)) / GIB
    text = (
        f"The run writes {count} snapshots of {each:.2g} GiB each. It keeps the last; the store has the others until they are collected, after "
        "RINGI_ORPHAN_GRACE_S."
    )
    return [_warn("preflight_large_snapshots", text, "Raise --checkpoint-every.")]


def classes(facts: Facts) -> list[PreflightFinding]:
    """12. A language model learns to write, a classifier learns from labels: what the base can be, and whether rows and labels are enough for it."""
    if facts.work.classes is None:
        if facts.shape is None or not facts.shape.encoder:
            return []
        text = f"The base is an encoder ('{facts.shape.model_type}'): it classifies texts, and goes on with none."
        return [
            _refuse("preflight_base_is_encoder", text, "Use --task sequence-classification, or take a causal language model as the base.")
        ]
    if facts.labels is None:
        return [_open("preflight_labels_not_measured", "The labels were not counted: the rows could not be read here.")]
    # A version that is gone on from keeps its classes.
    found, known = [], dict.fromkeys(facts.known_labels) or facts.labels.train
    if unlearnt := facts.labels.train.keys() - known.keys():
        text = f"{sum(facts.labels.train[name] for name in unlearnt)} training rows have labels that the earlier version does not know: {_named(unlearnt)}."
        found.append(_refuse("preflight_labels_unknown", text, "Train without --start-from: a new head has the classes of its rows."))
    if facts.labels.unlabelled:
        text = f"{facts.labels.unlabelled} training rows have no label."
        found.append(_refuse("preflight_rows_without_label", text, "Train on rows of a text and its label, or with --task causal-lm."))
    elif len(known) < FEWEST_LABELS:
        found.append(_refuse("preflight_one_label", f"All training rows have one label: {_named(known)}.", "Add rows with another label."))
    if len(known) > MOST_LABELS:
        text = f"The training rows have {len(known)} labels, and a classifier has at most {MOST_LABELS}."
        found.append(_refuse("preflight_too_many_labels", text, "Where answers are free texts, use --task causal-lm."))
    if unknown := facts.labels.validation.keys() - known.keys():
        rows = sum(facts.labels.validation[name] for name in unknown)
        text = f"{rows} validation rows have a label that no training row has: {_named(unknown)}. They count in no validation loss, and an evaluation finds every answer to them wrong."
        found.append(_warn("preflight_labels_only_in_validation", text, "Add training rows with these labels."))
    if same := alike(known):
        text = f"Labels that differ in case, width or white space alone are classes of their own: {_named(same)}."
        found.append(
            _warn("preflight_labels_alike", text, "Write each label in one way, or add the dataset with --unicode nfkc --white-space tidy.")
        )
    return found


def _named(labels: Iterable[str]) -> str:
    named = sorted(labels)
    rest = len(named) - _SHOWN
    return ", ".join(named[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


CHECKS: tuple[Callable[[Facts], list[PreflightFinding]], ...] = (
    known_shape, targets, patterns, memory, batch, context, licence, validation_rows, duplicates, lengths, template, snapshots, classes,
)  # fmt: skip
