"""The memory and time of a training or fine-tuning step on one of many devices, term by term.

Full training, LoRA (Hu et al. 2021) and QLoRA (Dettmers et al. 2023); ZeRO stages 1 to 3 share optimiser states,
gradients and weights out over the data-parallel devices (Rajbhandari et al. 2020, arXiv 1910.02054; FSDP is stage 3),
tensor parallelism shares a layer out, pipeline parallelism the layers.

Precision: `mixed` holds an fp32 master beside half weights, `pure` none, `fp32` is fp32. Adapters are kept in fp32, as
PEFT does. The states of an optimiser are fp32 but for `pure`, where they are as the weights.
"""

from llamalab.analytic.lora import Lora, lora_pairs
from llamalab.analytic.optimizers import NF4_BITS, NF4_DOUBLE_BITS, find_optimizer
from llamalab.analytic.params import Weight, weights
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import Kept
from llamalab.analytic.step_memory import LargestMoment, largest_moment
from llamalab.analytic.training import RECOMPUTE, rank_parameters, training_flops
from llamalab.arch import LlamaArch
from llamalab.checks import MOST_MEMORY_BYTES, whole
from llamalab.errors import DoesNotFitError, InputError, UnknownNameError
from llamalab.hints import NamedTuple
from llamalab.units import format_bytes, storage_bytes

METHODS = ("full", "lora", "qlora")
PRECISIONS = ("mixed", "pure", "fp32")
OFFLOADS = ("none", "optimizer", "weights")


class Tuning(NamedTuple):
    """A step: `batch` sequences of `seq` tokens a device and pass, `accumulate` passes, on data x tensor x pipeline."""

    arch: LlamaArch
    seq: int
    batch: int = 1
    method: str = "full"
    lora: Lora | None = None
    dora: bool = False
    train_embeddings: bool = False
    double_quant: bool = True
    precision: str = "mixed"
    optimizer: str = "adamw"
    fused_optimizer: bool = True
    attention: str = "flash"
    implementation: str = "hugging-face"
    recompute: str = "none"
    accumulate: int = 1
    zero: int = 0
    data_parallel: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    offload: str = "none"

    @property
    def dtype(self) -> str:
        """Of the forward pass."""
        return "fp32" if self.precision == "fp32" else "bf16"


class Held(NamedTuple):
    """Bytes of one device at the largest moment of a step, and what was moved to the host."""

    weight_bytes: int
    adapter_bytes: int
    gradient_bytes: int
    master_bytes: int
    optimizer_bytes: int
    gathered_bytes: int
    activation_bytes: int
    host_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it on the device."""
        return sum(self[:-1])


class Work(NamedTuple):
    """Matrix FLOPs of one step over all devices, and what they come to in time at a utilisation."""

    flops: int
    tokens: int
    step_s: float | None
    tokens_per_s: float | None


def tuning_memory(step: Tuning) -> Held:
    """What one device holds. Raises InputError and UnknownNameError for what is no step.

    >>> from llamalab.presets import PRESETS
    >>> held = tuning_memory(Tuning(PRESETS["7b"].arch, 4096))
    >>> sum(held[:5]) / 6_738_415_616
    16.0
    """
    _check(step)
    trained, base = trained_parameters(step), _on_stage(step, rank_parameters(step.arch, step.tensor_parallel))
    half = 4 if step.precision == "fp32" else 2
    adapters = step.method != "full"
    shard_optimizer, shard_gradients, shard_weights = (
        step.data_parallel if step.zero >= stage else 1 for stage in (1, 2, 3)
    )
    held_bytes = _trained_bytes(step, trained, half)
    stored = _frozen_bytes(step) if adapters else base * half
    master = 4 * trained if step.precision == "mixed" and not adapters else 0
    # States are as what is trained; of a master in fp32 beside half weights, as the master.
    states = _state_bytes(step, trained if step.precision == "mixed" and not adapters else held_bytes / 4)
    gradients = -(-held_bytes // shard_gradients)
    passing = _passing(step, held_bytes)
    beyond = max(0, passing.peak_bytes - gradients)
    gathered = 2 * _largest_block(step) * half if shard_weights > 1 else 0  # one in use, the next on its way
    master, states = -(-master // shard_optimizer), -(-states // shard_optimizer)
    host = (master + states if step.offload != "none" else 0) + (stored if step.offload == "weights" else 0)
    if step.offload != "none":
        master = states = 0
    if step.offload == "weights":
        stored, gathered = 0, max(gathered, 2 * _largest_block(step) * half)
    return Held(
        -(-stored // shard_weights), held_bytes if adapters else 0, gradients, master, states, gathered, beyond, host
    )


def trained_parameters(step: Tuning) -> int:
    """Parameters of one device that are trained: all, or adapters, their magnitudes (DoRA) and the embeddings.

    >>> from llamalab.presets import PRESETS
    >>> trained_parameters(Tuning(PRESETS["7b"].arch, 1, method="lora", lora=Lora(16, ("q", "v"))))
    8388608
    """
    if step.method == "full":
        return _on_stage(step, rank_parameters(step.arch, step.tensor_parallel))
    assert step.lora is not None
    pairs = lora_pairs(step.arch, step.lora)
    adapters = sum(pair.parameters for pair in pairs)
    if step.dora:  # one magnitude for each output (Liu et al. 2024, arXiv 2402.09353)
        adapters += sum(pair.layers * pair.b_shape[0] for pair in pairs)
    return -(-adapters // (step.tensor_parallel * step.pipeline_parallel)) + _trained_tables(step)


def _trained_tables(step: Tuning) -> int:
    """Parameters of embedding and head that are trained beside adapters; PEFT trains copies in the base's type."""
    if step.method == "full" or not step.train_embeddings:
        return 0
    return sum(weight.parameters for weight in weights(step.arch) if _is_table(weight))


