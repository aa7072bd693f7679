"""The memory and time of a training or fine-tuning step on one of many devices, term by term.

Full training, LoRA (Hu et al. 2021) and QLoRA (Dettmers et al. 2023); ZeRO stages 1 to 3 share optimiser states,
gradients and weights out over the data-parallel devices (Rajbhandari et al. 2020, arXiv 1910.02054; FSDP is stage 3),
tensor parallelism shares a layer out, pipeline parallelism the layers.

Precision: `mixed` holds an fp32 master beside half weights, `pure` none, `fp32` is fp32. Adapters are kept in fp32, as
PEFT does. The states of an optimiser are fp32 but for `pure`, where they are as the weights.
"""

from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import Kept
from llamalab.analytic.step_memory import LargestMoment, largest_moment
from llamalab.analytic.training import rank_parameters, training_flops
from llamalab.analytic.tuned_weights import (
    frozen_bytes,
    largest_block_parameters,
    on_stage,
    state_bytes,
    trained_bytes,
    trained_parameters,
    update_bytes,
    written_out_bytes,
)
from llamalab.analytic.tuning import Tuning, check_tuning
from llamalab.checks import MOST_MEMORY_BYTES, whole
from llamalab.errors import DoesNotFitError
from llamalab.formatting import format_bytes
from llamalab.startup.hints import NamedTuple


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
    check_tuning(step)
    trained, base = trained_parameters(step), on_stage(step, rank_parameters(step.arch, step.tensor_parallel))
    half = 4 if step.precision == "fp32" else 2
    adapters = step.method != "full"
    shard_optimizer, shard_gradients, shard_weights = (
        step.data_parallel if step.zero >= stage else 1 for stage in (1, 2, 3)
    )
    held_bytes = trained_bytes(step, trained, half)
    stored = frozen_bytes(step) if adapters else base * half
    master = 4 * trained if step.precision == "mixed" and not adapters else 0
    # States are as what is trained; of a master in fp32 beside half weights, as the master.
    states = state_bytes(step, trained if step.precision == "mixed" and not adapters else held_bytes / 4)
    gradients = -(-held_bytes // shard_gradients)
    beyond = max(0, largest_of_step(step).peak_bytes - gradients)
    gathered = 2 * largest_block_parameters(step) * half if shard_weights > 1 else 0  # one in use, the next on its way
    master, states = -(-master // shard_optimizer), -(-states // shard_optimizer)
    host = (master + states if step.offload != "none" else 0) + (stored if step.offload == "weights" else 0)
    if step.offload != "none":
        master = states = 0
    if step.offload == "weights":
        stored, gathered = 0, max(gathered, 2 * largest_block_parameters(step) * half)
    return Held(
        -(-stored // shard_weights), held_bytes if adapters else 0, gradients, master, states, gathered, beyond, host
    )


def _shape(step: Tuning) -> PassShape:
    return PassShape(
        new_tokens=step.seq,
        batch=step.batch,
        dtype=step.dtype,
        attention=step.attention,
        tensor_parallel=step.tensor_parallel,
    )


def largest_of_step(step: Tuning) -> LargestMoment:
    """The largest moment of one device's pass, gradients included."""
    gradient_bytes = trained_bytes(step, trained_parameters(step), 4 if step.precision == "fp32" else 2)
    if step.zero >= 2:  # gradients are given to their owners as they come
        gradient_bytes = -(-gradient_bytes // step.data_parallel)
    return largest_moment(
        Kept(step.arch, _shape(step), step.implementation, sequence_parallel=step.sequence_parallel),
        recompute=step.recompute,
        lora=None if step.method == "full" else step.lora,
        layers=-(-step.arch.n_layers // step.pipeline_parallel),
        in_flight=step.pipeline_parallel,
        gradient_bytes=gradient_bytes,
        kept_gradients=step.accumulate > 1 or step.data_parallel > 1,
        update_bytes=update_bytes(step),
        dora=step.dora,
        frozen_input=step.method != "full" and not step.train_embeddings,
        written_out=written_out_bytes(step),
    )


def tuning_work(step: Tuning, *, peak_flops_per_s: float | None = None, utilisation: float = 0.4) -> Work:
    """FLOPs of a step on all devices, and its time where a peak is given.

    Frozen matrices need no gradient of their own: of the backward pass's two products for each one remains.
    """
    check_tuning(step)
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
