"""One loaded base and the adapters that take turns on it: each is known by its content, and only the one that was asked for is in effect.

An adapter file may hold tensors of the base itself (a trained embedding), and loading it writes them into the shared weights. Every
in-place change of a tensor is counted by torch, so that is noticed, and the base is read anew before anything else is measured on it.
"""

import contextlib
import gc
import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedTokenizerBase

from ringi.adapters.config_gate import check_config
from ringi.adapters.labels import CLASSIFIES, VersionClassifies
from ringi.kit.digests import hex_of, sha256_file, sha256_json
from ringi.kit.errors import RingiError
from ringi_workers.adapters.attach import AdapterUndecodable, base_dtype, load_base, load_tokenizer
from ringi_workers.adapters.full_weights import is_full_weights, load_full_weights
from ringi_workers.evaluation.fitting import DeviceFull
from ringi_workers.evaluation.reach import Reach, reach_of
from ringi_workers.failures import ran_out_of_memory
from ringi_workers.training.export import CONFIG_FILE, WEIGHTS_FILE


class AdapterDoesNotFit(RingiError):
    """The adapter cannot be put on this base: a module, a tensor or a shape is not the base's."""

    code, status = "adapter_does_not_fit", 400

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The adapter does not fit the base: {reason.strip().rstrip('.')}.", next_step="Measure it on the base that it was trained on."
        )


