"""Verdicts: every branch of the order, all reasons kept, and byte-identical reports."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringi.compatibility.rules import Action, Assessment, Code, Severity, Verdict, changed_side_files, judge, report_bytes
from ringi.jobs.contracts.adapters import AdapterFacts
from ringi.jobs.contracts.base_models import CompareBasesResult, TensorChange
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import sha256_bytes

Q, V, EMBED = ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.v_proj.weight", "model.embed_tokens.weight")


def facts(**changed: Any) -> CompareBasesResult:
    same: dict[str, Any] = {
        "byte_equal_files": True,
        **dict.fromkeys(("config_changes", "added", "removed", "reshaped", "recast", "changed"), ()),
    }
    return CompareBasesResult(**{**same, **changed})


def adapter(**changed: Any) -> AdapterFacts:
    plain: dict[str, Any] = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "rank": 8, "alpha": 16, "use_rslora": False, "use_dora": False,
        "target_modules": ("q_proj", "v_proj"),
        "adapted_modules": (Q.removesuffix(".weight"), V.removesuffix(".weight")), "unmatched_tensors": (), "unfilled_tensors": (),
        "replaced_tensors": (), "non_finite_tensors": (), "tensors": (), "parameters": 1,
    }  # fmt: skip
    return AdapterFacts(**{**plain, **changed})


def drift(*names: str) -> tuple[TensorChange, ...]:
    return tuple(TensorChange(name=name, relative=0.02) for name in names)


def codes(assessment: Assessment) -> set[Code]:
    return {finding.code for finding in assessment.findings}


def test_equal_bytes_are_identical_and_kept() -> None:
    found = judge(facts(), adapter())
    assert (found.verdict, found.action, codes(found)) == (Verdict.IDENTICAL, Action.KEEP, {Code.PARTS_NOT_MEASURED})


@pytest.mark.parametrize("compared", [facts(), facts(changed=drift(Q), byte_equal_files=False), None])
def test_full_weights_run_on_no_other_base_whatever_it_is(compared: CompareBasesResult | None) -> None:
    found = judge(
        compared, adapter(peft_type="FULL", rank=None, alpha=None, target_modules=(), adapted_modules=(), replaced_tensors=(Q, V))
    )
    assert (found.verdict, found.action, codes(found)) == (Verdict.INCOMPATIBLE, Action.BLOCK, {Code.FULL_WEIGHTS, Code.PARTS_NOT_MEASURED})
    assert "train it again" in found.remedy


def test_what_was_not_measured_is_said_in_every_assessment() -> None:
    for compared in (facts(), facts(changed=drift(Q), byte_equal_files=False), None):
        finding = next(f for f in judge(compared, adapter()).findings if f.code is Code.PARTS_NOT_MEASURED)
        assert finding.severity is Severity.INFO
        assert [part[:2] for part in finding.affected] == ["F3", "F4", "F5", "F6", "F7", "F8"]


def test_a_resharded_base_is_reserialised_and_kept() -> None:
    found = judge(facts(byte_equal_files=False), adapter())
    assert (found.verdict, found.action) == (Verdict.RESERIALISED, Action.KEEP)
    assert Code.FILES_RELAID in codes(found)


def test_a_recast_base_is_reserialised_and_kept_unless_a_replaced_tensor_was_recast() -> None:
    recast = facts(byte_equal_files=False, recast=(EMBED, Q))
    assert (judge(recast, adapter()).verdict, judge(recast, adapter()).action) == (Verdict.RESERIALISED, Action.KEEP)
    replacing = judge(recast, adapter(replaced_tensors=(EMBED,)))
    assert (replacing.verdict, replacing.action) == (Verdict.RESERIALISED, Action.REGRESSION)
    assert Code.REPLACED_TENSOR_RECAST in codes(replacing)


def test_changed_weights_are_drifted_with_every_tensor_and_its_distance() -> None:
    changed = (TensorChange(name=V, relative=0.5), TensorChange(name=EMBED, relative=None), TensorChange(name=Q, relative=0.25))
    found = judge(facts(byte_equal_files=False, changed=changed), adapter())
    assert (found.verdict, found.action) == (Verdict.DRIFTED, Action.REGRESSION)
    target = next(f for f in found.findings if f.code is Code.TARGET_WEIGHTS_CHANGED)
    assert target.affected == (Q, V)
    assert [(item.subject, item.value) for item in target.evidence] == [(Q, 0.25), (V, 0.5)]
    other = next(f for f in found.findings if f.code is Code.OTHER_WEIGHTS_CHANGED)
    assert [(item.subject, item.value) for item in other.evidence] == [(EMBED, None)]


def test_a_setting_that_changed_over_equal_weights_is_config_changed() -> None:
    found = judge(facts(config_changes=("rope_parameters.rope_theta: 10000 -> 500000",)), adapter())
    assert (found.verdict, found.action) == (Verdict.CONFIG_CHANGED, Action.REGRESSION)
    finding = next(f for f in found.findings if f.code is Code.CONFIG_CHANGED)
    assert (finding.affected, finding.old, finding.new) == (("rope_parameters.rope_theta",), "10000", "500000")
    recast_too = judge(facts(config_changes=("rms_norm_eps: 1 -> 2",), recast=(Q,), byte_equal_files=False), adapter())
    assert recast_too.verdict is Verdict.CONFIG_CHANGED


@pytest.mark.parametrize(
    ("compared", "of", "code"),
    [
        (facts(byte_equal_files=False, removed=(Q,)), adapter(), Code.TARGET_MISSING),
        (facts(byte_equal_files=False, reshaped=(V,)), adapter(), Code.TARGET_RESHAPED),
        (facts(config_changes=("num_hidden_layers: 30 -> 28",)), adapter(), Code.ARCHITECTURE_CHANGED),
        (facts(config_changes=('architectures: ["LlamaForCausalLM"] -> ["LlamaModel"]',)), adapter(), Code.ARCHITECTURE_CHANGED),
        (facts(), adapter(unmatched_tensors=("x",)), Code.ADAPTER_TENSOR_UNMATCHED),
        (facts(), adapter(unfilled_tensors=("x",)), Code.ADAPTER_TENSOR_UNFILLED),
    ],
)
def test_what_breaks_the_adapter_is_incompatible_and_blocked(compared: CompareBasesResult, of: AdapterFacts, code: Code) -> None:
    found = judge(compared, of)
    assert (found.verdict, found.action) == (Verdict.INCOMPATIBLE, Action.BLOCK)
    assert found.findings[0].severity is Severity.BLOCKING
    assert code in codes(found)


def test_incompatible_wins_and_the_other_reasons_stay() -> None:
    compared = facts(byte_equal_files=False, removed=(Q,), changed=drift(V), recast=(EMBED,), config_changes=("x: 1 -> 2",), added=("n",))
    found = judge(compared, adapter())
    assert found.verdict is Verdict.INCOMPATIBLE
    assert codes(found) >= {Code.TARGET_MISSING, Code.TARGET_WEIGHTS_CHANGED, Code.WEIGHTS_RECAST, Code.CONFIG_CHANGED, Code.TENSORS_ADDED}


def test_tensors_outside_the_adapter_that_come_go_or_change_shape_are_drift() -> None:
    for compared in (facts(added=("n",)), facts(removed=(EMBED,)), facts(reshaped=(EMBED,))):
        found = judge(compared.model_copy(update={"byte_equal_files": False}), adapter())
        assert (found.verdict, found.action) == (Verdict.DRIFTED, Action.REGRESSION)


@pytest.mark.parametrize("change", [{"changed": drift(EMBED)}, {"removed": (EMBED,)}, {"reshaped": (EMBED,)}])
def test_a_replaced_tensor_that_the_base_changed_blocks(change: dict[str, Any]) -> None:
    found = judge(facts(byte_equal_files=False, **change), adapter(replaced_tensors=("base_model.model." + EMBED,)))
    assert found.action is Action.BLOCK
    assert Code.REPLACED_TENSOR_CHANGED in codes(found)
    assert "retrain" in found.remedy


def test_no_comparison_is_unknown_and_blocked() -> None:
    found = judge(None, adapter())
    assert (found.verdict, found.action) == (Verdict.UNKNOWN, Action.BLOCK)


def test_a_changed_tokenizer_file_asks_for_a_regression_even_over_equal_weights() -> None:
    def ref(path: str, content: bytes) -> FileRef:
        return FileRef(path=path, size=len(content), digest=sha256_bytes(content))

    old = [
        ref("tokenizer.json", b"1"),
        ref("README.md", b"1"),
        ref("config.json", b"1"),
        ref("model.safetensors", b"1"),
        ref("gone.jinja", b""),
    ]
    new = [ref("tokenizer.json", b"2"), ref("README.md", b"2"), ref("config.json", b"2"), ref("model.safetensors", b"2")]
    assert changed_side_files(old, new) == ("gone.jinja", "tokenizer.json")
    found = judge(facts(), adapter(), other_files_changed=changed_side_files(old, new))
    assert (found.verdict, found.action) == (Verdict.IDENTICAL, Action.REGRESSION)
    assert Code.OTHER_FILES_CHANGED in codes(found)


def test_a_report_is_canonical_json_of_the_whole_assessment() -> None:
    found = judge(facts(byte_equal_files=False, changed=drift(Q)), adapter())
    assert Assessment.model_validate_json(report_bytes(found)) == found
    assert (
        report_bytes(found)
        == json.dumps(json.loads(report_bytes(found)), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )


NAMES = st.lists(st.sampled_from([Q, V, EMBED, "model.norm.weight", "lm_head.weight", "n"]), unique=True)


LISTS = st.fixed_dictionaries(dict.fromkeys(("added", "removed", "reshaped", "recast", "changed", "config", "replaced"), NAMES))


@given(lists=LISTS, equal=st.sampled_from((True, False)), order=st.randoms())
def test_equal_facts_in_any_order_give_byte_identical_reports(lists: dict[str, list[str]], *, equal: bool, order: Random) -> None:
    def report() -> bytes:
        for names in lists.values():
            order.shuffle(names)
        compared = facts(
            byte_equal_files=equal,
            changed=drift(*lists["changed"]),
            config_changes=tuple(f"{name}: 1 -> 2" for name in lists["config"]),
            **{key: tuple(lists[key]) for key in ("added", "removed", "reshaped", "recast")},
        )
        found = judge(compared, adapter(replaced_tensors=tuple(lists["replaced"])))
        assert found.action is max((finding.action for finding in found.findings), key=list(Action).index)
        return report_bytes(found)

    assert report() == report() == report()


def test_a_change_inside_a_fused_module_concerns_the_adapter_on_that_module() -> None:
    on_fused = adapter(target_modules=("qkv_proj",), adapted_modules=("model.layers.0.self_attn.qkv_proj",))
    found = judge(facts(changed=drift(V), byte_equal_files=False), on_fused)
    assert (found.verdict, found.action) == (Verdict.DRIFTED, Action.REGRESSION)
    assert Code.TARGET_WEIGHTS_CHANGED in codes(found)
    gone = judge(facts(removed=(Q,), byte_equal_files=False), on_fused)
    assert (gone.verdict, gone.action) == (Verdict.INCOMPATIBLE, Action.BLOCK)
    saved = adapter(replaced_tensors=("model.layers.0.mlp.gate_up_proj.weight",))
    moved = judge(facts(changed=drift("model.layers.0.mlp.up_proj.weight"), byte_equal_files=False), saved)
    assert Code.REPLACED_TENSOR_CHANGED in codes(moved)


def test_an_encoder_that_was_saved_without_its_prefix_is_the_one_that_the_adapter_knows() -> None:
    stored = "encoder.layer.0.attention.self.query.weight"
    of_bert = adapter(adapted_modules=(f"bert.{stored.removesuffix('.weight')}",), replaced_tensors=("bert.pooler.dense.weight",))
    assert Code.TARGET_WEIGHTS_CHANGED in codes(judge(facts(byte_equal_files=False, changed=drift(stored)), of_bert))
    assert Code.TARGET_MISSING in codes(judge(facts(byte_equal_files=False, removed=(stored,)), of_bert))
    assert Code.REPLACED_TENSOR_CHANGED in codes(judge(facts(byte_equal_files=False, changed=drift("pooler.dense.weight")), of_bert))
