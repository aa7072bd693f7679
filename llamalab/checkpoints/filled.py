"""A model filled with the weights of a checkpoint, all its blocks or the first of them."""

from math import prod

import torch

from llamalab.checkpoints.checkpoint import Weights, model_shapes
from llamalab.checkpoints.quantised import quantised_weights
from llamalab.errors import DoesNotFitError
from llamalab.formatting import format_bytes
from llamalab.model import Transformer
from llamalab.model.dtypes import activation_dtype, torch_device
from llamalab.model.quantised.linear import QuantisedLinear


def filled_model(
    weights: Weights,
    *,
    dtype: str | None = None,
    device: str | torch.device = "cpu",
    attention: str = "sdpa",
    blocks: int | None = None,
    weight_dtype: str | None = None,
) -> Transformer:
    """A Transformer of the weights, by default of all blocks and in the dtype of most of the weights.

    Weights that need no change stay in the mapped file, copy-on-write; others are cast and placed one by one. Raises
    DoesNotFitError where memory is too small, UnavailableError for a model that the built-in one does not
    run.

    Args:
        weights: of a checkpoint.
        dtype: of weights and activations.
        device: where the model is placed.
        attention: the attention backend, by name.
        blocks: the first so many blocks alone.
        weight_dtype: one of llamalab.units.QUANTISED: matrices are quantised as they are read.
    """
    arch = weights.arch if blocks is None else weights.arch.replace(n_layers=blocks)
    kind, place = weights.dtype if dtype is None else activation_dtype(dtype), torch_device(device)
    shapes, quantised = model_shapes(arch), dict[str, QuantisedLinear]()
    try:
        if weight_dtype is not None:
            quantised = quantised_weights(weights._replace(arch=arch), weight_dtype, kind, place)
        state = {
            name: weights.fetch(name, dtype=kind, device=place)
            for name in shapes
            if name.removesuffix(".weight") not in quantised
        }
    except (RuntimeError, MemoryError) as error:
        if not _is_lack_of_memory(error):
            raise
        size = sum(map(prod, shapes.values())) * kind.itemsize
        raise DoesNotFitError(
            f"the weights must fit into the memory of {place}; they take {format_bytes(size)}; try a smaller dtype"
        ) from None
    model = Transformer(arch, attention=attention, device="meta")
    for name, layer in quantised.items():
        model.set_submodule(name, layer)
        if (bias := state.pop(name + ".bias", None)) is not None:
            layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    missing = model.load_state_dict(state, assign=True, strict=False).missing_keys
    assert {name.rpartition(".")[0] for name in missing} <= quantised.keys(), missing
    return model


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out: on a GPU, in Python, or in torch's CPU allocator (a RuntimeError)."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
