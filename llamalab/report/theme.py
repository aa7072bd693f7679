"""The colours of the page. One table: name -> (light, dark), for CSS and for the plots.

Plots are drawn in sentinel colours that svg.py turns into `var(--name)`, so that one SVG serves
both themes. Text keeps 4.5:1 and marks 3:1 against `page` and `card` (WCAG 1.4.3, 1.4.11).
"""

COLOURS: dict[str, tuple[str, str]] = {
    "page": ("#f7f6f3", "#101317"),
    "card": ("#ffffff", "#181c22"),
    "ink": ("#1a1d21", "#e9ebee"),
    "muted": ("#5a626c", "#a0a8b3"),
    "line": ("#e2dfd8", "#2d333b"),
    "grid": ("#ebe9e4", "#262b33"),
    "shade": ("#c9c5bb", "#3d4650"),  # the edge of what scrolls
    "accent": ("#2f4fc4", "#93a9ff"),
    "good": ("#1b7048", "#63cd9a"),
    "bad": ("#a8341f", "#ff9a85"),
    # operation groups and memory parts
    "projections": ("#2d6cc9", "#78aef8"),
    "attention": ("#b34716", "#f59a63"),
    "feed_forward": ("#127a6d", "#46c4b2"),
    "elementwise": ("#7d52bd", "#bd9df2"),
    "ends": ("#8a6a0c", "#d9b64c"),
    # the heat map goes from card to heat; ink stays legible on all of it
    "heat": ("#8fa8f2", "#3550b8"),
}

HEAT_STEPS = 12

GROUPS = {
    "projections": "Q, K, V and output projections",
    "attention": "attention itself",
    "feed_forward": "feed-forward products",
    "elementwise": "norms, RoPE, cache, SwiGLU, residuals",
    "ends": "embedding and head",
}


def group_of(part: str, kind: str) -> str:
    """The colour group of an operation of that part and kind (llamalab.analytic.op).

    >>> group_of("attention", "gemm"), group_of("head", "gemm")
    ('projections', 'ends')
    """
    if part in ("embedding", "head"):
        return "ends"
    if kind == "gemm":
        return "feed_forward" if part == "feed_forward" else "projections"
    return "attention" if kind == "attention" else "elementwise"


def heat_variable(step: int) -> str:
    """The variable of one step of the heat scale."""
    return f"heat-{step}"


def heat_colour(step: int, *, dark: bool) -> str:
    """The colour of one step, mixed from card (below step 0) to heat (the last step)."""
    share = (step + 1) / HEAT_STEPS
    card, heat = COLOURS["card"][dark], COLOURS["heat"][dark]
    mixed = (round((1 - share) * int(card[i : i + 2], 16) + share * int(heat[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def variables() -> dict[str, tuple[str, str]]:
    """Every CSS variable with its light and dark colour, heat steps included."""
    steps = {
        heat_variable(step): (heat_colour(step, dark=False), heat_colour(step, dark=True)) for step in range(HEAT_STEPS)
    }
    return COLOURS | steps


def sentinels() -> dict[str, str]:
    """Variable -> the colour that stands for it while matplotlib draws."""
    return {name: f"#01fe{index:02x}" for index, name in enumerate(variables())}
