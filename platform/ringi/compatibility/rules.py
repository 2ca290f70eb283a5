"""Judge one adapter against a new base revision: facts in, a verdict with all reasons out. Pure: equal facts give equal bytes.

The order of the verdicts is the order of the checks; the first that holds is the verdict, every finding is reported. Today parts F1
(config) and F2 (weights) of the base fingerprint are measured. Strictly, a missing static part (F3..F8: sketch, tokenizer, template,
generation, quantisation, code) would make every comparison UNKNOWN and so say nothing. Instead the verdict speaks for the parts that
exist, the finding `parts_not_measured` lists the others in every assessment, and a file outside the weights and config.json whose
bytes changed (`other_files_changed`) raises the action to a regression sweep. UNKNOWN stays for a comparison that could not be made.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, FiniteFloat

from ringi.base_models.fingerprint_weights import canonical_name
from ringi.base_models.layout import names_of
from ringi.jobs.contracts.adapters import FULL_WEIGHTS, AdapterFacts
from ringi.jobs.contracts.base_models import CompareBasesResult
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import canonical_json

NOT_MEASURED = (
    "F3 sketch", "F4 tokenizer", "F5 chat template", "F6 generation defaults", "F7 quantisation", "F8 custom code",
)  # fmt: skip

# A change in one of these is another network, not another setting of the same one.
ARCHITECTURE_KEYS = frozenset(
    {"architectures", "model_type", "num_hidden_layers", "n_layer", "text_config.model_type", "text_config.num_hidden_layers"}
)


class Verdict(StrEnum):
    """What the new base is to the adapter; the names never change meaning."""

    UNKNOWN = "UNKNOWN"
    INCOMPATIBLE = "INCOMPATIBLE"
    NO_EFFECT = "NO_EFFECT"
    TOKENIZER_CHANGED = "TOKENIZER_CHANGED"
    TEMPLATE_CHANGED = "TEMPLATE_CHANGED"
    IDENTICAL = "IDENTICAL"
    RESERIALISED = "RESERIALISED"
    REPARAMETRISED = "REPARAMETRISED"
    QUANT_CHANGED = "QUANT_CHANGED"
    CONFIG_CHANGED = "CONFIG_CHANGED"
    CODE_CHANGED = "CODE_CHANGED"
    RUNTIME_DRIFT = "RUNTIME_DRIFT"
    DRIFTED = "DRIFTED"


class Action(StrEnum):
    """What has to happen before the adapter is released on the new base, mildest first."""

    KEEP = "keep"
    REGRESSION = "regression"
    BLOCK = "block"


class Severity(StrEnum):
    """How much a finding weighs."""

    INFO = "info"
    WARNING = "warning"
    BLOCKING = "blocking"


class Code(StrEnum):
    """Why. Append-only: a code is never renamed, reused or removed."""

    COMPARISON_MISSING = "comparison_missing"
    TARGET_MISSING = "target_missing"
    TARGET_RESHAPED = "target_reshaped"
    ARCHITECTURE_CHANGED = "architecture_changed"
    ADAPTER_TENSOR_UNMATCHED = "adapter_tensor_unmatched"
    ADAPTER_TENSOR_UNFILLED = "adapter_tensor_unfilled"
    REPLACED_TENSOR_CHANGED = "replaced_tensor_changed"
    REPLACED_TENSOR_RECAST = "replaced_tensor_recast"
    CONFIG_CHANGED = "config_changed"
    TARGET_WEIGHTS_CHANGED = "target_weights_changed"
    OTHER_WEIGHTS_CHANGED = "other_weights_changed"
    TENSORS_ADDED = "tensors_added"
    TENSORS_REMOVED = "tensors_removed"
    TENSORS_RESHAPED = "tensors_reshaped"
    WEIGHTS_RECAST = "weights_recast"
    FILES_RELAID = "files_relaid"
    OTHER_FILES_CHANGED = "other_files_changed"
    PARTS_NOT_MEASURED = "parts_not_measured"
    FULL_WEIGHTS = "full_weights"


_ACTIONS: dict[Verdict, Action] = {
    Verdict.UNKNOWN: Action.BLOCK,
    Verdict.INCOMPATIBLE: Action.BLOCK,
    Verdict.IDENTICAL: Action.KEEP,
    Verdict.RESERIALISED: Action.KEEP,
    Verdict.CONFIG_CHANGED: Action.REGRESSION,
    Verdict.DRIFTED: Action.REGRESSION,
}

_STAY = "Until then stay on the old base."
_CHAIN = "If it passes, keep; if not, try in this order: rescale, warm start, retrain, distil, stay on the old base."

_FULL_REMEDY = "The version is full weights with the old base in them, and runs on no other: train it again from the new revision."

_REMEDIES: dict[Verdict, str] = {
    Verdict.UNKNOWN: "Compute parts F1 and F2 of both revisions, then compare again.",
    Verdict.INCOMPATIBLE: "Map renamed modules and check again; otherwise distil from old base plus adapter, or retrain. " + _STAY,
    Verdict.IDENTICAL: "Keep the adapter.",
    Verdict.RESERIALISED: "Keep the adapter after a load check and a smoke test.",
    Verdict.CONFIG_CHANGED: "Run the regression sweep with long inputs. " + _CHAIN,
    Verdict.DRIFTED: "Run the regression sweep. " + _CHAIN,
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(_Record):
    """One measured value. `subject` is the tensor it was measured on; `value` None where it could not be measured."""

    metric: str
    subject: str
    value: FiniteFloat | None
    threshold: FiniteFloat | None = None


class Finding(_Record):
    """One reason; `affected` and `evidence` are sorted. `old` and `new` where a single setting differs."""

    code: Code
    severity: Severity
    component: str
    old: str | None = None
    new: str | None = None
    affected: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    action: Action


class Assessment(_Record):
    """The verdict, the strictest action of all findings and the verdict, the reasons, and what to do."""

    verdict: Verdict
    action: Action
    findings: tuple[Finding, ...]
    remedy: str


def judge(facts: CompareBasesResult | None, adapter: AdapterFacts, *, other_files_changed: Sequence[str] = ()) -> Assessment:
    """Assess `adapter` for the new revision. `facts` None: no comparison could be made. `other_files_changed`: see `changed_side_files`."""
    findings = [_finding(Code.PARTS_NOT_MEASURED, Severity.INFO, "base", NOT_MEASURED, Action.KEEP)]
    if adapter.peft_type == FULL_WEIGHTS:
        # Whatever the new revision is: there is nothing that could be put on it.
        findings.append(_finding(Code.FULL_WEIGHTS, Severity.BLOCKING, "weights", (), Action.BLOCK))
        return _assessment(Verdict.INCOMPATIBLE, findings).model_copy(update={"remedy": _FULL_REMEDY})
    if other_files_changed:
        findings.append(_finding(Code.OTHER_FILES_CHANGED, Severity.WARNING, "files", other_files_changed, Action.REGRESSION))
    if facts is None:
        findings.append(_finding(Code.COMPARISON_MISSING, Severity.BLOCKING, "base", (), Action.BLOCK))
        return _assessment(Verdict.UNKNOWN, findings)
    breaks = _breaks(facts, adapter)
    findings += breaks + _replaced(facts, adapter) + _config(facts) + _weights(facts, adapter) + _layout(facts)
    weights_differ = bool(facts.changed or facts.added or facts.removed or facts.reshaped)
    if breaks:
        verdict = Verdict.INCOMPATIBLE
    elif weights_differ:
        verdict = Verdict.DRIFTED
    elif facts.config_changes:
        verdict = Verdict.CONFIG_CHANGED
    elif facts.recast or not facts.byte_equal_files:
        verdict = Verdict.RESERIALISED
    else:
        verdict = Verdict.IDENTICAL
    return _assessment(verdict, findings)


def report_bytes(assessment: Assessment) -> bytes:
    """RFC 8785 bytes of the assessment: equal facts give equal bytes."""
    return canonical_json(assessment.model_dump(mode="json"))


def changed_side_files(old: Iterable[FileRef], new: Iterable[FileRef]) -> tuple[str, ...]:
    """Paths, sorted, that differ or are on one side only, of the files that steer a model from outside the measured parts.

    Tokenizer, chat template, generation defaults and code: told by suffix, so a README that changed is no reason.
    """
    before, after = ({file.path: file.digest for file in side if _steers(file.path)} for side in (old, new))
    return tuple(sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path)))


def _steers(path: str) -> bool:
    measured = path == "config.json" or path.endswith((".safetensors", ".safetensors.index.json"))
    return not measured and path.endswith((".json", ".jinja", ".model", ".txt", ".py"))


def _finding(code: Code, severity: Severity, component: str, affected: Iterable[str], action: Action) -> Finding:
    return Finding(code=code, severity=severity, component=component, affected=tuple(sorted(set(affected))), action=action)


def _assessment(verdict: Verdict, findings: list[Finding]) -> Assessment:
    order, weight = list(Action), list(Severity)
    action = max([_ACTIONS[verdict], *(finding.action for finding in findings)], key=order.index)
    ordered = sorted(findings, key=lambda finding: (-weight.index(finding.severity), finding.code, finding.component, finding.affected))
    remedy = _REMEDIES[verdict]
    if action is Action.BLOCK and _ACTIONS[verdict] is not Action.BLOCK:
        remedy = f"The adapter would put old base tensors back: retrain it without replacing them. Otherwise: {remedy}"
    elif action is Action.REGRESSION and _ACTIONS[verdict] is Action.KEEP:
        remedy = "Run the regression sweep, because of what is listed beside the weights; keep the adapter if it passes."
    return Assessment(verdict=verdict, action=action, findings=tuple(ordered), remedy=remedy)


def _targets(adapter: AdapterFacts) -> frozenset[str]:
    """Canonical names of the weights under the adapted modules; a module's own tensor is its name plus '.weight'."""
    return frozenset(piece for module in adapter.adapted_modules for piece in _stored(f"{canonical_name(module)}.weight"))


