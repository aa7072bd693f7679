"""Plots of results: bars of an answer, lines over a sweep, and the roofline."""

from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The quantity and length of bars, by verb.
BARS = {
    "kv": ("attention", "kv_bytes"),
    "params": ("component", "parameters"),
    "flops": ("name", "flops_causal"),
    "fit": ("term", "bytes"),
    "tune": ("term", "bytes"),
    "train-memory": ("recompute", "total_bytes"),
    "predict": ("op", "total_s"),
    "profile": ("name", "total_s"),
    "measure": ("op", "measured_s"),
    "bench": ("test", "tokens_per_s"),
    "generate": ("finish_reason", "generated_tokens"),
    "compare": ("op", "delta_s"),
}
# The axis and the quantity of a sweep's plot, in order of preference.
SWEPT = (
    "prompt",
    "context",
    "new_tokens",
    "context_tokens",
    "batch",
    "generate",
    "tensor_parallel",
    "hardware",
    "model",
)
DRAWN = ("tokens_per_s", "kv_bytes", "flops_causal", "prefill_s", "max_batch", "total_bytes", "weight_bytes")
MOST_BARS = 30


def draw(verb: str, result: Any, ax: "Axes | None") -> "Axes":
    """The drawing of a result on `ax`, or on axes of its own."""
    axes = ax if ax is not None else _axes()
    if swept := _swept(result):
        _lines(axes, result.rows, *swept)
    elif verb == "roofline":
        from llamalab.report.charts.predicted_roofline import draw_roofline

        draw_roofline(axes, result.ops, result.peak_flops_per_s, result.bandwidth_bytes_per_s)
        axes.set_title(f"{result.model} on {result.hardware}")
    else:
        _bars(axes, result, *BARS[verb])
    return axes


def _axes() -> "Axes":
    from llamalab.startup.plotting import import_matplotlib

    import_matplotlib()
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(8, 5))
    return axes


def _swept(result: Any) -> tuple[str, str] | None:
    """The columns of a sweep to plot: the first that varies, and the computed one; None of a single run."""
    rows = result.to_dict().get("rows")
    if not rows:
        return None
    over = next((key for key in SWEPT if len({row.get(key) for row in rows}) > 1), None)
    drawn = next((key for key in DRAWN if rows[0].get(key) is not None), None)
    return (over, drawn) if over and drawn else None


def _lines(axes: "Axes", rows: list[dict[str, Any]], over: str, drawn: str) -> None:
    """A line for each combination of the other varying columns."""
    others = [key for key in SWEPT if len({row.get(key) for row in rows}) > 1 and not _goes_with(rows, key, over)]
    lines: dict[str, list[tuple[Any, float]]] = {}
    for row in rows:
        if row.get(drawn) is not None:
            name = ", ".join(f"{key} {row[key]}" for key in others)
            lines.setdefault(name, []).append((row[over], row[drawn]))
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name or None)
    if all(isinstance(row[over], int) for row in rows):
        axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set(xlabel=over.replace("_", " "), ylabel=drawn)
    if others:
        axes.legend(fontsize="small")


def _goes_with(rows: list[dict[str, Any]], key: str, over: str) -> bool:
    """Whether a key has one value for each of the other, as new tokens have for a prompt."""
    return len({(row.get(key), row[over]) for row in rows}) == len({row[over] for row in rows})


def _bars(axes: "Axes", result: Any, label: str, length: str) -> None:
    """The longest bars, longest on top."""
    rows = result.to_dict().get("rows") or [dict(row) for row in result.to_frame().to_dict("records")]
    known = [row for row in rows if row.get(length) is not None and row[length] == row[length]]
    longest = sorted(known, key=lambda row: -abs(row[length]))[:MOST_BARS][::-1]
    phases = {row.get("phase") for row in longest}
    names = [f"{row['phase']}: {row[label]}" if len(phases) > 1 else str(row[label]) for row in longest]
    axes.barh(range(len(longest)), [row[length] for row in longest])
    axes.set_yticks(range(len(longest)), names)
    axes.set_xlabel(length)
    axes.xaxis.set_major_formatter(lambda value, _: _shown(length, value))


def _shown(key: str, value: float) -> str:
    if key.endswith("_bytes"):
        return format_bytes(value)
    return format_seconds(value) if key.endswith("_s") and not key.endswith("per_s") else format_si(value, "")
