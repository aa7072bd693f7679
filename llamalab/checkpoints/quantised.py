"""Quantised layers from a checkpoint, one by one, so that the model is never whole in a wide dtype."""

import torch

from llamalab.checkpoints.checkpoint import Weights, model_shapes
from llamalab.model.quantised.codes import Codes, coded
from llamalab.model.quantised.linear import QuantisedLinear
from llamalab.units import DTYPES, group_in_row


def quantised_weights(
    weights: Weights, storage: str, dtype: torch.dtype, device: torch.device
) -> dict[str, QuantisedLinear]:
    """The layers whose matrices are quantised by the storage, by name; their biases are set later.

    Codes in the file that have the storage's bits are used unchanged, with their own group size.
    """
    made = {}
    for name, shape in model_shapes(weights.arch).items():
        if len(shape) != 2 or name.startswith("tok_embeddings") or group_in_row(storage, shape[1]) is None:
            continue
        codes = _stored(weights, name, storage)
        if codes is None:
            codes = coded(weights.fetch(name, dtype=torch.float32, device=device), storage)
        made[name.removesuffix(".weight")] = QuantisedLinear.of(codes.on(device), storage, dtype)
    return made


def _stored(weights: Weights, name: str, storage: str) -> Codes | None:
    """The stored codes of a matrix, where they have the storage's bits, and groups if the storage has groups."""
    codes = weights.codes(name)
    if codes is None or codes.bits != DTYPES[storage].bits or (storage == "int8") != codes.by_row:
        return None
    return codes
