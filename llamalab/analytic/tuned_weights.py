"""Weights of a fine-tuning step on one device: trained ones, frozen ones, and the states of the optimiser."""

from llamalab.analytic.lora import lora_pairs
from llamalab.analytic.nf4 import NF4_BLOCK, nf4_bytes
from llamalab.analytic.optimizers import find_optimizer
from llamalab.analytic.parallel import elements_on_rank, shard
from llamalab.analytic.params import Weight, weights
from llamalab.analytic.tuning import Tuning
from llamalab.arch import LlamaArch
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes

EMBEDDING = "tok_embeddings.weight"
TABLES = (EMBEDDING, "output.weight")


class Stage(NamedTuple):
    """What a device of a pipeline has of the model: so many blocks, and what comes before or after them all.

    `in_flight` of its `passes` are those whose activations it keeps at once, one forward one backward (Narayanan et
    al. 2021).
    """

    layers: int
    in_flight: int
    first: bool
    last: bool
    passes: int = 1

    def share(self, weight: Weight, arch: LlamaArch) -> int:
        """Occurrences of a weight on this stage, the fullest of its kind."""
        if weight.name.startswith("layers."):
            return -(-weight.count * self.layers // arch.n_layers)
        ends = (
            self.first and weight.name == EMBEDDING,
            self.last and (weight.name != EMBEDDING or arch.tied_embeddings),
        )
        return weight.count * any(ends)


def stages(step: Tuning) -> tuple[Stage, ...]:
    """The stages that can be the fullest: the first keeps most passes, the last has the loss."""
    layers = -(-step.arch.n_layers // step.pipeline_parallel)
    if step.pipeline_parallel == 1:
        return (Stage(layers, 1, first=True, last=True),)
    waiting = min(step.pipeline_parallel, step.accumulate)
    return tuple(
        Stage(layers, waiting if first else 1, first=first, last=not first, passes=step.accumulate)
        for first in (True, False)
    )


def trained_parameters(step: Tuning) -> int:
    """Parameters of one device that are trained: all, or adapters, their magnitudes (DoRA) and the embeddings.

    Of a pipeline those of the stage that trains most.

    >>> from llamalab.analytic.lora import Lora
    >>> from llamalab.presets import PRESETS
    >>> trained_parameters(Tuning(PRESETS["7b"].arch, 1, method="lora", lora=Lora(16, ("q", "v"))))
    8388608
    """
    return max(trained_on(step, stage) for stage in stages(step))


def trained_on(step: Tuning, stage: Stage) -> int:
    """Those of one stage."""
    if step.method == "full":
        return stored_on(step, stage)
    assert step.lora is not None
    pairs = lora_pairs(step.arch, step.lora)
    adapters = sum(pair.parameters for pair in pairs)
    if step.dora:  # one magnitude for each output (Liu et al. 2024, arXiv 2402.09353)
        adapters += sum(pair.layers * pair.b_shape[0] for pair in pairs)
    shared = adapters * stage.layers
    return -(-shared // (step.tensor_parallel * step.arch.n_layers)) + _trained_tables(step, stage)


def stored_on(step: Tuning, stage: Stage) -> int:
    """Parameters of the model on one device of a stage."""
    part = shard(step.arch, step.tensor_parallel)
    return sum(stage.share(one, step.arch) * elements_on_rank(one, step.arch, part) for one in weights(step.arch))


def _trained_tables(step: Tuning, stage: Stage) -> int:
    """Parameters of embedding and head that are trained beside adapters; PEFT trains copies in the base's type."""
    if step.method == "full" or not step.train_embeddings:
        return 0
    part = shard(step.arch, step.tensor_parallel)
    tables = (one for one in weights(step.arch) if one.name in TABLES)
    return sum(stage.share(one, step.arch) * elements_on_rank(one, step.arch, part) for one in tables)


def trained_bytes(step: Tuning, stage: Stage) -> int:
    """Bytes of the weights that a stage trains; adapters are in fp32."""
    trained, tables, width = trained_on(step, stage), _trained_tables(step, stage), bytes_each(step)
    return width * trained if step.method == "full" else 4 * (trained - tables) + width * tables


def bytes_each(step: Tuning) -> int:
    """Bytes of a parameter of the model, and of its gradient."""
    return 4 if step.dtype == "fp32" else 2


def frozen_bytes(step: Tuning, stage: Stage) -> int:
    """The base of an adapter: in bf16 or fp32, or the matrices of the blocks in NF4 and all else in bf16."""
    total, part = 0, shard(step.arch, step.tensor_parallel)
    for weight in weights(step.arch):
        each = elements_on_rank(weight, step.arch, part)
        quantised = step.method == "qlora" and weight.name.startswith("layers.") and len(weight.shape) == 2
        size = nf4_bytes(each, twice=step.double_quant) if quantised else storage_bytes(each, step.dtype)
        total += stage.share(weight, step.arch) * size
    return total


def written_out_bytes(step: Tuning) -> int:
    """The largest quantised matrix, widened for a product, and double-quantised scales in fp32; 0 without QLoRA."""
    if step.method != "qlora":
        return 0
    blocks = [weight for weight in weights(step.arch) if weight.name.startswith("layers.") and len(weight.shape) == 2]
    elements = max(weight.parameters // weight.count for weight in blocks) // step.tensor_parallel
    return storage_bytes(elements, step.dtype) + (4 * -(-elements // NF4_BLOCK) if step.double_quant else 0)


def state_bytes(step: Tuning, stage: Stage, fp32_elements: float) -> int:
    """States of a stage's trained parameters, which count as so many in fp32."""
    optimizer, trained = find_optimizer(step.optimizer), trained_on(step, stage)
    if not optimizer.factored:
        return round(optimizer.state_bytes * (fp32_elements if optimizer.state_bytes >= 4 else trained))
    shapes = [
        (one.shape, stage.share(one, step.arch))
        for one in weights(step.arch)
        if step.method == "full" or (step.train_embeddings and one.name in TABLES)
    ]
    if step.lora is not None:
        blocks = [
            (pair, -(-pair.layers * stage.layers // step.arch.n_layers)) for pair in lora_pairs(step.arch, step.lora)
        ]
        shapes += [(shape, count) for pair, count in blocks for shape in (pair.a_shape, pair.b_shape)]
    factors = sum(sum(shape) * count for shape, count in shapes)
    return round(4 * factors * fp32_elements / trained) // step.tensor_parallel


def largest_block_parameters(step: Tuning) -> int:
    """Parameters of one block on one device, every expert of it included."""
    experts = step.arch.experts.n_experts if step.arch.experts else 1
    return (
        sum(
            weight.parameters // weight.count * (experts if ".experts." in weight.name else 1)
            for weight in weights(step.arch)
            if weight.name.startswith("layers.")
        )
        // step.tensor_parallel
    )


def update_bytes(step: Tuning) -> int:
    """Temporaries of an update for its largest tensor: its fp32 gradient for a master, and the optimiser's copies."""
    optimizer, dim, ffn_dim = find_optimizer(step.optimizer), step.arch.dim, step.arch.ffn_dim
    copies = 0 if step.fused_optimizer else optimizer.copies
    if step.lora is not None:
        return 4 * copies * step.lora.rank * max(dim, ffn_dim)
    elements = dim * max(step.arch.vocab_size, ffn_dim) // step.tensor_parallel
    if step.precision == "mixed":  # one tensor at a time: its gradient is widened and freed
        return storage_bytes(max(copies, 1) * elements, "fp32") - storage_bytes(elements, step.dtype)
    if optimizer.copies_wide:  # and of a half type the weight, widened
        return storage_bytes((copies + (copies > 0 and step.dtype != "fp32")) * elements, "fp32")
    return storage_bytes(copies * elements, step.dtype)
