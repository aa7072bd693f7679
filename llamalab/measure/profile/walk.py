"""One pass, operation by operation: output, cost and time of each.

Attention is naive, so that scores and pattern exist; keys and values go to a cache, as in generation.
Times are medians over passes, of one layer.
B batch, T tokens, V vocabulary.
"""

from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.analytic.op import Op
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.instrument.points import points_of
from llamalab.instrument.taps import capture
from llamalab.measure.device.machine import clock_for
from llamalab.measure.timing.op_clock import OpClock
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.dtypes import TORCH_DTYPES

WINDOW = "_window"  # suffix of rows of windowed layers in models that also have full ones
PASSES = 7  # the first is the warm-up


class WalkStep(NamedTuple):
    """One operation: its cost row, its point, the tensor there, and the median seconds of one occurrence.

    An operation with several points, such as RoPE of queries and keys, has the time of all and the first tensor.
    """

    op: Op
    point: str
    tensor: Tensor
    seconds: float


class Walk(NamedTuple):
    """The steps of a pass through one layer, the pattern of that layer, and the logits of the last token."""

    steps: tuple[WalkStep, ...]
    pattern_HTS: Tensor
    logits_V: Tensor


def walk(model: Transformer, tokens_1T: Tensor, *, layer: int) -> Walk:
    """Run the model over one text and record the embedding, one layer and the head.

    The model must compute attention naively. Raises InputError for a layer beyond its depth.
    """
    named = {point.name: point.name.replace("*", str(layer)) for point in points_of(model.arch)}
    inside = [name for point, name in named.items() if "*" in point]
    outside = [name for point, name in named.items() if "*" not in point]
    dtype = _dtype_of(model)
    cache = StaticKVCache(model.arch, batch=1, max_tokens=tokens_1T.shape[1], dtype=dtype, device=tokens_1T.device)
    with torch.inference_mode():
        with capture(model, *inside, layers=[layer], copy=True) as got, capture(model, *outside, copy=True) as ends:
            model(tokens_1T, cache=cache)
        seconds = _seconds(model, tokens_1T, cache)
    tensors = {**got, **ends}
    steps = []
    for op in forward_ops(
        model.arch, PassShape(new_tokens=tokens_1T.shape[1], dtype=dtype, attention="naive", logits="all")
    ):
        row = _row_of(op, model, layer)
        made = [named[point.name] for point in points_of(model.arch) if row is not None and point.op == row]
        if made:
            steps.append(WalkStep(op, made[0], tensors[made[0]], sum(seconds[name] for name in made)))
    return Walk(tuple(steps), tensors[f"layers.{layer}.attention.pattern"][0].float(), tensors["logits"][0, -1].float())


def _dtype_of(model: Transformer) -> str:
    kind = next(model.parameters()).dtype
    return next(name for name, one in TORCH_DTYPES.items() if one == kind)


def _row_of(op: Op, model: Transformer, layer: int) -> str | None:
    """The row's name without the suffix of windowed layers; None for a row of the other kind of layers."""
    if len(model.arch.windows) < 2 or op.kind != "attention":
        return op.name
    plain = op.name.removesuffix(WINDOW)
    return plain if (plain != op.name) == (model.arch.window_of(layer) is not None) else None


def _seconds(model: Transformer, tokens_1T: Tensor, cache: StaticKVCache) -> dict[str, float]:
    """Median seconds up to every point since the point before, over passes."""
    clock = OpClock(clock_for(tokens_1T.device), lambda point: point)
    for _ in range(PASSES):
        cache.rewind(0)
        clock.start()
        model(tokens_1T, cache=cache, tap=clock)
    passes = clock.read()[1:]
    return {name: median(one[name] for one in passes) for name in passes[0]}
