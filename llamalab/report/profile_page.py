"""Profiles on a page: time over depth, memory along the operations, kernels, the device's state, what looking costs.

One profile is a part of a report; one or more make a page of their own, side by side.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from markupsafe import Markup

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.sentences import full_name, machine, tokens_per_s
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.profile import Profile, of_record
from llamalab.report import profile_captions as captions
from llamalab.report import profile_tables as tables
from llamalab.report.bounded import fill_bounded
from llamalab.report.charts.allocations import timeline
from llamalab.report.charts.base import Plot
from llamalab.report.charts.depth import depth
from llamalab.report.charts.flame import flame
from llamalab.report.charts.telemetry import known, strip
from llamalab.report.data_table import DataTable
from llamalab.report.layout import Card, Figure, Fold, Listing, PageContent, Section, figure
from llamalab.report.provenance import surroundings
from llamalab.units import format_seconds

LONGEST = 4  # operations of a pass; the others are folded
_ABSENT = "the record was made by a version of llamalab that took no profile; measure anew"
_CLOSING = (
    "Times are of the blocks that ran; shares are of the whole model's pass. Clean times, kernels and memory come "
    "from passes of their own. An error is predicted / measured − 1. GiB is 2³⁰ bytes, GB 10⁹."
)


class ProfileParts(NamedTuple):
    """What profiles show, for a page to put where it belongs."""

    time: tuple[Fold, ...]
    memory_figures: tuple[Figure, ...]
    memory_remarks: tuple[str, ...]
    memory: tuple[Fold, ...]
    kernels: tuple[Section, ...]
    state: tuple[Fold, ...]
    tables: dict[str, DataTable]

    @property
    def memory_folded(self) -> tuple[Fold, ...]:
        """The folds of memory, the first with what stands in view on a page of profiles alone."""
        if not self.memory:
            return ()
        steps, *others = self.memory
        behind = tuple(one.table for one in self.memory_figures if one.table)
        return (
            steps._replace(figures=self.memory_figures, tables=(*steps.tables, *behind), remarks=self.memory_remarks),
            *others,
        )


def profile_of(comparison: Comparison) -> Profile | None:
    """The profile of a report with shares of the same passes that the comparison tells of."""
    own, totals = of_record(comparison.record), {phase.run.phase: phase.measured_s for phase in comparison.phases}
    if own is None:
        return None
    phases = [
        replace(
            one,
            ops=[
                replace(op, share=op.total_s / totals.get(one.phase, op.total_s / (op.share or 1.0))) for op in one.ops
            ],
        )
        for one in own.phases
    ]
    return replace(own, phases=phases)


def profile_parts(profiles: Sequence[Profile]) -> ProfileParts:
    """The parts of a report that a profile gives; without any, that there is none and why."""
    if not profiles:
        none = Section(
            "kernels",
            "Kernels",
            "Kernels",
            "There is no profile of this run.",
            (Figure(None, f"not measured: {_ABSENT}"),),
        )
        return ProfileParts((), (), (), (), (none,), (), {})
    made = tables.csv_tables(profiles)
    return ProfileParts(
        time=(
            _steps(profiles),
            Fold("depth", "Time by operation over depth", _findings_of(profiles, _of_phases(captions.depth_finding)),
                 _drawn(depth, "depth-plot", profiles), (made["layers"],), _closings(profiles)),
        ),
        memory_figures=_drawn(timeline, "timeline", profiles, made["timeline"]),
        memory_remarks=tuple(captions.peak_maker(phase) for one in profiles for phase in one.phases),
        memory=(
            Fold("memory-steps", "Memory step by step, and what was alive at the peak", "", (),
                 (tables.steps(profiles), tables.at_peak(profiles))),
        ),
        kernels=(_kernels(profiles, made["kernels"]),),
        state=_state(profiles, made),
        tables=made,
    )  # fmt: skip


def conditions(parts: ProfileParts) -> list[Section]:
    """The state of the device and what looking costs; none without a profile."""
    if not parts.state:
        return []
    finding = " ".join(fold.finding for fold in parts.state)
    folds = tuple(fold._replace(finding="") for fold in parts.state)
    return [Section("conditions", "Conditions", "Conditions of this run", finding, folds=folds)]


def _kernels(profiles: Sequence[Profile], table: DataTable) -> Section:
    """The operations that take most of each pass with their kernels; all of them folded."""
    passes = [(row["phase"], row["kind"]) for row in table.rows]
    longest = sorted(table.rows, key=lambda row: (passes.index((row["phase"], row["kind"])), -(row["share"] or 0.0)))
    kept = [
        row
        for one in dict.fromkeys(passes)
        for row in [row for row in longest if (row["phase"], row["kind"]) == one][:LONGEST]
    ]
    shown = table.only(kept, "longest", f"The {LONGEST} operations that take most of each pass")
    every = Fold("all-kernels", "Kernels of every operation", "", (), (table,))
    finding = _findings_of(profiles, _of_phases(captions.kernels_finding))
    return Section("kernels", "Kernels", "Kernels", finding, (shown,), folds=(every,))


def _steps(profiles: Sequence[Profile]) -> Fold:
    """One pass as a flame view: the whole pass by operation, and what ran in the order of time."""
    figures = tuple(
        Figure(flame(profile, phase, f"flame-{place}-{phase.phase}"), "", None, f"flame-{place}-{phase.phase}")
        for place, profile in enumerate(profiles)
        for phase in profile.phases
    )
    return Fold(
        "flame",
        "A pass as a flame view, and a step in the order of time",
        "",
        figures,
        (),
        (
            "The upper view adds up the whole pass by part and operation; the lower one shows what ran in the order of "
            "time, block by block, with the operations of the first. Where scripts run, a click on a frame zooms "
            "into it, and a click on the whole pass zooms out.",
        ),
    )


def _state(profiles: Sequence[Profile], made: dict[str, DataTable]) -> tuple[Fold, ...]:
    unknown = tuple(dict.fromkeys(line for one in profiles for line in captions.unknown(one)))
    return (
        Fold("state", "State of the device", _findings_of(profiles, captions.device_finding),
             _drawn(strip, "strip", profiles), (made["telemetry"],), unknown),
        Fold("observers", "What looking costs", _findings_of(profiles, _of_phases(captions.observers_finding)), (),
             (made["observers"],)),
    )  # fmt: skip


def profile_sections(profiles: Sequence[Profile]) -> list[Section]:
    """A page of profiles: time, memory, kernels and conditions, each plot drawn for each profile."""
    parts = profile_parts(profiles)
    beside = (tables.side_by_side_table(profiles),) if len(profiles) > 1 else ()
    flames, over_depth = parts.time
    every = over_depth._replace(anchor="layers", title="Time of every operation", finding="", figures=(), remarks=())
    return [
        Section("time", "Time", "Where the time goes", over_depth.finding, (*over_depth.figures, *beside),
                over_depth.remarks, (flames, every)),
        Section("memory", "Memory", "Memory", _findings_of(profiles, _of_phases(captions.memory_finding)),
                parts.memory_figures, (), parts.memory),
        *parts.kernels,
        *conditions(parts),
    ]  # fmt: skip


def profile_page(profiles: Sequence[Profile], profile_json: str, generator: str) -> str:
    """A page of profiles alone. `profile_json` must be safe inside a script element."""
    first = profiles[0]
    name = full_name(first.model)
    kinds = " and ".join(dict.fromkeys(one.kind for one in profiles))
    return fill_bounded(
        PageContent(
            generator=generator,
            title=name,
            machine=machine(first.environment),
            dtype=first.formats,
            purpose="time and memory by operation",
            headline=f"{name} in {first.formats} on {machine(first.environment)}, "
            f"profiled operation by operation: {kinds}.",
            cards=[_card(profile, phase) for profile in profiles for phase in profile.phases],
            listings=(
                Listing("What takes the time", _headlines(profiles)),
                Listing(
                    "What to distrust", list(dict.fromkeys(note for one in profiles for note in one.notes)), "doubt"
                ),
            ),
            sections=profile_sections(profiles),
            facts=surroundings(first.environment),
            closing=_CLOSING,
            record_json=Markup(profile_json),
            tables=list(tables.csv_tables(profiles).values()),
        )
    )


def _headlines(profiles: Sequence[Profile]) -> list[str]:
    """One sentence for each phase of each profile: what takes most of it."""
    return [
        f"{profile.kind}, {phase.phase}: most of the whole pass goes to {captions.largest_parts(phase)}."
        for profile in profiles
        for phase in profile.phases
    ]


def _card(profile: Profile, phase: PhaseProfile) -> Card:
    value, unit = format_seconds(phase.wall_s).split(" ")
    blocks = f"{phase.layers_measured} of {phase.layers_total} blocks, {tokens_per_s(phase.tokens_per_s)}"
    details: tuple[str, ...] = (
        f"{phase.batch} × {phase.new_tokens:,} tokens in a context of {phase.context_tokens:,}",
        blocks,
        f"its operations add up to {1 + phase.closure:.0%} of it",
    )
    state = "bad" if phase.missing or phase.throttled else "good"
    if phase.throttled:
        details = (*details, f"throttled: {', '.join(phase.throttled)}")
    return Card(f"{phase.phase.capitalize()}, {profile.kind}", value, unit, details, state=state)


def _closings(profiles: Sequence[Profile]) -> tuple[str, ...]:
    """Whether the sums close, phase by phase."""
    many = len(profiles) > 1
    return tuple(
        f"{profile.kind}: {captions.closing(phase)}" if many else captions.closing(phase)
        for profile in profiles
        for phase in profile.phases
    )


def _of_phases(find: Callable[[PhaseProfile], str]) -> Callable[[Profile], str]:
    return lambda profile: " ".join(map(find, profile.phases))


def _findings_of(profiles: Sequence[Profile], find: Callable[[Profile], str]) -> str:
    """The finding of each profile, with its kind before it where there are several."""
    if len(profiles) == 1:
        return find(profiles[0])
    return " ".join(f"{profile.kind}: {find(profile)}" for profile in profiles)


def _drawn(
    chart: Callable[[Profile], Plot], prefix: str, profiles: Sequence[Profile], table: DataTable | None = None
) -> tuple[Figure, ...]:
    """The plot of each profile; the table of all belongs to the last."""
    last = len(profiles) - 1
    return tuple(
        figure(chart, profile, f"{prefix}{place or ''}", _missing(chart, profile), table if place == last else None)
        for place, profile in enumerate(profiles)
    )


def _missing(chart: Callable[[Profile], Plot], profile: Profile) -> str | None:
    """Why a plot has nothing to show."""
    if chart is timeline and not any(phase.memory.timeline for phase in profile.phases):
        return next((phase.memory.reason for phase in profile.phases if phase.memory.reason), "no reason recorded")
    return "the system tells nothing" if chart is strip and not known(profile) else None
