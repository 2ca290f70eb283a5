"""Peak memory of a training step, term by term, from a shape and a workload. Comes after shapes.py. Pure.

All results are bytes of one device. What autograd keeps is counted from what the backward pass of each operation needs; a frozen matrix
needs no input for it, so under LoRA only adapted matrices keep theirs (Hu et al. 2021, arXiv:2106.09685, section 4.2). Mixed precision
and optimiser: Rajbhandari et al. 2020, "ZeRO", arXiv:1910.02054, section 3. How far this is from real runs: docs/preflight.md.
"""

from collections.abc import Iterable

from ringi.jobs.contracts.methods import Quantisation
from ringi.preflight.families import Linear
from ringi.preflight.schemas import Gpu, Memory, MemoryTerm, Precision, Trained, Workload
from ringi.preflight.shapes import Shape

MIB = 2**20
_FP32, _BF16 = 4, 2
# Of weights that share one constant, and of blocks whose constants share one: QLoRA, arXiv:2305.14314, sections 3 and 4 (double quantisation).
_NF4_BLOCK, _NF4_OUTER = 64, 256
# An assumption, not a formula: context, kernels and cuBLAS workspaces of one process on a data-centre card take 0.4 to 0.8 GiB.
CUDA_CONTEXT = 600 * MIB
# Interpreter and libraries of a worker process on a CPU: measured (docs/preflight.md).
CPU_PROCESS = 590 * MIB
# What a CPU process holds for each byte that autograd keeps, measured as well: the C allocator gives freed blocks back late and in pieces that fit nothing.
_CPU_HEAP = 1.6


def memory_of(shape: Shape, work: Workload, *, device: Gpu | None = None) -> Memory:
    """The table of terms; `device` decides the process's own share and whether attention with dropout keeps its probabilities."""
    on_cpu = device is Gpu.CPU
    trainable = trainable_parameters(shape, work)
    full = work.method is Trained.FULL
    activations = activation_bytes(shape, work, keeps_probabilities=on_cpu)
    terms = [
        MemoryTerm(name="base weights", bytes=weight_bytes(shape, work), certain=True, about=_about_weights(work)),
        MemoryTerm(name="gradients", bytes=_FP32 * trainable, certain=True, about="4 bytes a trainable parameter"),
        MemoryTerm(name="AdamW states", bytes=2 * _FP32 * trainable, certain=True, about="two moments of 4 bytes a trainable parameter"),
        MemoryTerm(
            name="activations", bytes=round(_CPU_HEAP * activations) if on_cpu else activations, certain=False,
            about=f"{work.batch_size} rows of {work.max_length} tokens" + (", one layer at a time" if work.checkpointing else ", all layers"),
        ),
        MemoryTerm(name="logits and buffers", bytes=step_bytes(shape, work), certain=False, about="the larger of loss and backward of one layer"),
        MemoryTerm(
            name="process" if on_cpu else "CUDA context", bytes=CPU_PROCESS if on_cpu else CUDA_CONTEXT, certain=True,
            about="measured on a CPU worker" if on_cpu else "assumed: context, kernels, cuBLAS workspaces",
        ),
    ]  # fmt: skip
    if not full:
        terms.insert(1, MemoryTerm(name="adapter", bytes=_FP32 * trainable, certain=True, about="float32 over any base"))
    if on_cpu and work.keeps_best:
        terms.append(MemoryTerm(name="best weights", bytes=_FP32 * trainable, certain=True, about="a copy, for early stopping"))
    return Memory(terms=terms, total=sum(one.bytes for one in terms), least=sum(one.bytes for one in terms if one.certain))


def trainable_parameters(shape: Shape, work: Workload) -> int:
    """Parameters that get a gradient: all of them, or A and B, and the head of a classifier, which is new."""
    if work.method is Trained.FULL:
        return shape.parameters
    head = shape.head_parameters if shape.classifies else 0
    return shape.lora_parameters(rank=work.rank, targets=work.target_modules) + head


def snapshot_bytes(work: Workload, trainable: int) -> int:
    """Bytes of one snapshot: the trained parameters and two moments of each in float32, and the best weights where they are kept."""
    return (3 + work.keeps_best) * _FP32 * trainable


def weight_bytes(shape: Shape, work: Workload) -> int:
    """Bytes of the base as it is held.

    float32 4, bfloat16 2 a parameter. 8-bit: 1 a weight and one float32 scale a row (Dettmers et al. 2022, LLM.int8(), arXiv:2208.07339).
    NF4: half a byte a weight, an 8-bit constant a block of 64, a float32 a block of 256 constants. Quantised are the matrices of the layers;
    embeddings, norms, biases and the head stay as they compute. Full fine-tuning holds float32 weights, and under bfloat16 a cast copy of
    the matrices beside them (autocast keeps it until the step ends).
    """
    compute = _compute_bytes(work)
    matrices = shape.matrix_parameters
    if work.method is Trained.FULL:
        return _FP32 * shape.parameters + (_BF16 * matrices if work.precision is Precision.BF16 else 0)
    if work.quantisation is Quantisation.NONE:
        return compute * shape.parameters
    rest = compute * (shape.parameters - matrices)
    return rest + shape.layers * sum(_quantised(one, work.quantisation, compute) for one in shape.linears)


