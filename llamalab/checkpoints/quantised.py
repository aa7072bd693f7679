"""Quantised layers straight from a checkpoint, one by one, so that no wide copy of the model is ever held."""

import torch

from llamalab.checkpoints.checkpoint import Weights, model_shapes
from llamalab.model.quantised.codes import Codes, coded
from llamalab.model.quantised.linear import QuantisedLinear
from llamalab.units import DTYPES, group_in_row


def quantised_weights(
    weights: Weights, storage: str, dtype: torch.dtype, device: torch.device
) -> dict[str, QuantisedLinear]:
    """The layers whose matrices the storage takes, by name; biases are not in them yet.

    Codes of a file that are of the storage's bits are taken as they are, whatever their groups.
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
    """The codes that a file has of a matrix, where they have the storage's bits, and groups if it has any."""
    codes = weights.codes(name)
    if codes is None or codes.bits != DTYPES[storage].bits or (storage == "int8") != codes.by_row:
        return None
    return codes
