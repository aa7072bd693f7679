"""A pass as a flame view: by part and operation above, and the sequence of operations in time below.

Written as SVG by hand: the script of the page zooms into a frame, whose name is the first part of its title.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from llamalab.analytic.op import Op
from llamalab.comparison.wording import short
from llamalab.formatting import format_seconds
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report.charts.depth import MOST_BY_OP, op_groups, op_rows

_WIDTH, _ROW = 360.0, 17.0  # of the view, and of a level
GAP = 26.0  # between the two views
_LETTER = 4.9  # about the width of a letter of 8 units
LEAST = 1.0  # units: a narrower frame is left out, and the one that holds it shows a hole


class Bar(NamedTuple):
    """A frame: its label, colour group (None: several), start, length and level."""

    name: str
    group: str | None
    start_s: float
    time_s: float
    level: int


def flame(profile: Profile, phase: PhaseProfile, prefix: str) -> Markup:
    """Both views of one phase as one SVG."""
    rows = op_rows(profile, phase)
    whole, step = list(whole_pass(phase, rows)), list(time_order(phase, rows))
    levels = 1 + max(bar.level for bar in whole)
    below = _ROW * levels + GAP + 14
    height = below + _ROW * (1 + max(bar.level for bar in step))
    title = f"{profile.kind}, {phase.phase}: the whole pass by operation, and what ran in the order of time"
    return Markup(
        f'<svg class="flame" viewBox="0 0 {_WIDTH:g} {height + 14:g}" role="img" aria-labelledby="{prefix}-title">'
        f'<title id="{prefix}-title">{escape(title)}</title>'
        f"{_view(whole, 14, f'{phase.phase}: the whole pass, by operation')}"
        f"{_view(step, below, 'What ran, in the order of time')}</svg>"
    )


def whole_pass(phase: PhaseProfile, rows: Mapping[str, tuple[Op, ...]]) -> Iterator[Bar]:
    """The pass, its parts, their halves and their operations, each as long as all its occurrences together."""
    start, groups = 0.0, op_groups(rows)
    yield Bar(f"{phase.phase}, whole pass", None, 0.0, sum(op.total_s for op in phase.ops), 0)
    for section in ("embedding", "block", "head"):
        own = [op for op in phase.ops if rows[op.name][-1].section == section]
        if not own:
            continue
        name = "blocks" if section == "block" else section
        yield Bar(name, None, start, sum(op.total_s for op in own), 1)
        for part in dict.fromkeys(rows[op.name][-1].part for op in own):
            ops = [op for op in own if rows[op.name][-1].part == part]
            if section == "block":
                yield Bar(part.replace("_", "-"), None, start, sum(op.total_s for op in ops), 2)
            for op in ops:
                yield Bar(short(op.name), groups[op.name], start, op.total_s, 3)
                start += op.total_s


def time_order(phase: PhaseProfile, rows: Mapping[str, tuple[Op, ...]]) -> Iterator[Bar]:
    """What ran, one block after the other: the step, its blocks, and the operations of the first of them."""
    start, bars, groups = 0.0, [], op_groups(rows)
    for part in ("embedding", *range(phase.layers_measured), "head"):
        inside = isinstance(part, int)
        own = [op for op in phase.ops if rows[op.name][-1].section == ("block" if inside else part)]
        begun = start
        for op in own:
            time_s = op.layers_s[part] if isinstance(part, int) and op.layers_s else op.time_s
            if not inside or part < MOST_BY_OP:
                bars.append(Bar(short(op.name), groups[op.name], start, time_s, 2))
            start += time_s
        if own:
            bars.append(Bar(f"block {part}" if inside else str(part), None, begun, start - begun, 1))
    yield Bar("what ran", None, 0.0, start, 0)
    yield from bars


def _view(bars: Sequence[Bar], top: float, heading: str) -> str:
    total_s = bars[0].time_s or 1.0
    frames = "".join(_frame(bar, total_s, top) for bar in bars if _WIDTH * bar.time_s / total_s >= LEAST)
    return f'<text class="title" x="0" y="{top - 4:g}">{escape(heading)}</text><g class="frames">{frames}</g>'


def _frame(bar: Bar, total_s: float, top: float) -> str:
    x, width = _WIDTH * bar.start_s / total_s, _WIDTH * bar.time_s / total_s
    y, fits = top + _ROW * bar.level, width > _LETTER * len(bar.name) + 6
    tip = f"{bar.name}: {format_seconds(bar.time_s)}, {bar.time_s / total_s:.1%}"
    return (
        f'<g class="c-{bar.group or "muted"}"><title>{escape(tip)}</title>'
        f'<rect x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{_ROW - 1:g}"/>'
        + (f'<text x="{x + 3:.1f}" y="{y + 11.5:g}">{escape(bar.name)}</text></g>' if fits else "</g>")
    )
