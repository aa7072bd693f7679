"""The time of a pass over the model's depth: a bar for every block that ran, stacked by operation."""

from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llamalab.analytic.op import Op, rows_named
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.comparison.wording import short
from llamalab.formatting import format_si
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report.charts.base import INK, Plot, area, canvas, heading, seconds_tick
from llamalab.report.theme import GROUPS, group_of

MOST_BY_OP = 8  # blocks; with more of them a bar is split by group of operations alone
BETWEEN = "between operations"


class Piece(NamedTuple):
    """A part of one bar: its bar, label, colour group (None: no operation) and seconds."""

    bar: str
    name: str
    group: str | None
    time_s: float


def depth(profile: Profile) -> Plot:
    """Stacked bars: what comes before the blocks, every block, the head."""
    figures, panels = canvas(2.7, len(profile.phases))
    tips: dict[str, str] = {}
    for index, (axes, phase) in enumerate(zip(panels, profile.phases, strict=True)):
        _bars(axes, pieces(profile, phase), f"{index}", tips)
        heading(axes, f"{profile.kind}, {phase.phase}: {phase.layers_measured} of {phase.layers_total} blocks")
        axes.set_xlabel("block", labelpad=3)
    return Plot(
        figures,
        "Time by operation over depth",
        "A bar for the embedding, for every block that ran and for the head in each phase, split by operation.",
        tips,
        (*(area(label, group) for group, label in GROUPS.items()), area(BETWEEN, "muted")),
    )


def op_rows(profile: Profile, phase: PhaseProfile) -> dict[str, tuple[Op, ...]]:
    """The cost-table rows of each operation of a phase.

    Raises UnknownNameError for an operation that the table does not have.
    """
    table = forward_ops(
        LlamaArch.from_dict(profile.arch),
        PassShape(new_tokens=phase.new_tokens, context_tokens=phase.context_tokens, attention=profile.algorithm),
    )
    named = {op.name: op for op in table}
    return {op.name: rows_named(op.name, named) for op in phase.ops}


def op_groups(rows: Mapping[str, tuple[Op, ...]]) -> dict[str, str]:
    """The colour group of each operation; of several rows that of the last, which is attention itself."""
    return {name: group_of(own[-1].part, own[-1].kind) for name, own in rows.items()}


def pieces(profile: Profile, phase: PhaseProfile) -> list[Piece]:
    """The parts of all bars from the embedding to the head, those of one group together.

    Elementwise operations are one part: thin as they are, the flame view has room for each.
    """
    rows, found = op_rows(profile, phase), []
    groups = op_groups(rows)
    for op in phase.ops:
        group = groups[op.name]
        times = op.layers_s or [op.time_s]
        outer = "head" if rows[op.name][-1].part == "head" else "embed"
        bars = [f"{layer}" for layer in range(len(times))] if op.layers_s else [outer]
        by_op = len(op.layers_s) <= MOST_BY_OP and not (op.layers_s and group == "elementwise")
        found += [
            Piece(bar, short(op.name) if by_op else GROUPS[group], group, time_s)
            for bar, time_s in zip(bars, times, strict=True)
        ]
    found.append(Piece("embed", phase.outside, None, phase.outside_s))
    order = {"embed": -1, "head": phase.layers_measured}
    places = [*GROUPS, None]
    return sorted(_joined(found), key=lambda one: (order.get(one.bar) or int(one.bar), places.index(one.group)))


def _joined(found: list[Piece]) -> list[Piece]:
    """Pieces of one name in one bar, added up."""
    sums: dict[tuple[str, str, str | None], float] = {}
    for bar, name, group, time_s in found:
        sums[bar, name, group] = sums.get((bar, name, group), 0.0) + time_s
    return [Piece(bar, name, group, time_s) for (bar, name, group), time_s in sums.items()]


def _bars(axes: Axes, parts: list[Piece], key: str, tips: dict[str, str]) -> None:
    bars = list(dict.fromkeys(part.bar for part in parts))
    heights = dict.fromkeys(bars, 0.0)
    many = len(bars) - 2 > MOST_BY_OP
    if many:
        _areas(axes, [part for part in parts if part.bar.isdigit()], bars, heights, key, tips)
    for number, part in enumerate(parts):
        if many and part.bar.isdigit():
            continue
        x = bars.index(part.bar)
        axes.bar(
            x,
            part.time_s,
            bottom=heights[part.bar],
            width=0.74,
            color=INK[part.group or "muted"],
            edgecolor=INK["card"],
            linewidth=0.5,
        )
        axes.patches[-1].set_gid(f"d{key}-{number}")
        where = part.bar if not part.bar.isdigit() else f"block {part.bar}"
        tips[f"d{key}-{number}"] = f"{where}, {part.name}: {format_si(part.time_s, 's')}"
        heights[part.bar] += part.time_s
    step = max(1, len(bars) // 12)
    shown = [place for place, bar in enumerate(bars) if not bar.isdigit() or int(bar) % step == 0]
    if len(bars) > 2 and step > 1 and shown[-1] - shown[-2] < 2:
        del shown[-2]  # its number would run into "head"
    axes.set_xticks(shown, [bars[place] for place in shown])
    axes.set_xlim(-0.6, len(bars) - 0.4)
    axes.set_ylim(0, 1.08 * max(heights.values()))
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds_tick(value)))


def _areas(
    axes: Axes, parts: list[Piece], bars: list[str], heights: dict[str, float], key: str, tips: dict[str, str]
) -> None:
    """Many blocks as one outline for each group, since a shape for every bar would dominate the page's size."""
    for name in dict.fromkeys(part.name for part in parts):
        own = [part for part in parts if part.name == name]
        below = [(bars.index(part.bar) + side, heights[part.bar]) for part in own for side in (-0.5, 0.5)]
        for part in own:
            heights[part.bar] += part.time_s
        above = [(bars.index(part.bar) + side, heights[part.bar]) for part in own for side in (-0.5, 0.5)]
        corners = [*above, *reversed(below)]
        (filled,) = axes.fill(
            [x for x, _ in corners], [y for _, y in corners], color=INK[own[0].group or "muted"], linewidth=0
        )
        filled.set_gid(f"d{key}-{name}")
        times = [part.time_s for part in own]
        tips[f"d{key}-{name}"] = f"{name}: {format_si(min(times), 's')} to {format_si(max(times), 's')} a block"