def _stored(name: str) -> tuple[str, ...]:
    """Under which names a base may hold a tensor: encoders are often saved without what a head is put on (`bert.`, `transformer.`)."""
    return tuple(one for whole in (name, name.partition(".")[2]) if whole for one in names_of(whole))


def _breaks(facts: CompareBasesResult, adapter: AdapterFacts) -> list[Finding]:
    targets = _targets(adapter)
    architecture = tuple(line for line in facts.config_changes if line.partition(": ")[0] in ARCHITECTURE_KEYS)
    found = (
        (Code.TARGET_MISSING, "weights", targets & set(facts.removed)),
        (Code.TARGET_RESHAPED, "weights", targets & set(facts.reshaped)),
        (Code.ARCHITECTURE_CHANGED, "config", architecture),
        (Code.ADAPTER_TENSOR_UNMATCHED, "adapter", adapter.unmatched_tensors),
        (Code.ADAPTER_TENSOR_UNFILLED, "adapter", adapter.unfilled_tensors),
    )
    return [_finding(code, Severity.BLOCKING, component, affected, Action.BLOCK) for code, component, affected in found if affected]


def _replaced(facts: CompareBasesResult, adapter: AdapterFacts) -> list[Finding]:
    """Loading puts the old tensor back: wrong where the base moved on, and to be measured where it was only recast."""
    replaced = {piece for name in adapter.replaced_tensors for piece in _stored(canonical_name(name))}
    moved = replaced & {*(change.name for change in facts.changed), *facts.removed, *facts.reshaped}
    findings = [_finding(Code.REPLACED_TENSOR_CHANGED, Severity.BLOCKING, "weights", moved, Action.BLOCK)] if moved else []
    if recast := replaced & set(facts.recast):
        findings.append(_finding(Code.REPLACED_TENSOR_RECAST, Severity.WARNING, "weights", recast, Action.REGRESSION))
    return findings


