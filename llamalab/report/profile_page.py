"""Profiles on a page: time over depth, memory along the operations, kernels, the device's state, what looking costs.

One profile is a part of a report; one or more make a page of their own, side by side.
"""

from collections.abc import Callable, Sequence

from markupsafe import Markup

from llamalab.comparison.sentences import full_name, machine, tokens_per_s
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report import profile_captions as findings
from llamalab.report import profile_tables as tables
from llamalab.report.charts.allocations import timeline
from llamalab.report.charts.base import Plot
from llamalab.report.charts.depth import depth
from llamalab.report.charts.telemetry import known, strip
from llamalab.report.layout import Card, Figure, Frame, Section, figure, fill
from llamalab.report.provenance import surroundings
from llamalab.report.tables import Table
from llamalab.units import format_seconds

_ABSENT = "the record was made by a version of llamalab that took no profile; measure anew"
_CLOSING = (
    "Times are of the blocks that ran; shares are of the whole model's pass. Clean times, kernels and memory come "
    "from passes of their own. An error is predicted / measured − 1. GiB is 2³⁰ bytes, GB 10⁹."
)


def profile_sections(profiles: Sequence[Profile]) -> list[Section]:
    """What profiles show, each plot drawn for each of them; without any, that there is none and why."""
    if not profiles:
        return [Section("depth", "Depth", "Time by operation over depth", "There is no profile of this run.",
                        (Figure(None, f"not measured: {_ABSENT}"),))]  # fmt: skip
    return [
        Section("depth", "Depth", "Time by operation over depth", _told(profiles, _of_phases(findings.depth_finding)),
                _drawn(depth, "depth", profiles, tables.layers(profiles)), _closings(profiles),
                shown=(tables.side_by_side(profiles),) if len(profiles) > 1 else ()),
        Section("timeline", "Memory", "Memory along the operations",
                _told(profiles, _of_phases(findings.memory_finding)),
                (*_drawn(timeline, "timeline", profiles, tables.timeline(profiles)),
                 Figure(None, "", tables.steps(profiles)), Figure(None, "", tables.at_peak(profiles)))),
        Section("kernels", "Kernels", "Kernels", _told(profiles, _of_phases(findings.kernels_finding)), (),
                shown=(tables.kernels(profiles),)),
        Section("state", "State", "State of the device", _told(profiles, findings.device_finding),
                _drawn(strip, "strip", profiles, tables.telemetry(profiles)),
                tuple(dict.fromkeys(line for one in profiles for line in findings.unknown(one)))),
        Section("observers", "Observers", "What looking costs",
                _told(profiles, _of_phases(findings.observers_finding)), (),
                shown=(tables.observers(profiles),)),
    ]  # fmt: skip


def profile_page(profiles: Sequence[Profile], profile_json: str, generator: str) -> str:
    """A page of profiles alone. `profile_json` must be safe inside a script element."""
    first = profiles[0]
    name = full_name(first.model)
    kinds = " and ".join(dict.fromkeys(one.kind for one in profiles))
    return fill(Frame(
        generator=generator,
        title=name,
        machine=machine(first.environment),
        dtype=first.dtype,
        purpose="time and memory by operation",
        headline=f"{name} in {first.dtype} on {machine(first.environment)}, profiled operation by operation: {kinds}.",
        cards=[_card(profile, phase) for profile in profiles for phase in profile.phases],
        findings=tuple(_headlines(profiles)),
        sections=profile_sections(profiles),
        notes=list(dict.fromkeys(note for one in profiles for note in one.notes)),
        facts=surroundings(first.environment),
        closing=_CLOSING,
        record_json=Markup(profile_json),
    ))  # fmt: skip


def _headlines(profiles: Sequence[Profile]) -> list[str]:
    """One sentence for each phase of each profile: what takes most of it."""
    return [
        f"{profile.kind}, {phase.phase}: most of the whole pass goes to {findings.largest_parts(phase)}."
        for profile in profiles for phase in profile.phases
    ]  # fmt: skip


def _card(profile: Profile, phase: PhaseProfile) -> Card:
    value, unit = format_seconds(phase.wall_s).split(" ")
    blocks = f"{phase.layers_measured} of {phase.layers_total} blocks, {tokens_per_s(phase.tokens_per_s)}"
    details: tuple[str, ...] = (
        f"{phase.batch} × {phase.new_tokens:,} tokens in a context of {phase.context_tokens:,}", blocks,
        f"its operations add up to {1 + phase.closure:.0%} of it",
    )  # fmt: skip
    state = "bad" if phase.missing or phase.throttled else "good"
    if phase.throttled:
        details = (*details, f"throttled: {', '.join(phase.throttled)}")
    return Card(f"{phase.phase.capitalize()}, {profile.kind}", value, unit, details, state=state)


def _closings(profiles: Sequence[Profile]) -> tuple[str, ...]:
    """Whether the sums close, phase by phase."""
    many = len(profiles) > 1
    return tuple(
        f"{profile.kind}: {findings.closing(phase)}" if many else findings.closing(phase)
        for profile in profiles
        for phase in profile.phases
    )


def _of_phases(find: Callable[[PhaseProfile], str]) -> Callable[[Profile], str]:
    return lambda profile: " ".join(map(find, profile.phases))


def _told(profiles: Sequence[Profile], find: Callable[[Profile], str]) -> str:
    """The finding of each profile, with its kind before it where there are several."""
    if len(profiles) == 1:
        return find(profiles[0])
    return " ".join(f"{profile.kind}: {find(profile)}" for profile in profiles)


def _drawn(
    chart: Callable[[Profile], Plot], prefix: str, profiles: Sequence[Profile], table: Table
) -> tuple[Figure, ...]:
    """The plot of each profile; the table of all belongs to the last."""
    last = len(profiles) - 1
    return tuple(
        figure(chart, profile, f"{prefix}{place}", _missing(chart, profile), table if place == last else None)
        for place, profile in enumerate(profiles)
    )


def _missing(chart: Callable[[Profile], Plot], profile: Profile) -> str | None:
    """Why a plot has nothing to show."""
    if chart is timeline and not any(phase.memory.timeline for phase in profile.phases):
        return next((phase.memory.reason for phase in profile.phases if phase.memory.reason), "no reason recorded")
    return "the system tells nothing" if chart is strip and not known(profile) else None
