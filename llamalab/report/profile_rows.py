"""The passes and operations of several profiles in one order, and the columns that identify a row's pass."""

from collections.abc import Iterator, Sequence

from llamalab.records.phase_profile import OpProfile, PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report.data_table import (
    DataColumn,
    text,
)


def phase_named(profile: Profile, name: str) -> PhaseProfile | None:
    """The phase of that name; None where it was not profiled."""
    return next((phase for phase in profile.phases if phase.phase == name), None)


def each_phase(profiles: Sequence[Profile]) -> Iterator[tuple[Profile, PhaseProfile]]:
    """The phases of all profiles, each with its profile."""
    return ((profile, phase) for profile in profiles for phase in profile.phases)


def each_op(profiles: Sequence[Profile]) -> Iterator[tuple[Profile, PhaseProfile, OpProfile]]:
    """The operations of all phases, each with its phase and profile."""
    return ((profile, phase, op) for profile, phase in each_phase(profiles) for op in phase.ops)


def pass_columns(profiles: Sequence[Profile]) -> tuple[DataColumn, ...]:
    """The columns that identify the pass of a row."""
    phase = text("phase", "phase")
    return (phase, text("kind", "model")) if len(profiles) > 1 else (phase,)
