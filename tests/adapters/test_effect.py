from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from ringi.adapters.admission import EFFECT_OVER_NOISE
from ringi.jobs.contracts.adapters import EffectFacts
from ringi_workers.adapters.attach import adapter_facts, load_base, load_tokenizer
from ringi_workers.adapters.effect import PROBE_PROMPTS, measure_effect
from ringi_workers.training.data import encode_text, render_prompt
from ringi_workers.training.export import WEIGHTS_FILE, export_adapter
from support.tiny_model import make_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


def make_adapter(base: Path, out: Path, *, b_scale: float) -> Path:
    """A LoRA whose B is drawn with the given spread; 0.0 leaves it at zero."""
    torch.manual_seed(5)
    model = get_peft_model(
        load_base(base, dtype=torch.float32, device=torch.device("cpu")),
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"]),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(b_scale * torch.randn_like(parameter))
    return export_adapter(model, out, base_name="bases/tiny", base_commit="0" * 40)


def effect_of(base: Path, folder: Path, task_prompts: tuple[str, ...] = ()) -> EffectFacts:
    model = load_base(base, dtype=torch.float32, device=torch.device("cpu"))
    return measure_effect(model, load_tokenizer(base), folder, adapter_facts(folder, base=base), task_prompts=task_prompts)


def test_an_adapter_that_does_something_stands_far_above_the_noise(base: Path, tmp_path: Path) -> None:
    effect = effect_of(base, make_adapter(base, tmp_path / "a", b_scale=0.1))
    assert effect.change is not None
    assert effect.noise is not None
    assert effect.noise < 1e-3
    assert effect.change > EFFECT_OVER_NOISE * effect.noise
    assert (effect.prompts, effect.dtype) == (len(PROBE_PROMPTS), "float32")


def test_the_change_is_the_difference_of_the_logits_with_and_without_the_adapter(base: Path, tmp_path: Path) -> None:
    """Recomputed another way: B A is added to the base's own weights, prompts go one by one."""
    folder = make_adapter(base, tmp_path / "a", b_scale=0.1)
    tokenizer = load_tokenizer(base)
    model = load_base(base, dtype=torch.float32, device=torch.device("cpu"))
    inputs = [torch.tensor([encode_text(tokenizer, render_prompt(tokenizer, prompt))[-64:]]) for prompt in PROBE_PROMPTS]
    with torch.inference_mode():
        before = [model(row).logits for row in inputs]
        tensors = load_file(folder / WEIGHTS_FILE)
        for name, a in tensors.items():
            if ".lora_A." in name:
                module = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
                module.weight += 8 / 4 * tensors[name.replace(".lora_A.", ".lora_B.")] @ a
        after = [model(row).logits for row in inputs]
    largest = max(float((one - other).abs().max()) for one, other in zip(before, after, strict=True))
    assert effect_of(base, folder).change == pytest.approx(largest, rel=1e-3)


def test_a_zero_b_adapter_changes_nothing(base: Path, tmp_path: Path) -> None:
    assert effect_of(base, make_adapter(base, tmp_path / "a", b_scale=0.0)).change == 0.0


def test_an_adapter_of_which_no_tensor_belongs_to_the_base_changes_nothing(base: Path, tmp_path: Path) -> None:
    folder = make_adapter(base, tmp_path / "a", b_scale=0.1)
    tensors = load_file(folder / WEIGHTS_FILE)
    renamed = {name.replace("base_model.model.", "base_model.model.language_model."): tensor for name, tensor in tensors.items()}
    save_file(renamed, folder / WEIGHTS_FILE)
    assert effect_of(base, folder).change == 0.0


def test_non_finite_logits_leave_the_change_unknown(base: Path, tmp_path: Path) -> None:
    folder = make_adapter(base, tmp_path / "a", b_scale=0.1)
    tensors = load_file(folder / WEIGHTS_FILE)
    first = min(tensors)
    tensors[first].fill_(float("nan"))
    save_file(tensors, folder / WEIGHTS_FILE)
    effect = effect_of(base, folder)
    assert effect.change is None
    assert effect.noise is not None


def test_task_prompts_are_measured_too_and_named_by_the_digest(base: Path, tmp_path: Path) -> None:
    folder = make_adapter(base, tmp_path / "a", b_scale=0.1)
    plain, more = effect_of(base, folder), effect_of(base, folder, ("棚に何がありますか。",))
    assert more.prompts == plain.prompts + 1
    assert more.probe_digest != plain.probe_digest
    assert effect_of(base, folder).probe_digest == plain.probe_digest
