"""What is trained, and how it begins. A pure table: which of these go together, and what they become when sealed."""

from enum import StrEnum

# What an adapter_config.json may say (adapters/config_gate.py), so what a sealed adapter may have.
MOST_RANK = 512
# The one word in place of module names: every linear module but the output head, or those that peft recommends for the base's family.
ALL_LINEAR, SUGGESTED = "all-linear", "suggested"
# Of the matrices of an adapter, unless a plan says otherwise.
USUAL_RANK = 16


class Method(StrEnum):
    """What is trained: LoRA's two matrices; with DoRA a magnitude too; AdaLoRA moves rank to where it helps; IA3 and VeRA train vectors.

    `full` trains every weight of the base itself. What it seals is the weights of a model, and no adapter.
    """

    LORA = "lora"
    DORA = "dora"
    ADALORA = "adalora"
    IA3 = "ia3"
    VERA = "vera"
    FULL = "full"


class Init(StrEnum):
    """How LoRA's matrices begin: B is zero, or both come from the base's own weights (PiSSA: singular vectors; OLoRA: QR)."""

    ZERO = "zero"
    PISSA = "pissa"
    OLORA = "olora"


class Quantisation(StrEnum):
    """How the frozen matrices of the layers are stored: as they compute, in 8 bits (LLM.int8), or in 4-bit NF4 (QLoRA)."""

    NONE = "none"
    INT8 = "int8"
    NF4 = "nf4"


class TrainingTask(StrEnum):
    """What the base learns to do: go on with a text, or say which class of a list a text belongs to."""

    CAUSAL_LM = "causal-lm"
    SEQUENCE_CLASSIFICATION = "sequence-classification"


_WITH_A_AND_B = (Method.LORA, Method.DORA)


def clashes(
    *,
    method: Method,
    init: Init,
    rank: int,
    use_rslora: bool,
    lora_plus_ratio: float | None,
    dropout: float,
    patterns: bool,
    quantisation: Quantisation = Quantisation.NONE,
    task: TrainingTask = TrainingTask.CAUSAL_LM,
    must_pack: bool = False,
) -> list[str]:
    """Why these cannot be one run, in sentences; empty where they can. `patterns`: whether some modules have a rank or alpha of their own."""
    found = []
    if task is TrainingTask.SEQUENCE_CLASSIFICATION and init is not Init.ZERO:
        found.append(f"The initialisation {init} is two adapters side by side while it trains, and peft trains a head with one.")
    if task is TrainingTask.SEQUENCE_CLASSIFICATION and method is Method.FULL:
        found.append("Full fine-tuning is the baseline of language models; a classifier is an adapter and its head.")
    if task is TrainingTask.SEQUENCE_CLASSIFICATION and must_pack:
        found.append("A classifier reads one place of each row of a batch, so its rows are padded and not packed.")
    if init is not Init.ZERO and method is not Method.LORA:
        found.append(f"The initialisation {init} is one of plain LoRA, not of {method}.")
    if use_rslora and method not in _WITH_A_AND_B:
        found.append(f"The rank-stabilised scale is one of LoRA and DoRA, not of {method}.")
    if lora_plus_ratio is not None and method not in _WITH_A_AND_B:
        found.append(f"LoRA+ has a rate for A and one for B, which {method} does not train as LoRA does.")
    if patterns and method not in _WITH_A_AND_B:
        found.append(f"Ranks and alphas by module are for LoRA and DoRA, not for {method}.")
    if dropout and method is Method.IA3:
        found.append("IA3 has no dropout: it scales activations and adds nothing.")
    if method is Method.FULL:
        found += _clashes_of_full(dropout, quantisation)
    if init is not Init.ZERO and quantisation is not Quantisation.NONE:
        found.append(f"The initialisation {init} takes apart weights that quantisation has rounded away: choose one of the two.")
    if method is Method.DORA and quantisation is not Quantisation.NONE:
        found.append("DoRA learns the lengths of the rounded weights, which are not those of the base that the adapter is served on.")
    if method is Method.IA3 and quantisation is not Quantisation.NONE:
        found.append(
            "peft's IA3 does not keep the base's precision over quantised matrices, and the layers behind them refuse the other one."
        )
    if (sealed := sealed_rank(method, init, rank)) > MOST_RANK:
        found.append(f"Rank {rank} with {method} and the initialisation {init} is sealed as rank {sealed}, and {MOST_RANK} is the most.")
    return found


def _clashes_of_full(dropout: float, quantisation: Quantisation) -> list[str]:
    found = []
    if dropout:
        found.append("The dropout is one of adapters; full fine-tuning has that of the base's own configuration.")
    if quantisation is not Quantisation.NONE:
        found.append(f"Full fine-tuning trains the base's weights, and those in {quantisation} are rounded and cannot be trained.")
    return found


def first_rank(rank: int) -> int:
    """The rank with which AdaLoRA begins every module: half as much again as it ends with on average (Zhang et al. 2023, section 4)."""
    return -(-3 * rank // 2)


def sealed_rank(method: Method, init: Init, rank: int) -> int:
    """The highest rank of a module in the sealed adapter.

    What is trained from the base's own weights is sealed as a LoRA of twice the rank on the unchanged base; AdaLoRA may leave a module all it began with.
    """
    if method is Method.ADALORA:
        return first_rank(rank)
    return rank if init is Init.ZERO else 2 * rank
