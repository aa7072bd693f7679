"""The state of the device around the passes: clock, power, temperature and load, before, during and after."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llamalab.formatting import format_si
from llamalab.records.phase_profile import Telemetry
from llamalab.records.profile import Profile
from llamalab.report.charts.base import INK, Plot, canvas, heading, mark


class Gauge(NamedTuple):
    """A quantity of the device's state, its name and its format."""

    key: str
    name: str
    show: Callable[[float], str]


GAUGES = (
    Gauge("clock_hz", "clock", lambda value: format_si(value, "Hz")),
    Gauge("memory_clock_hz", "memory clock", lambda value: format_si(value, "Hz")),
    Gauge("power_w", "power", lambda value: f"{value:.0f} W"),
    Gauge("temperature_c", "temperature", lambda value: f"{value:.0f} °C"),
    Gauge("load_average", "load of the host", lambda value: f"{value:.1f}"),
)


def known(profile: Profile) -> list[Gauge]:
    """The quantities with at least one known value."""
    states = [state for phase in profile.phases for _, state in phase.states]
    return [gauge for gauge in GAUGES if any(getattr(state, gauge.key) is not None for state in states)]


def strip(profile: Profile) -> Plot:
    """A small panel for each quantity that is known; moments in which the device throttled are crosses."""
    gauges = known(profile)
    figures, panels = canvas(1.9, len(gauges))
    throttled = any(phase.throttled for phase in profile.phases)
    tips: dict[str, str] = {}
    moments = [(phase.phase, moment, state) for phase in profile.phases for moment, state in phase.states]
    for axes, gauge in zip(panels, gauges, strict=True):
        _panel(axes, gauge, moments, tips)
        heading(axes, f"{profile.kind}: {gauge.name}")
    key = (mark("not throttled", "o", "accent"), mark("throttled", "X", "bad")) if throttled else ()
    names = ", ".join(gauge.name for gauge in gauges)
    description = f"Before, during and after each phase: {names}."
    return Plot(figures, "State of the device around the passes", description, tips, key)


def _panel(axes: Axes, gauge: Gauge, moments: list[tuple[str, str, Telemetry]], tips: dict[str, str]) -> None:
    points = [
        (place, getattr(state, gauge.key), bool(state.throttle_reasons), f"{phase}, {moment}")
        for place, (phase, moment, state) in enumerate(moments)
        if getattr(state, gauge.key) is not None
    ]
    axes.plot([point[0] for point in points], [point[1] for point in points], color=INK["line"], linewidth=1.5)
    for place, value, throttled, what in points:
        gid = f"g{gauge.key}{place}"
        (dot,) = axes.plot(
            [place],
            [value],
            "X" if throttled else "o",
            markersize=7 if throttled else 5.5,
            color=INK["bad" if throttled else "accent"],
        )
        dot.set_gid(gid)
        tips[gid] = f"{what}: {gauge.show(value)}{', throttled' if throttled else ''}"
    axes.set_ylim(0, 1.25 * max(max(point[1] for point in points), 1e-9))
    axes.set_xlim(-0.5, len(moments) - 0.5)
    phases = list(dict.fromkeys(phase for phase, _, _ in moments))
    middles = [[place for place, one in enumerate(moments) if one[0] == phase] for phase in phases]
    axes.set_xticks([sum(own) / len(own) for own in middles], phases)
    for own in middles[1:]:
        axes.axvline(own[0] - 0.5, color=INK["line"], linewidth=0.9)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if not value else gauge.show(value)))
