"""The built-in model made ready for speed by one call, in place.

    CPU: weights packed for the products of oneDNN where the CPU has these for the element type, attention over chunks
         of queries, freed memory kept; then inductor
    CUDA: inductor; a step of decode as one graph to replay is llamalab.text.decode_loop's

The first pass of each kind compiles, and is not part of the model's time: see `warm_up`.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

import torch

from llamalab.attention import get_backend
from llamalab.choices import SCOPES
from llamalab.errors import InputError, UnknownNameError
from llamalab.model.fastest import fastest_backend
from llamalab.model.host_memory import keep_freed_memory
from llamalab.model.kv_cache.static import StaticKVCache
from llamalab.model.transformer import Transformer
from llamalab.model.wide import ShapeProduct

_DEFAULT = "sdpa"
_STEPS = 3  # the first has a new shape, the second another length; the third compiles nothing


class WarmUp(NamedTuple):
    """Seconds of the first passes, compilation included; a clean pass is not subtracted."""

    prefill_s: float
    decode_s: float


def compile(
    model: Transformer,
    *,
    scope: str = "block",
    attention: str | None = None,
    weight_dtype: str | None = None,
    kernel_rows: int | None = None,
    products: Mapping[tuple[int, int], ShapeProduct] | None = None,
) -> Transformer:
    """The same model, made ready for speed: inference only.

    Parameters keep names and values, and the state dict its contents. Taps and hooks work as before; one that is added
    later causes another compilation. Of a model on several ranks each keeps its own share as plain tensors.

    Args:
        model: one that is only to be run, no longer trained.
        scope: "block" compiles a block once for all layers, "step" the forward pass as one graph, "none" nothing, and
            no compiler is needed.
        attention: a backend's name; without one a model that has the default, "sdpa", gets the fastest of its device.
        weight_dtype: one of llamalab.units.QUANTISED: values change, and the state dict has the decoded weights.
        kernel_rows: how many rows a kernel multiplies at most before quantised weights are widened (default:
            llamalab.model.quantised.products.KERNEL_ROWS).
        products: those of weights of (out, in) on a CPU that were measured to be faster than packed ones
            (llamalab.measure.roofs.shape_products).

    Raises InputError for another kind of model, UnknownNameError for another scope or backend.

    >>> import llamalab
    >>> model = llamalab.compile(llamalab.build("stories260k", dtype="fp32"), scope="none")
    >>> model.backend.name
    'chunked'
    """
    if not isinstance(model, Transformer):
        raise InputError(f"llamalab.compile must be given a llamalab.Transformer; got {type(model).__name__}")
    if scope not in SCOPES:
        raise UnknownNameError("scope", scope, SCOPES)
    place = model.norm.weight.device
    if model.spread is not None:
        from llamalab.model.own_share import take_shares  # imports torch.distributed: for models on ranks only

        take_shares(model)
    if weight_dtype is not None:
        from llamalab.model.quantised.weights import quantise_weights

        over_parts = None if model.link is None else model.link.over_parts
        quantise_weights(model, weight_dtype, kernel_rows=kernel_rows, over_parts=over_parts)
    if attention is not None:
        model.use_attention(get_backend(attention))
    elif model.backend.name == _DEFAULT:
        model.use_attention(fastest_backend(place, model.norm.weight.dtype))
    if place.type == "cpu":
        _ready_for_cpu(model, products)
    if scope == "block":
        for layer in model.layers:
            layer.compile()
    elif scope == "step":
        model.compile(fullgraph=True)
    return model


@torch.inference_mode()
def warm_up(model: Transformer, cache: StaticKVCache, *, batch: int, prompt_tokens: int) -> WarmUp:
    """Run a prompt and three steps, which compiles everything that they need; the cache is left empty.

    The cache must be empty and have room for 3 tokens more than the prompt; raises CacheOverflowError.
    """
    tokens_BT = torch.zeros(batch, prompt_tokens, dtype=torch.int64, device=model.norm.weight.device)
    began = time.perf_counter()
    model(tokens_BT, cache=cache, logits="last").sum().item()  # reading a number waits for the pass
    filled = time.perf_counter()
    for _ in range(_STEPS):
        model(tokens_BT[:, :1], cache=cache, logits="last").sum().item()
    done = time.perf_counter()
    cache.rewind(0)
    return WarmUp(filled - began, done - filled)


def _ready_for_cpu(model: Transformer, products: Mapping[tuple[int, int], ShapeProduct] | None) -> None:
    from llamalab.model.packed import pack_weights  # registers an operation with torch: for its users only

    keep_freed_memory()
    pack_weights(model, products)