def _trained_bytes(step: Tuning, trained: int, width: int) -> int:
    """Of what is trained, with `width` bytes for a parameter of the model; adapters are in fp32."""
    tables = _trained_tables(step)
    return width * trained if step.method == "full" else 4 * (trained - tables) + width * tables


def _is_table(weight: Weight) -> bool:
    return weight.name in ("tok_embeddings.weight", "output.weight")


def _on_stage(step: Tuning, parameters: int) -> int:
    """Those of the fullest pipeline stage: a share of the blocks, and the larger of embedding and head."""
    stages = step.pipeline_parallel
    if stages == 1:
        return parameters
    tables = [weight.parameters // step.tensor_parallel for weight in weights(step.arch) if _is_table(weight)]
    return -(-(parameters - sum(tables)) // stages) + max(tables)


def _frozen_bytes(step: Tuning) -> int:
    """The base of an adapter: in bf16 or fp32, or the matrices of the blocks in NF4 and all else in bf16."""
    total = 0.0
    for weight in weights(step.arch):
        share = step.tensor_parallel if len(weight.shape) == 2 else 1
        elements = weight.parameters / share / (step.pipeline_parallel if weight.name.startswith("layers.") else 1)
        quantised = step.method == "qlora" and weight.name.startswith("layers.") and len(weight.shape) == 2
        bits = (NF4_DOUBLE_BITS if step.double_quant else NF4_BITS) if quantised else 32 if step.dtype == "fp32" else 16
        total += elements * bits / 8
    return round(total)


def _state_bytes(step: Tuning, fp32_elements: float) -> int:
    """Of trained parameters that count as so many in fp32."""
    optimizer = find_optimizer(step.optimizer)
    if not optimizer.factored:
        elements = fp32_elements if optimizer.state_bytes >= 4 else trained_parameters(step)
        return round(optimizer.state_bytes * elements)
    shapes = [
        (w.shape, w.count)
        for w in weights(step.arch)
        if step.method == "full" or (_trained_tables(step) and _is_table(w))
    ]
    if step.lora is not None:
        shapes += [
            (shape, pair.layers) for pair in lora_pairs(step.arch, step.lora) for shape in (pair.a_shape, pair.b_shape)
        ]
    factors = sum(sum(shape) * count for shape, count in shapes)
    return round(4 * factors * fp32_elements / trained_parameters(step)) // (
        step.tensor_parallel * step.pipeline_parallel
    )


def _largest_block(step: Tuning) -> int:
    blocks = [weight for weight in weights(step.arch) if weight.name.startswith("layers.")]
    return sum(weight.parameters // weight.count for weight in blocks) // step.tensor_parallel


def _shape(step: Tuning) -> PassShape:
    return PassShape(
        new_tokens=step.seq,
        batch=step.batch,
        dtype=step.dtype,
        attention=step.attention,
        tensor_parallel=step.tensor_parallel,
    )


def _passing(step: Tuning, gradient_bytes: int) -> "LargestMoment":
    return largest_moment(
        Kept(step.arch, _shape(step), step.implementation),
        recompute=step.recompute,
        lora=None if step.method == "full" else step.lora,
        layers=-(-step.arch.n_layers // step.pipeline_parallel),
        in_flight=step.pipeline_parallel,
        gradient_bytes=gradient_bytes,
        kept_gradients=step.accumulate > 1 or step.data_parallel > 1,
        update_copies=0 if step.fused_optimizer else find_optimizer(step.optimizer).copies,
        dora=step.dora,
        frozen_input=step.method != "full" and not step.train_embeddings,
    )


def tuning_work(step: Tuning, *, peak_flops_per_s: float | None = None, utilisation: float = 0.4) -> Work:
    """FLOPs of a step on all devices, and its time where a peak is given.

    Frozen matrices need no gradient of their own: of the backward pass's two products for each one remains.
    """
    _check(step)
    # Of the whole model, whatever shares it.
    flops = training_flops(step.arch, _shape(step)._replace(tensor_parallel=1), recompute=step.recompute)
    backward = flops.backward if step.method == "full" else flops.backward - flops.forward
    passes = step.data_parallel * step.accumulate
    total = passes * (flops.forward + backward + flops.recomputed)
    tokens = passes * step.batch * step.seq
    if peak_flops_per_s is None:
        return Work(total, tokens, None, None)
    devices = step.data_parallel * step.tensor_parallel * step.pipeline_parallel
    step_s = total / (peak_flops_per_s * utilisation * devices)
    return Work(total, tokens, step_s, tokens / step_s)


def largest_tuning_batch(step: Tuning, memory_bytes: int) -> int:
    """Sequences a device and pass that fit; 0 where not one does."""
    memory_bytes, low, high = whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES), 0, 1
    while high < 2**20 and tuning_memory(step._replace(batch=high)).total_bytes <= memory_bytes:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = tuning_memory(step._replace(batch=middle)).total_bytes <= memory_bytes
        low, high = (middle, high) if fits else (low, middle)
    return low


def check_tuning_fits(step: Tuning, memory_bytes: int, where: str) -> Held:
    """What a device holds. Raises DoesNotFitError with the missing bytes."""
    held = tuning_memory(step)
    short = held.total_bytes - whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES)
    if short > 0:
        raise DoesNotFitError(
            f"the step must fit into {where}: it holds {format_bytes(held.total_bytes)} of "
            f"{format_bytes(memory_bytes)}, {format_bytes(short)} ({short:,} bytes) too much; try full recomputation, "
            "a smaller batch, LoRA or QLoRA, ZeRO over more devices, or offloading"
        )
    return held


def _check(step: Tuning) -> None:
    for what, given, known in (
        ("method", step.method, METHODS),
        ("precision", step.precision, PRECISIONS),
        ("recompute", step.recompute, RECOMPUTE),
        ("offload", step.offload, OFFLOADS),
    ):
        if given not in known:
            raise UnknownNameError(what, given, known)
    for name in ("seq", "batch", "accumulate", "data_parallel", "tensor_parallel", "pipeline_parallel"):
        whole(getattr(step, name), name)
    for name in ("dora", "train_embeddings", "double_quant", "fused_optimizer"):
        if not isinstance(getattr(step, name), bool):
            raise InputError(f"{name} must be True or False; got {getattr(step, name)!r}")
    if whole(step.zero, "the ZeRO stage", least=0) > 3:
        raise InputError(f"the ZeRO stage must be from 0 to 3; got {step.zero}")
    if (step.method != "full") != (step.lora is not None):
        raise InputError(f"rank and targets must be given for lora and qlora, and for them alone; got {step.method}")
    if step.arch.n_layers < step.pipeline_parallel:
        raise InputError(
            f"pipeline stages must be at most the {step.arch.n_layers} layers; got {step.pipeline_parallel}"
        )
    find_optimizer(step.optimizer)
    storage_bytes(0, step.dtype)
