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

    `op` is the row of the cost table whose output this is, None for a tensor that no row computes. `needs` is the
    field of an architecture without which the point does not fire, empty where it always does. Under flash attention
    the row is `flash_op`, where that is not None: one fused operation makes z, and none makes scores and pattern.
    `inside` points lie between the projections and z; models of transformers may lack them.
    """

    name: str
    shape: str
    op: str | None
    needs: str = ""
    flash_op: str | None = None
    inside: bool = False


POINTS: tuple[Point, ...] = (
    Point("embed", "BTD", "tok_embeddings"),
    Point("layers.*.resid_pre", "BTD", None),
    Point("layers.*.attn_norm", "BTD", "layers.*.attention_norm"),
    Point("layers.*.attention.q", "BHTE", "layers.*.attention.wq"),
    Point("layers.*.attention.k", "BKTE", "layers.*.attention.wk"),
    Point("layers.*.attention.v", "BKTE", "layers.*.attention.wv"),
    Point("layers.*.attention.q_norm", "BHTE", "layers.*.attention.q_norm", "qk_norm"),
    Point("layers.*.attention.k_norm", "BKTE", "layers.*.attention.k_norm", "qk_norm"),
    Point("layers.*.attention.rot_q", "BHTE", "layers.*.attention.rope", inside=True),
    Point("layers.*.attention.rot_k", "BKTE", "layers.*.attention.rope", inside=True),
    Point("layers.*.attention.k_cache", "BKSE", "layers.*.attention.kv_append", inside=True),
    Point("layers.*.attention.v_cache", "BKSE", "layers.*.attention.kv_append", inside=True),
    Point("layers.*.attention.scores", "BHTS", "layers.*.attention.scores", flash_op="", inside=True),
    Point("layers.*.attention.pattern", "BHTS", "layers.*.attention.softmax", flash_op="", inside=True),
    Point("layers.*.attention.z", "BHTE", "layers.*.attention.values", flash_op="layers.*.attention.flash"),
    Point("layers.*.attn_out", "BTD", "layers.*.attention.wo"),
    Point("layers.*.resid_mid", "BTD", "layers.*.attention_residual"),
    Point("layers.*.ffn_norm", "BTD", "layers.*.ffn_norm"),
    Point("layers.*.feed_forward.gate", "BTF", "layers.*.feed_forward.w1"),
    Point("layers.*.feed_forward.up", "BTF", "layers.*.feed_forward.w3"),
    Point("layers.*.feed_forward.act", "BTF", "layers.*.feed_forward.swiglu"),
    Point("layers.*.ffn_out", "BTD", "layers.*.feed_forward.w2"),
    Point("layers.*.resid_post", "BTD", "layers.*.ffn_residual"),
    Point("final_norm", "BTD", "norm"),
    Point("logits", "BTV", "output"),
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
