"""Weights of a fine-tuning step on one device: trained ones, frozen ones, and the states of the optimiser."""

from llamalab.analytic.lora import lora_pairs
from llamalab.analytic.nf4 import NF4_BLOCK, nf4_bytes
from llamalab.analytic.optimizers import find_optimizer
from llamalab.analytic.params import Weight, weights
from llamalab.analytic.training import rank_parameters
from llamalab.analytic.tuning import Tuning
from llamalab.units import storage_bytes


def trained_parameters(step: Tuning) -> int:
    """Parameters of one device that are trained: all, or adapters, their magnitudes (DoRA) and the embeddings.

    >>> from llamalab.analytic.lora import Lora
    >>> from llamalab.presets import PRESETS
    >>> trained_parameters(Tuning(PRESETS["7b"].arch, 1, method="lora", lora=Lora(16, ("q", "v"))))
    8388608
    """
    if step.method == "full":
        return on_stage(step, rank_parameters(step.arch, step.tensor_parallel))
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


def trained_bytes(step: Tuning, trained: int, width: int) -> int:
    """Bytes of trained weights, with `width` bytes for a parameter of the model; adapters are in fp32."""
    tables = _trained_tables(step)
    return width * trained if step.method == "full" else 4 * (trained - tables) + width * tables


def _is_table(weight: Weight) -> bool:
    return weight.name in ("tok_embeddings.weight", "output.weight")


def on_stage(step: Tuning, parameters: int) -> int:
    """Those of the fullest pipeline stage: a share of the blocks, and the larger of embedding and head."""
    stages = step.pipeline_parallel
    if stages == 1:
        return parameters
    tables = [weight.parameters // step.tensor_parallel for weight in weights(step.arch) if _is_table(weight)]
    return -(-(parameters - sum(tables)) // stages) + max(tables)


def frozen_bytes(step: Tuning) -> int:
    """The base of an adapter: in bf16 or fp32, or the matrices of the blocks in NF4 and all else in bf16."""
    total = 0
    for weight in weights(step.arch):
        block = weight.name.startswith("layers.")
        share = step.tensor_parallel if len(weight.shape) == 2 else 1
        each = -(-weight.parameters // (weight.count * share))
        quantised = step.method == "qlora" and block and len(weight.shape) == 2
        size = nf4_bytes(each, twice=step.double_quant) if quantised else storage_bytes(each, step.dtype)
        total += -(-weight.count // step.pipeline_parallel) * size if block else size
    return total


def written_out_bytes(step: Tuning) -> int:
    """The largest quantised matrix, widened for a product, and double-quantised scales in fp32; 0 without QLoRA."""
    if step.method != "qlora":
        return 0
    blocks = [weight for weight in weights(step.arch) if weight.name.startswith("layers.") and len(weight.shape) == 2]
    elements = max(weight.parameters // weight.count for weight in blocks) // step.tensor_parallel
    return storage_bytes(elements, step.dtype) + (4 * -(-elements // NF4_BLOCK) if step.double_quant else 0)


def state_bytes(step: Tuning, fp32_elements: float) -> int:
    """States of trained parameters that count as so many in fp32."""
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


def largest_block_parameters(step: Tuning) -> int:
    """Parameters of one block on one device."""
    blocks = [weight for weight in weights(step.arch) if weight.name.startswith("layers.")]
    return sum(weight.parameters // weight.count for weight in blocks) // step.tensor_parallel


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
