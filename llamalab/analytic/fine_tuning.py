"""The memory and time of a training or fine-tuning step on one of many devices, term by term.

Full training, LoRA (Hu et al. 2021) and QLoRA (Dettmers et al. 2023); ZeRO stages 1 to 3 shard optimiser states,
gradients and weights over the data-parallel devices (Rajbhandari et al. 2020, arXiv 1910.02054; FSDP is stage 3),
tensor parallelism splits each layer, pipeline parallelism the layers.

Precision: `mixed` has an fp32 master beside half weights, `masters` one whose gradients are accumulated in fp32,
`pure` none, `fp32` is fp32. Adapters are in fp32, as in PEFT. The states of an optimiser are fp32 except for `pure`,
where they have the dtype of the weights.
"""

from llamalab.analytic.packing import taught_tokens
from llamalab.analytic.params import weights
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import Kept
from llamalab.analytic.shared_steps import Lent
from llamalab.analytic.step_memory import LargestMoment, largest_moment
from llamalab.analytic.training import training_flops
from llamalab.analytic.training_margin import Margin, training_margin
from llamalab.analytic.tuned_weights import (
    Stage,
    bytes_each,
    frozen_bytes,
    largest_block_parameters,
    stages,
    state_bytes,
    stored_on,
    trained_bytes,
    trained_on,
    trained_parameters,
    update_bytes,
    written_out_bytes,
)
from llamalab.analytic.tuning import Tuning, check_tuning
from llamalab.startup.hints import NamedTuple


class Held(NamedTuple):
    """Bytes of one device at the largest moment of a step, and bytes offloaded to the host."""

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

    @property
    def margin(self) -> Margin:
        """What must be free beside it."""
        return training_margin(self.total_bytes, self.gathered_bytes + self.activation_bytes)

    @property
    def safe_bytes(self) -> int:
        """The memory in which the step is stated to fit: the sum and its margin."""
        return self.total_bytes + self.margin.total_bytes


class Work(NamedTuple):
    """Matrix FLOPs of one step over all devices, and their time at a utilisation.

    `tokens` include padding, `taught_tokens` do not; the rate is of the latter.
    """

    flops: int
    tokens: int
    taught_tokens: int
    step_s: float | None
    tokens_per_s: float | None


def tuning_memory(step: Tuning) -> Held:
    """Bytes of one device. Raises InputError and UnknownNameError for an invalid step.

    >>> from llamalab.presets import PRESETS
    >>> held = tuning_memory(Tuning(PRESETS["7b"].arch, 4096))
    >>> sum(held[:5]) / 6_738_415_616
    16.0
    """
    check_tuning(step)
    return _with_wide_gradients(step) if step.precision == "masters" else _fullest(step)[0]


def _fullest(step: Tuning, of: Tuning | None = None) -> tuple[Held, LargestMoment]:
    """Of the stages that can be the fullest the one that is; those of another step where one is given."""
    return max((_held(step, stage) for stage in stages(of or step)), key=lambda one: one[0].total_bytes)


