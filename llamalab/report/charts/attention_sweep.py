"""Flash against naive attention over the length: time, and peak memory."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from llamalab.comparison.attention_rows import AttentionRow
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.wording import signed_percent
from llamalab.formatting import format_bytes, format_si
from llamalab.report.charts.base import INK, Plot, canvas, heading, mark, plain_bytes, seconds_tick

_COLOURS = ("projections", "feed_forward", "elementwise", "ends")
_MARKERS = ("o", "^", "v", "P")


def attention_sweep(comparison: Comparison) -> Plot:
    """Two log-log panels; measured marks on lines, predictions dashed."""
    rows = prompts(comparison)
    styles = _styles(rows)
    figures, (time, memory) = canvas(2.6, 2)
    tips: dict[str, str] = {}
    for backend, (colour, marker) in styles.items():
        own = [row for row in rows if row.point.backend == backend]
        _line(time, own, colour, marker, lambda row: row.measured_s, lambda row: row.predicted_s, f"t{backend}", tips)
        _line(
            memory,
            own,
            colour,
            marker,
            lambda row: row.point.peak_bytes,
            lambda row: row.predicted_bytes,
            f"m{backend}",
            tips,
        )
    _axes(time, rows, 10, seconds_tick, "Time of one call")
    _axes(memory, rows, 8, plain_bytes, "Peak memory above Q, K and V")
    handles = [mark(f"{backend} measured", marker, colour, line="-") for backend, (colour, marker) in styles.items()]
    return Plot(
        figures,
        "Flash against naive attention",
        "Time and peak memory of one attention call over the length, measured marks and dashed predictions.",
        tips,
        (*handles, mark("predicted", "", "muted", line="--")),
    )


def prompts(comparison: Comparison) -> list[AttentionRow]:
    """The rows in which all keys are new: whole prompts."""
    return [row for row in comparison.attention if row.point.new_tokens == row.point.context_tokens]


def _styles(rows: list[AttentionRow]) -> dict[str, tuple[str, str]]:
    """Colour and marker by backend: naive's is its own, the others follow in order."""
    styles: dict[str, tuple[str, str]] = {}
    others = iter(zip(_COLOURS, _MARKERS, strict=True))
    for row in rows:
        if row.point.backend not in styles:
            naive = row.point.algorithm == "naive" and "attention" not in {colour for colour, _ in styles.values()}
            styles[row.point.backend] = ("attention", "s") if naive else next(others, ("muted", "x"))
    return styles


def _line(
    axes: Axes,
    rows: list[AttentionRow],
    colour: str,
    marker: str,
    measured: Callable[[AttentionRow], float | None],
    predicted: Callable[[AttentionRow], float | None],
    key: str,
    tips: dict[str, str],
) -> None:
    guess = [(row.point.new_tokens, y) for row in rows if (y := predicted(row)) is not None]
    axes.plot([x for x, _ in guess], [y for _, y in guess], linestyle=(0, (4, 3)), color=INK[colour], linewidth=1.2)
    seen = [(row, y) for row in rows if (y := measured(row))]
    axes.plot([row.point.new_tokens for row, _ in seen], [y for _, y in seen], color=INK[colour], linewidth=1.8)
    for row, y in seen:
        gid = f"{key}-{row.point.new_tokens}"
        axes.plot(
            row.point.new_tokens,
            y,
            marker,
            markersize=6.5,
            color=INK[colour],
            markeredgecolor=INK["card"],
            markeredgewidth=0.8,
            gid=gid,
        )
        tips[gid] = _tip(row)


def _tip(row: AttentionRow) -> str:
    parts = [f"{row.point.backend} at {row.point.new_tokens:,} tokens"]
    if row.measured_s is not None:
        parts.append(f"measured {format_si(row.measured_s, 's')}")
    if row.predicted_s is not None:
        parts.append(f"predicted {format_si(row.predicted_s, 's')}")
    if row.error is not None:
        parts.append(f"error {signed_percent(row.error)}")
    if row.point.peak_bytes is not None:
        parts.append(f"peak {format_bytes(row.point.peak_bytes)}, predicted {format_bytes(row.predicted_bytes)}")
    return ", ".join(parts)


def _axes(axes: Axes, rows: list[AttentionRow], base: int, unit: Callable[[float], str], name: str) -> None:
    lengths = sorted({row.point.new_tokens for row in rows})
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(lengths, [f"{tokens:,}" for tokens in lengths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(base))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: unit(value)))
    axes.set_xlabel("tokens")
    heading(axes, name)
