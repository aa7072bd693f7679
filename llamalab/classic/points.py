"""The tap points of the Transformer of 2017: names, shapes and rows of cost.

As llamalab.instrument.points, with the stack before the layer: "decoder.layers.3.cross_attention.pattern".
Shapes: B batch, T tokens that pass, S keys in view, D dim, H heads, E head dim, F feed-forward dim, V vocabulary.
"""

from llamalab.classic.shape import ClassicArch
from llamalab.instrument.points import Point

STACKS = ("encoder", "decoder")


def _attention(stack: str, name: str) -> tuple[Point, ...]:
    home = f"{stack}.layers.*.{name}"
    return (
        Point(f"{home}.q", "BHTE", f"{home}.wq"),
        Point(f"{home}.k", "BHSE", f"{home}.wk"),
        Point(f"{home}.v", "BHSE", f"{home}.wv"),
        Point(f"{home}.scores", "BHTS", f"{home}.scores"),
        Point(f"{home}.pattern", "BHTS", f"{home}.softmax"),
        Point(f"{home}.z", "BHTE", f"{home}.values"),
        Point(f"{home}.out", "BTD", f"{home}.wo"),
        Point(f"{home}.residual", "BTD", f"{home}_residual"),
        Point(f"{home}.norm", "BTD", f"{home}_norm"),
    )


def block_points(stack: str, *, cross: bool) -> tuple[Point, ...]:
    """The points of a block, in the order of a pass."""
    home = f"{stack}.layers.*."
    return (
        *_attention(stack, "attention"),
        *(_attention(stack, "cross_attention") if cross else ()),
        Point(f"{home}feed_forward.up", "BTF", f"{home}feed_forward.w1"),
        Point(f"{home}feed_forward.act", "BTF", f"{home}feed_forward.relu"),
        Point(f"{home}feed_forward.out", "BTD", f"{home}feed_forward.w2"),
        Point(f"{home}feed_forward.residual", "BTD", f"{home}feed_forward_residual"),
        Point(f"{home}feed_forward.norm", "BTD", f"{home}feed_forward_norm"),
    )


def classic_points(arch: ClassicArch) -> tuple[Point, ...]:
    """The points that fire in one pass through both stacks, layers as `*`.

    >>> from llamalab.classic.shape import BASE
    >>> len(classic_points(BASE)), classic_points(BASE)[0].name
    (40, 'encoder.embed')
    """
    found: list[Point] = []
    for stack, layers in zip(STACKS, (arch.n_encoder_layers, arch.n_decoder_layers), strict=True):
        if not layers:
            continue
        cross = stack == "decoder" and arch.has_cross_attention
        found += [Point(f"{stack}.embed", "BTD", f"{stack}.embedding"), *block_points(stack, cross=cross)]
        if arch.final_norms:
            found.append(Point(f"{stack}.final_norm", "BTD", f"{stack}.norm"))
    return (*found, Point("logits", "BTV", "output"))


def names_of(arch: ClassicArch) -> tuple[str, ...]:
    """The names of all points with their layers' numbers, in the order of a pass."""
    names: list[str] = []
    points = classic_points(arch)
    for stack, layers in zip(STACKS, (arch.n_encoder_layers, arch.n_decoder_layers), strict=True):
        own = [point.name for point in points if point.name.startswith(stack)]
        layered = [name for name in own if "*" in name]
        names += [name for name in own if name.endswith(".embed")]
        names += [name.replace("*", str(layer)) for layer in range(layers) for name in layered]
        names += [name for name in own if name.endswith(".final_norm")]
    return (*names, points[-1].name)
