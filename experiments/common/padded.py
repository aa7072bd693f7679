"""A small model in the clothes of a large one: the same function, the work of the larger sizes.

A checkpoint is widened with zeros: more dimensions, a wider feed-forward part, more heads and more blocks, none of
which adds anything to the residual stream. So texts and probabilities are those of the checkpoint, real ones, and every
pass costs what the large sizes cost.

    norm over D of which d are not 0:  x / sqrt(d/D * m + eps') * w'  with  eps' = eps * d/D,  w' = w * sqrt(d/D)
"""

import math

import torch
from torch import Tensor

from llamalab.errors import InputError
from llamalab.model import Transformer, build


def padded(model: Transformer, *, dim: int, ffn_dim: int, layers: int, dtype: str) -> Transformer:
    """The model with at least the sizes asked for; heads keep their width. Raises InputError for smaller ones."""
    small = model.arch
    if dim < small.dim or dim % small.dim or ffn_dim < small.ffn_dim or layers < small.n_layers:
        raise InputError(
            f"a padded model must have whole times {small.dim} dimensions, {small.ffn_dim} or more in between and "
            f"{small.n_layers} or more blocks; got {dim}, {ffn_dim} and {layers}"
        )
    times = dim // small.dim
    large = small.replace(
        dim=dim,
        ffn_dim=ffn_dim,
        n_layers=layers,
        n_heads=times * small.n_heads,
        n_kv_heads=times * small.n_kv_heads,
        norm_eps=small.norm_eps / times,
        tied_embeddings=False,
    )
    made = build(large, dtype=dtype)
    state = model.state_dict()
    state.setdefault("output.weight", state["tok_embeddings.weight"])
    with torch.no_grad():
        for name, weight in made.named_parameters():
            _fill(weight, state.get(name), norm_scale=1 / math.sqrt(times) if "norm" in name else 1.0)
    return made.eval()


def _fill(weight: Tensor, known: Tensor | None, *, norm_scale: float) -> None:
    """The known values in the first places, zeros after them.

    Query heads of a group follow one another, so the first KV heads keep the queries that they had.
    """
    weight.zero_()
    if known is not None:
        weight[tuple(slice(size) for size in known.shape)] = known.to(weight.dtype) * norm_scale