def _quantised(one: Linear, how: Quantisation, compute: int) -> int:
    weights = one.inputs * one.outputs
    bias = compute * one.outputs if one.bias else 0
    if how is Quantisation.INT8:
        return weights + _FP32 * one.outputs + bias
    blocks = -(-weights // _NF4_BLOCK)
    return -(-weights // 2) + blocks + _FP32 * -(-blocks // _NF4_OUTER) + bias


def activation_bytes(shape: Shape, work: Workload, *, keeps_probabilities: bool = False) -> int:
    """What forward keeps for backward, bytes: tokens x layers x bytes a token and layer; with checkpointing (Chen et al. 2016,
    arXiv:1604.06174) the input of every layer and one whole layer.
    """
    tokens = work.batch_size * work.max_length
    layer = tokens * _layer_bytes(shape, work) + _probability_bytes(shape, work, kept=keeps_probabilities)
    compute = _compute_bytes(work)
    # The mask of a padded or packed batch, one byte a pair of positions, and its form that the kernel adds.
    mask = work.batch_size * work.max_length**2 * (1 + compute)
    ends = tokens * shape.hidden * (_FP32 + compute)
    if work.checkpointing:
        return shape.layers * tokens * shape.hidden * compute + layer + ends + mask
    return shape.layers * layer + ends + mask


def _layer_bytes(shape: Shape, work: Workload) -> int:
    """Bytes a token that one layer keeps.

    Each norm keeps its input in float32. Attention keeps q, k and v, k and v once a head (a mask makes them repeat), and its result. The MLP
    keeps `mlp_saved` tensors of the inner size. An adapted matrix keeps its input: one for all that share it in float32, under
    autocast a cast one for each; and rank values. Dropout keeps a byte an element and the dropped input.
    """
    compute = _compute_bytes(work)
    attention = shape.heads * shape.head_dim
    found = shape.layout.wide_norms * shape.hidden * _FP32 + 4 * attention * compute + shape.layout.mlp_saved * shape.inner * compute
    if shape.layout.head_norms:
        found += (attention + shape.kv_heads * shape.head_dim) * _FP32
    if work.method is Trained.FULL:
        return found + (2 * shape.hidden + shape.inner) * compute + shape.layout.wide_norms * shape.hidden * compute
    adapted = shape.matched(work.target_modules)
    found += _input_bytes(adapted, work) + work.rank * compute * len(adapted)
    if work.dropout:
        found += sum(one.inputs for one in adapted) * (1 + compute)
    return found


def _input_bytes(adapted: Iterable[Linear], work: Workload) -> int:
    """Bytes a token of the inputs that the A matrices keep."""
    compute = _compute_bytes(work)
    if work.precision is Precision.BF16:
        return sum(one.inputs for one in adapted) * compute
    # What q, k and v share is one tensor; so is what gate and up share. The input of o_proj is the result of attention, counted already.
    out_of_attention = {"self_attn.o_proj", "attn.c_proj", "attention.output.dense"}
    kept = {(one.name.split(".")[0], one.inputs) for one in adapted if one.name not in out_of_attention}
    return sum(inputs for _, inputs in kept) * compute


def _probability_bytes(shape: Shape, work: Workload, *, kept: bool) -> int:
    """Attention probabilities of one layer, where its kernel keeps them: on a CPU with dropout inside attention (heads x length^2)."""
    if not kept or not shape.attention_dropout:
        return 0
    return work.batch_size * shape.heads * work.max_length**2 * (2 * _compute_bytes(work) + 1)


def step_bytes(shape: Shape, work: Workload) -> int:
    """Bytes that live for moments at the peak: at the loss, or in the backward pass of one layer, whichever is more.

    Loss: logits as they compute at the chosen positions, and three float32 tensors of the labelled ones (log-softmax, its gradient, the
    gradient of the logits). Layer: gradients of the MLP's tensors, and the dequantised largest matrix where weights are stored quantised.
    """
    compute = _compute_bytes(work)
    tokens = work.batch_size * work.max_length
    positions = min(work.logit_positions or tokens, tokens)
    labelled = positions
    if work.label_tokens_per_row is not None:
        labelled = min(positions, round(work.batch_size * work.label_tokens_per_row))
    outputs = shape.layout.head[1]
    loss = outputs * (positions * compute + 3 * labelled * _FP32) if not shape.classifies else 4 * work.batch_size * outputs * _FP32
    layer = tokens * (3 * shape.inner + 2 * shape.hidden) * compute
    if work.quantisation is not Quantisation.NONE:
        layer += max(one.inputs * one.outputs for one in shape.linears) * compute
    return max(loss, layer)


def _compute_bytes(work: Workload) -> int:
    return _FP32 if work.precision is Precision.FP32 else _BF16


def _about_weights(work: Workload) -> str:
    if work.method is Trained.FULL:
        return "float32" + (" and a bfloat16 copy of the matrices" if work.precision is Precision.BF16 else "")
    stored = {
        Quantisation.NONE: work.precision.value,
        Quantisation.INT8: "8-bit with a scale a row",
        Quantisation.NF4: "NF4 with its constants",
    }
    return stored[work.quantisation]
