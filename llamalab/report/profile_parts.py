"""The figures and tables of profiles, in parts that a report or a page of profiles places."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from llamalab.comparison.comparison import Comparison
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.profile import Profile, profile_in
from llamalab.report import profile_captions as captions
from llamalab.report import profile_tables as tables
from llamalab.report.charts.allocations import timeline
from llamalab.report.charts.base import Plot
from llamalab.report.charts.depth import depth
from llamalab.report.charts.flame import flame
from llamalab.report.charts.telemetry import known, strip
from llamalab.report.data_table import DataTable
from llamalab.report.layout import Figure, Fold, Section, figure
from llamalab.report.profile_memory_tables import at_peak, steps

LONGEST = 4  # operations of a pass; the others are folded


class ProfileParts(NamedTuple):
    """Figures, tables and findings of profiles, for placement on a page."""

    time: tuple[Fold, ...]
    memory_figures: tuple[Figure, ...]
    memory_remarks: tuple[str, ...]
    memory: tuple[Fold, ...]
    kernels: tuple[Section, ...]
    state: tuple[Fold, ...]
    tables: dict[str, DataTable]

    @property
    def memory_folded(self) -> tuple[Fold, ...]:
        """The folds of memory; on a page of profiles alone the content of the first is shown unfolded."""
        if not self.memory:
            return ()
        steps, *others = self.memory
        behind = tuple(one.table for one in self.memory_figures if one.table)
        return (
            steps._replace(figures=self.memory_figures, tables=(*steps.tables, *behind), remarks=self.memory_remarks),
            *others,
        )


def profile_of(comparison: Comparison) -> Profile | None:
    """The profile of a report, with shares of the same passes as the comparison."""
    own, totals = profile_in(comparison.record), {phase.run.phase: phase.measured_s for phase in comparison.phases}
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


def profile_parts(profiles: Sequence[Profile], why_none: str = "") -> ProfileParts:
    """The parts from a report's profile; without one, the reason for its absence."""
    if not profiles:
        none = Section(
            "kernels",
            "Kernels",
            "Kernels",
            "There is no profile of this run.",
            (Figure(None, f"not measured: {why_none}"),),
        )
        return ProfileParts(
            time=(), memory_figures=(), memory_remarks=(), memory=(), kernels=(none,), state=(), tables={}
        )
    made = tables.csv_tables(profiles)
    return ProfileParts(
        time=(
            _steps(profiles),
            Fold(
                anchor="depth",
                title="Time by operation over depth",
                finding=findings_of(profiles, of_phases(captions.depth_finding)),
                figures=_drawn(depth, "depth-plot", profiles),
                tables=(made["layers"],),
                remarks=_closings(profiles),
            ),
        ),
        memory_figures=_drawn(timeline, "timeline", profiles, made["timeline"]),
        memory_remarks=tuple(captions.peak_maker(phase) for one in profiles for phase in one.phases),
        memory=(
            Fold(
                "memory-steps",
                "Memory step by step, and what was alive at the peak",
                "",
                (),
                (steps(profiles), at_peak(profiles)),
            ),
        ),
        kernels=(_kernels(profiles, made["kernels"]),),
        state=_state(profiles, made),
        tables=made,
    )


def conditions(parts: ProfileParts) -> list[Section]:
    """The device's state and the cost of instruments; none without a profile."""
    if not parts.state:
        return []
    finding = " ".join(fold.finding for fold in parts.state)
    folds = tuple(fold._replace(finding="") for fold in parts.state)
    return [Section("conditions", "Conditions", "Conditions of this run", finding, folds=folds)]


def _kernels(profiles: Sequence[Profile], table: DataTable) -> Section:
    """The operations with the largest shares of each pass and their kernels; all of them folded."""
    passes = [(row["phase"], row["kind"]) for row in table.rows]
    longest = sorted(table.rows, key=lambda row: (passes.index((row["phase"], row["kind"])), -(row["share"] or 0.0)))
    kept = [
        row
        for one in dict.fromkeys(passes)
        for row in [row for row in longest if (row["phase"], row["kind"]) == one][:LONGEST]
    ]
    shown = table.only(kept, "longest", f"The {LONGEST} operations that take most of each pass")
    every = Fold("all-kernels", "Kernels of every operation", "", (), (table,))
    finding = findings_of(profiles, of_phases(captions.kernels_finding))
    return Section("kernels", "Kernels", "Kernels", finding, (shown,), folds=(every,))


def _steps(profiles: Sequence[Profile]) -> Fold:
    """One pass as a flame view: by operation, and in the order of time."""
    figures = tuple(
        Figure(flame(profile, phase, f"flame-{place}-{phase.phase}"), "", None, f"flame-{place}-{phase.phase}")
        for place, profile in enumerate(profiles)
        for phase in profile.phases
    )
    return Fold(
        anchor="flame",
        title="A pass as a flame view, and a step in the order of time",
        finding="",
        figures=figures,
        tables=(),
        remarks=(
            "The upper view adds up the whole pass by part and operation; the lower one shows what ran in the order of "
            "time, block by block, with the operations of the first. Where scripts run, a click on a frame zooms "
            "into it, and a click on the whole pass zooms out.",
        ),
    )


def _state(profiles: Sequence[Profile], made: dict[str, DataTable]) -> tuple[Fold, ...]:
    unknown = tuple(dict.fromkeys(line for one in profiles for line in captions.unknown(one)))
    return (
        Fold(
            anchor="state",
            title="State of the device",
            finding=findings_of(profiles, captions.device_finding),
            figures=_drawn(strip, "strip", profiles),
            tables=(made["telemetry"],),
            remarks=unknown,
        ),
        Fold(
            "observers",
            "Cost of the instruments",
            findings_of(profiles, of_phases(captions.observers_finding)),
            (),
            (made["observers"],),
        ),
    )


def _closings(profiles: Sequence[Profile]) -> tuple[str, ...]:
    """Whether the sums close, phase by phase."""
    many = len(profiles) > 1
    return tuple(
        f"{profile.kind}: {captions.closing(phase)}" if many else captions.closing(phase)
        for profile in profiles
        for phase in profile.phases
    )


def of_phases(find: Callable[[PhaseProfile], str]) -> Callable[[Profile], str]:
    """Sentences about phases joined to one about the profile."""
    return lambda profile: " ".join(map(find, profile.phases))


def findings_of(profiles: Sequence[Profile], find: Callable[[Profile], str]) -> str:
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