def _with_wide_gradients(step: Tuning) -> Held:
    """For masters whose gradients are accumulated in fp32 while the model's are freed, as in llamalab.train.

    They exist during the next pass, or at the end of the only one, when activations are freed.
    """
    held = _fullest(step._replace(precision="mixed", accumulate=1), step)[0]
    wide = -(-4 * trained_parameters(step) // (step.data_parallel if step.zero >= 2 else 1))
    if step.accumulate > 1:
        return held._replace(gradient_bytes=held.gradient_bytes + wide)
    at_end = held._replace(gradient_bytes=wide, activation_bytes=0)
    return max(held, at_end, key=lambda one: one.total_bytes)


def _held(step: Tuning, stage: Stage) -> tuple[Held, LargestMoment]:
    """What a device of a stage holds, and the moment of it."""
    trained, half, adapters = trained_on(step, stage), bytes_each(step), step.method != "full"
    shard_optimizer, shard_gradients, shard_weights = (
        step.data_parallel if step.zero >= level else 1 for level in (1, 2, 3)
    )
    held_bytes = trained_bytes(step, stage)
    stored = frozen_bytes(step, stage) if adapters else stored_on(step, stage) * half
    master = 4 * trained if step.precision == "mixed" and not adapters else 0
    # States have the dtype of what is trained; with an fp32 master, that of the master.
    states = state_bytes(step, stage, trained if step.precision == "mixed" and not adapters else held_bytes / 4)
    gradients = -(-held_bytes // shard_gradients)
    largest = _largest_of_stage(step, stage)
    beyond = max(0, largest.peak_bytes - largest.lent_bytes - gradients)
    gathered = largest.peak_bytes - beyond - gradients  # gradients that are not there yet leave room for it
    master, states = -(-master // shard_optimizer), -(-states // shard_optimizer)
    host = (master + states if step.offload != "none" else 0) + (stored if step.offload == "weights" else 0)
    if step.offload != "none":
        master = states = 0
    if step.offload == "weights":
        stored, gathered = 0, max(gathered, 2 * largest_block_parameters(step) * half)
    sizes = (-(-stored // shard_weights), held_bytes if adapters else 0, gradients, master, states)
    return Held(*sizes, gathered, beyond, host), largest


def _lent_bytes(step: Tuning, stage: Stage) -> Lent:
    """Bytes gathered by stage 3, as in fully_shard (FSDP2) of each block."""
    if step.zero < 3 or step.data_parallel == 1:
        return Lent()
    half, arch = bytes_each(step), step.arch
    outside = sum(
        one.parameters * stage.share(one, arch) for one in weights(arch) if not one.name.startswith("layers.")
    )
    block, trained = half * largest_block_parameters(step), step.method == "full"
    return Lent(half * outside // step.tensor_parallel, block, block * trained)


def _shape(step: Tuning) -> PassShape:
    return PassShape(
        new_tokens=step.seq,
        batch=step.batch,
        dtype=step.dtype,
        attention=step.attention,
        tensor_parallel=step.tensor_parallel,
    )


def largest_of_step(step: Tuning) -> LargestMoment:
    """The largest moment of the fullest device's pass, gradients included."""
    return _fullest(step)[1]


def _largest_of_stage(step: Tuning, stage: Stage) -> LargestMoment:
    gradient_bytes = trained_bytes(step, stage)
    if step.zero >= 2:  # gradients are reduced as they are computed
        gradient_bytes = -(-gradient_bytes // step.data_parallel)
    return largest_moment(
        Kept(
            step.arch,
            _shape(step),
            step.implementation,
            sequence_parallel=step.sequence_parallel,
            documents=step.documents,
        ),
        recompute=step.recompute,
        lora=None if step.method == "full" else step.lora,
        stage=stage,
        gradient_bytes=gradient_bytes,
        # Reduced in buckets, which persist; sharded gradients are allocated at their reduction.
        kept_gradients=step.accumulate > 1 or (step.data_parallel > 1 and step.zero < 3),
        update_bytes=update_bytes(step),
        dora=step.dora,
        frozen_input=step.method != "full" and not step.train_embeddings and stage.first,
        written_out=written_out_bytes(step),
        widens=step.on_cpu,
        lent=_lent_bytes(step, stage),
    )


def tuning_work(step: Tuning, *, peak_flops_per_s: float | None = None, utilisation: float = 0.4) -> Work:
    """FLOPs of a step on all devices, and its time where a peak is given.

    Frozen matrices need no gradient of their own: of the backward pass's two products for each one remains.
    """
    check_tuning(step)
    # Of the whole model, whatever the split.
    shape = _shape(step)._replace(tensor_parallel=1)
    flops = training_flops(step.arch, shape, recompute=step.recompute, documents=step.documents)
    backward = flops.backward if step.method == "full" else flops.backward - flops.forward
    passes = step.data_parallel * step.accumulate
    total = passes * (flops.forward + backward + flops.recomputed)
    tokens = passes * step.batch * step.seq
    taught = passes * step.batch * taught_tokens(step.seq, step.documents)
    if peak_flops_per_s is None:
        return Work(total, tokens, taught, None, None)
    devices = step.data_parallel * step.tensor_parallel * step.pipeline_parallel
    step_s = total / (peak_flops_per_s * utilisation * devices)
    return Work(total, tokens, taught, step_s, taught / step_s)