class SwappableBase:
    """A base model in memory, in eval mode. At most `resident` adapters stay loaded beside it; the least recently used one leaves first."""

    _model: Any
    _kind: tuple[str, int | None]
    # How often the base was read from its folder.
    loads: int = 0

    def __init__(self, folder: Path, *, resident: int = 2, dtype: torch.dtype | None = None) -> None:
        """Read the base of a Hugging Face folder onto the GPU if there is one, in the dtype that training would use or in `dtype`."""
        self.folder, self.resident = folder, max(1, resident)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = dtype or base_dtype(folder, self.device)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(folder)
        self._load()
        # What is known of the base stays known where it cannot be read again.
        self.reach: Reach = reach_of(self._model)
        named = self._model.generation_config.eos_token_id
        ids = named if isinstance(named, list) else [named]
        # Token ids that end an answer: those of the generation config and the tokenizer's end of sequence.
        self.stop_tokens = frozenset[int](token for token in (*ids, self.tokenizer.eos_token_id) if token is not None)
        length = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        # How many tokens the model can read, where it says so.
        self.context = length if isinstance(length, int) and length > 0 else None

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names, made of their content, of the adapters in memory."""
        return tuple(self._resident)

    @contextlib.contextmanager
    def arm(self, adapter: Path | None) -> Iterator[Any]:
        """The model with exactly this PEFT folder's adapter in effect, or with none, or the model that this folder is; not to be kept beyond the block.

        Raises AdapterDoesNotFit, DeviceFull, AdapterUndecodable, VersionClassifies, FullWeightsUnreadable, and what `config_gate.check_config` raises; the base
        stays usable.
        """
        if adapter is not None and is_full_weights(adapter):
            with self._in_its_place(adapter) as model:
                yield model
            return
        # Somebody's reading failed, or something wrote into the base outside of the block below.
        if self._model is None or self._writes() != self._clean:
            self._load()
        if adapter is None:
            with self._model.disable_adapter() if isinstance(self._model, PeftModel) else contextlib.nullcontext():
                yield self._model
            return
        name = self._name(adapter)
        if name not in self._resident:
            self._add(name, adapter)
        self._resident.move_to_end(name)
        slot = self._resident[name]
        # `set_adapter` alone leaves adapters off where they are off.
        self._model.base_model.enable_adapter_layers()
        self._model.set_adapter(slot)
        if self._model.active_adapters != [slot]:
            raise AdapterDoesNotFit(f"peft has {self._model.active_adapters} in effect where one was asked for")
        try:
            yield self._model
        finally:
            if self._writes() != self._clean:
                self._load()

    @contextlib.contextmanager
    def _in_its_place(self, folder: Path) -> Iterator[Any]:
        """A model with weights of its own. The base leaves, because both may not fit, and is read anew for the next arm: no weight is shared."""
        self._forget()
        gc.collect()
        try:
            model = load_full_weights(folder, dtype=self.dtype, device=self.device)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            raise DeviceFull("The model") from error
        _keep_head_fast(model)
        yield model
        del model
        gc.collect()

    def _name(self, adapter: Path) -> str:
        """Its content's digest: another adapter in the same folder is another adapter. Read first, so that nothing unchecked is loaded."""
        _check(adapter)
        if not (adapter / WEIGHTS_FILE).is_file():
            raise AdapterDoesNotFit(f"{WEIGHTS_FILE} is missing")
        return f"arm{hex_of(sha256_json([sha256_file(adapter / CONFIG_FILE), sha256_file(adapter / WEIGHTS_FILE)]))}"

    def _add(self, name: str, adapter: Path) -> None:
        if not isinstance(self._model, PeftModel):
            self._resident.clear()
        try:
            config = PeftConfig.from_pretrained(str(adapter))
            config.inference_mode = True
            if isinstance(self._model, PeftModel) and self._kind != _kind(config):
                # peft has one method on a base at a time.
                self._load()
            self._kind = _kind(config)
            self._resident[name] = self._read(self._slot(config), config, adapter)
        except (RuntimeError, MemoryError, ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as refusal:
            # What peft leaves of a half-made adapter is not worth finding out: such adapters are rare, and the base is one file away.
            short = ran_out_of_memory(refusal)
            self._load()
            if short:
                raise DeviceFull("The adapter, beside its base,") from refusal
            raise AdapterDoesNotFit(_first_line(refusal)) from refusal

    def _slot(self, config: PeftConfig) -> str | None:
        """Make room; the modules of what had to leave where they serve an adapter of this config too, because to build them takes longer than to fill them."""
        shape, free = _shape(config), None
        while len(self._resident) >= self.resident:
            _, slot = self._resident.popitem(last=False)
            if free is None and self._shapes[slot] == shape:
                free = slot
            else:
                self._model.delete_adapter(slot)
                del self._shapes[slot]
        return free

    def _read(self, slot: str | None, config: PeftConfig, adapter: Path) -> str:
        """Into these modules, or into new ones; returns what they are called, which is never used for others."""
        if slot is None:
            # No part of another's name, because peft looks for it inside of keys, and none that a file of weights could foresee.
            slot = f"slot{uuid4().hex}"
            self._shapes[slot] = _shape(config)
            if isinstance(self._model, PeftModel):
                self._model.add_adapter(slot, config)
            else:
                self._model = PeftModel(self._model, config, adapter_name=slot)
        # peft puts a tensor that bears the name of another adapter's modules right there.
        with safe_open(adapter / WEIGHTS_FILE, framework="pt") as file:
            if any(not self._shapes.keys().isdisjoint(name.split(".")) for name in file.keys()):  # noqa: SIM118  # it is no mapping
                raise ValueError("a tensor of it is named after the modules of an adapter in memory")
        found = self._model.load_adapter(str(adapter), adapter_name=slot, use_safetensors=True, local_files_only=True)
        if found.unexpected_keys or found.missing_keys:
            missing, strange = len(found.missing_keys), len(found.unexpected_keys)
            raise ValueError(
                f"{strange} of its tensors belong to no module of the base, and {missing} that its config promises are not in it"
            )
        self._model.eval()
        return slot

    def _load(self) -> None:
        """The base from its folder; nothing of what stood on it before is left."""
        self._forget()
        self._model = load_base(self.folder, dtype=self.dtype, device=self.device)
        _keep_head_fast(self._model)
        self.loads += 1
        # Held by identity: peft wraps modules and keeps their parameters.
        self._weights = [*self._model.parameters(), *self._model.buffers()]
        self._clean = self._writes()

    def _forget(self) -> None:
        self._model, self._weights = None, list[Any]()
        # By content: what peft calls the modules that hold it. And of these, what they are made for.
        self._resident: OrderedDict[str, str] = OrderedDict()
        self._shapes: dict[str, dict[str, Any]] = {}

    def _writes(self) -> list[int]:
        return [weight._version for weight in self._weights]  # noqa: SLF001 - torch's own count of in-place changes


def _kind(config: PeftConfig) -> tuple[str, int | None]:
    """What adapters must have in common to stand on one base: the method, and VeRA's key."""
    return str(config.peft_type), getattr(config, "projection_prng_key", None)


def _shape(config: PeftConfig) -> dict[str, Any]:
    """All that decides which modules an adapter has and how they work; taken before peft fills the config in."""
    return {key: value for key, value in asdict(config).items() if key not in {"base_model_name_or_path", "revision"}}


def _keep_head_fast(model: Any) -> None:
    """`logits_to_keep` hands the head a part of a tensor, and of such a part torch multiplies row by row with a copy of the whole head for each."""
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(lambda _module, given: (given[0].contiguous(), *given[1:]))


def _check(adapter: Path) -> None:
    """What a config may say, by the rules of `config_gate`. It may leave out which base it was trained on: here the tensors tell."""
    try:
        raw = (adapter / CONFIG_FILE).read_bytes()
    except OSError as error:
        raise AdapterUndecodable(f"{CONFIG_FILE} is missing") from error
    try:
        config = json.loads(raw)
    except ValueError:
        config = None
    if isinstance(config, dict):
        named = {key: config.get(key) or "not named" for key in ("base_model_name_or_path", "revision")}
        raw = json.dumps(config | named).encode()
    if check_config(raw, expected_base=None, expected_commit=None).task_type == CLASSIFIES:
        raise VersionClassifies("The adapter")


def _first_line(refusal: Exception) -> str:
    lines = [line.strip() for line in str(refusal).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(refusal).__name__
