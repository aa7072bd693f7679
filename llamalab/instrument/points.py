"""The tap points of a model: the closed list of names, with shapes and operations.

A point is a tensor right after the operation that made it, so that the time between two points
is the time of that operation, and `op` joins a point with its row of the cost table
(llamalab.analytic.ops) and of the measured table.

Shapes use the letters of llamalab.model: B batch, T new tokens, S keys in view, D model dim,
H query heads, K KV heads, E head dim, F feed-forward dim, V vocabulary.
"""

from llamalab.arch import LlamaArch
from llamalab.startup.hints import NamedTuple


class Point(NamedTuple):
    """A tap point; per-layer names have a `*` for the layer's number.

    `op` is the row of the cost table whose output this is, None for a tensor that no row computes, and `does` says in a
    sentence what it computes, at its first point. `needs` is the field of an architecture without which the point does
    not fire, empty where it always does. Under flash attention the row is `flash_op`, where that is not None: one fused
    operation makes z, and none makes scores and pattern. `inside` points lie between the projections and z; models of
    transformers may lack them.
    """

    name: str
    shape: str
    op: str | None
    does: str = ""
    needs: str = ""
    flash_op: str | None = None
    inside: bool = False


_HOME, _FFN = "layers.*.attention.", "layers.*.feed_forward."
POINTS: tuple[Point, ...] = (
    Point("embed", "BTD", "tok_embeddings", "the embedding of each token id: x = W[id]"),
    Point("layers.*.resid_pre", "BTD", None),
    Point(
        "layers.*.attn_norm",
        "BTD",
        "layers.*.attention_norm",
        "each token is scaled to a mean square of 1: x / sqrt(mean(x²) + eps) · w",
    ),
    Point(_HOME + "q", "BHTE", _HOME + "wq", "queries: q = x Wqᵀ, cut into H heads"),
    Point(_HOME + "k", "BKTE", _HOME + "wk", "keys: k = x Wkᵀ, cut into K heads"),
    Point(_HOME + "v", "BKTE", _HOME + "wv", "values: v = x Wvᵀ, cut into K heads"),
    Point(
        _HOME + "q_norm",
        "BHTE",
        _HOME + "q_norm",
        "each head's queries are scaled to a mean square of 1",
        needs="qk_norm",
    ),
    Point(
        _HOME + "k_norm", "BKTE", _HOME + "k_norm", "each head's keys are scaled to a mean square of 1", needs="qk_norm"
    ),
    Point(
        _HOME + "rot_q",
        "BHTE",
        _HOME + "rope",
        "pairs of q and k are rotated by position · θ^(−2j/E), so that scores depend on the distance",
        inside=True,
    ),
    Point(_HOME + "rot_k", "BKTE", _HOME + "rope", inside=True),
    Point(
        _HOME + "k_cache", "BKSE", _HOME + "kv_append", "keys and values are stored for the next tokens", inside=True
    ),
    Point(_HOME + "v_cache", "BKSE", _HOME + "kv_append", inside=True),
    Point(
        _HOME + "scores",
        "BHTS",
        _HOME + "scores",
        "every query times every key before it: q kᵀ / √E; later keys are −∞",
        flash_op="",
        inside=True,
    ),
    Point(
        _HOME + "pattern",
        "BHTS",
        _HOME + "softmax",
        "the softmax of each row of scores: weights that add up to 1, the pattern",
        flash_op="",
        inside=True,
    ),
    Point(
        _HOME + "z",
        "BHTE",
        _HOME + "values",
        "the mean of the values weighted by the pattern: z = pattern · v",
        flash_op=_HOME + "flash",
    ),
    Point("layers.*.attn_out", "BTD", _HOME + "wo", "the heads joined and projected: z Woᵀ"),
    Point(
        "layers.*.resid_mid",
        "BTD",
        "layers.*.attention_residual",
        "attention is added to the residual stream: x + attention(norm(x))",
    ),
    Point("layers.*.ffn_norm", "BTD", "layers.*.ffn_norm", "each token is scaled to a mean square of 1 once more"),
    Point(_FFN + "gate", "BTF", _FFN + "w1", "the gate: x W1ᵀ, wider than the stream"),
    Point(_FFN + "up", "BTF", _FFN + "w3", "the values to be gated: x W3ᵀ"),
    Point(_FFN + "act", "BTF", _FFN + "swiglu", "silu(gate) · up, element by element"),
    Point("layers.*.ffn_out", "BTD", _FFN + "w2", "back to the width of the stream: h W2ᵀ"),
    Point(
        "layers.*.resid_post",
        "BTD",
        "layers.*.ffn_residual",
        "the feed-forward's output is added to the residual stream",
    ),
    Point("final_norm", "BTD", "norm", "the last scaling to a mean square of 1"),
    Point("logits", "BTV", "output", "a logit for every token of the vocabulary: x Woutᵀ"),
)


def points_of(arch: LlamaArch) -> tuple[Point, ...]:
    """The points that fire in a model of that architecture.

    >>> from llamalab.presets import PRESETS
    >>> len(points_of(PRESETS["qwen3-8b"].arch)) - len(points_of(PRESETS["7b"].arch))
    2
    """
    return tuple(point for point in POINTS if not point.needs or getattr(arch, point.needs))


def inside_points() -> tuple[Point, ...]:
    """The points between the projections and z, in order, and z itself."""
    last = max(place for place, point in enumerate(POINTS) if point.inside)
    return tuple(point for point in POINTS[:last] if point.inside) + POINTS[last : last + 2]


def point_of(name: str) -> Point:
    """The point of a name with a layer's number or `*`.

    >>> point_of("layers.3.attention.pattern").shape
    'BHTS'
    """
    return _POINTS[_starred(name)]


def what_does(operation: str) -> str:
    """The sentence on what a row of the cost table computes; its own name where there is none.

    >>> what_does("layers.*.attention.wo")
    'the heads joined and projected: z Woᵀ'
    """
    plain = operation.removesuffix("_window")
    return next((point.does for point in POINTS if point.op == plain and point.does), plain.rpartition(".")[2])


def op_of(point: str, *, algorithm: str = "naive") -> str | None:
    """The cost-table row whose output a point (with a layer's number or `*`) is.

    Under flash attention one fused operation makes `z`, and no op makes scores and pattern.

    >>> op_of("layers.3.attention.q"), op_of("layers.3.attention.z", algorithm="flash")
    ('layers.*.attention.wq', 'layers.*.attention.flash')
    """
    found = point_of(point)
    if algorithm == "flash" and found.flash_op is not None:
        return found.flash_op or None
    return found.op


def _starred(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "layers":
        parts[1] = "*"
    return ".".join(parts)


ALWAYS = tuple(point for point in POINTS if not point.needs)  # the points of a Llama 2
BLOCK = tuple(point for point in POINTS if "*" in point.name)
_POINTS = {point.name: point for point in POINTS}
