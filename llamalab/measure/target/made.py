"""Construction of the measured model, with the weights of a checkpoint, or random ones of its sizes."""

import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import Weights
from llamalab.checkpoints.filled import filled_model
from llamalab.model import StaticKVCache, Transformer, build
from llamalab.model.build import repeat_blocks
from llamalab.records.record import Pass

_CHECKPOINT, _RANDOM = "checkpoint", "random"
OWN_WEIGHTS = "The weights are the checkpoint's own."


def made_model(
    arch: LlamaArch, weights: Weights | None, *, dtype: str, device: torch.device, distinct: int | None = None
) -> Transformer:
    """A model of `arch`, the first blocks of a checkpoint's; layers share the first `distinct` blocks in turn.

    Raises DoesNotFitError where the weights do not fit.
    """
    if weights is None:
        return build(arch, dtype=dtype, device=device, tie_blocks=distinct).eval()
    model = filled_model(weights, dtype=dtype, device=device, blocks=distinct or arch.n_layers)
    repeat_blocks(model, arch)
    return model.eval()


def weights_origin(weights: Weights | None) -> str:
    """The word for the origin of weights."""
    return _RANDOM if weights is None else _CHECKPOINT


def allocated_sizes(arch: LlamaArch, last: Pass) -> tuple[int, int]:
    """Parameters and cache bytes of the whole model as it would be allocated, counted on the meta device."""
    model = Transformer(arch, dtype=last.dtype, device="meta")
    stored = last.kv_dtype or last.dtype
    cache = StaticKVCache(arch, batch=last.batch, max_tokens=last.context_tokens, dtype=stored, device="meta")
    return sum(weight.numel() for weight in model.parameters()), cache.nbytes