def _config(facts: CompareBasesResult) -> list[Finding]:
    findings = []
    for line in facts.config_changes:
        key, _, values = line.partition(": ")
        old, _, new = values.partition(" -> ")
        findings.append(
            Finding(
                code=Code.CONFIG_CHANGED,
                severity=Severity.WARNING,
                component="config",
                old=old,
                new=new,
                affected=(key,),
                action=Action.REGRESSION,
            )
        )
    return findings


def _weights(facts: CompareBasesResult, adapter: AdapterFacts) -> list[Finding]:
    targets = _targets(adapter)
    findings = []
    for code, inside in ((Code.TARGET_WEIGHTS_CHANGED, True), (Code.OTHER_WEIGHTS_CHANGED, False)):
        changes = sorted((change for change in facts.changed if (change.name in targets) is inside), key=lambda change: change.name)
        if changes:
            # The distance is shown and never used to skip: it does not predict damage.
            evidence = tuple(Evidence(metric="relative_frobenius_change", subject=change.name, value=change.relative) for change in changes)
            finding = _finding(code, Severity.WARNING, "weights", (change.name for change in changes), Action.REGRESSION)
            findings.append(finding.model_copy(update={"evidence": evidence}))
    for code, names in (
        (Code.TENSORS_ADDED, set(facts.added)),
        (Code.TENSORS_REMOVED, set(facts.removed) - targets),
        (Code.TENSORS_RESHAPED, set(facts.reshaped) - targets),
    ):
        if names:
            findings.append(_finding(code, Severity.WARNING, "weights", names, Action.REGRESSION))
    return findings


def _layout(facts: CompareBasesResult) -> list[Finding]:
    findings = [] if facts.byte_equal_files else [_finding(Code.FILES_RELAID, Severity.INFO, "files", (), Action.KEEP)]
    if facts.recast:
        findings.append(_finding(Code.WEIGHTS_RECAST, Severity.INFO, "weights", facts.recast, Action.KEEP))
    return findings
