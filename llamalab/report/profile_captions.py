"""Captions of a profile: the finding of each part in one or two sentences."""

from statistics import median

from llamalab.comparison.wording import short, signed_percent
from llamalab.formatting import format_bytes, format_si
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.profile import Profile
from llamalab.report.charts.telemetry import GAUGES, known

EVEN = 0.05  # relative difference from their median up to which blocks count as equal


def depth_finding(phase: PhaseProfile) -> str:
    """Whether blocks differ, and the operations with the largest share of the pass."""
    inside = [op.layers_s for op in phase.ops if op.layers_s]
    blocks = [sum(times) for times in zip(*inside, strict=True)]
    sentence = f"In {phase.phase} "
    if len(blocks) > 1:
        apart = max(blocks) / median(blocks) - 1
        longest = f"block {blocks.index(max(blocks))} takes {apart:.0%} longer than the others"
        sentence += f"{'the blocks that ran take much the same time' if apart <= EVEN else longest}, and "
    most = max(phase.ops, key=lambda op: op.total_s)
    return f"{sentence}{short(most.name)} is the largest part of the whole pass, {most.share:.0%}."


def closing(phase: PhaseProfile) -> str:
    """Whether operations and the time between them add up to a clean pass."""
    sentence = (
        f"{phase.phase.capitalize()}: operations and what lies between add up to {1 + phase.closure:.0%} of a clean "
        "pass of what ran"
    )
    return f"{sentence}: {phase.missing}." if phase.missing else f"{sentence}."


def peak_finding(phase: PhaseProfile) -> str:
    """The peak, its operation, its categories, and the error of its prediction."""
    memory, name = phase.memory, phase.phase.capitalize()
    if memory.peak_bytes is None or not memory.at_peak:
        return f"{name}: not measured: {memory.reason or 'no reason recorded'}."
    predicted, grown = memory.predicted_peak_bytes, sum(one.bytes for one in memory.at_peak if one.category == "kv")
    rest = memory.peak_bytes - grown
    against = f", {format_bytes(grown)} of it a cache that grew in the pass" if grown else ""
    if predicted is not None and rest > 0:
        against += f", {format_bytes(predicted)}{' for the rest' if grown else ''} predicted "
        against += f"({signed_percent(predicted / rest - 1)})"
    most = memory.at_peak[0]
    return (
        f"{name} peaks at {format_bytes(memory.peak_bytes)} above weights and cache in {memory.peak_op}{against}; "
        f"{most.bytes / memory.peak_bytes:.0%} of it was made by {most.op}."
    )


def kernels_finding(phase: PhaseProfile) -> str:
    """The share of named time in kernels, and where most of the rest is."""
    name, timed = phase.phase.capitalize(), [op for op in phase.ops if op.device_s is not None]
    whole = sum(op.total_s for op in timed)
    if not whole:
        return f"{name}: the profiler saw no kernel."
    busy = sum((op.device_s or 0.0) * op.count for op in timed)
    idlest = max(timed, key=lambda op: (op.gap_s or 0.0) * op.count)
    gap_s = (idlest.gap_s or 0.0) * idlest.count
    sentence = f"{name} is in kernels for {busy / whole:.0%} of its time"
    if whole > busy:
        share = gap_s / (whole - busy)
        sentence += f"; of the gaps between them {share:.0%} belong to {short(idlest.name)}"
    return f"{sentence}; attention ran {phase.kernel or 'in steps'}."


def device_finding(profile: Profile) -> str:
    """The clock during the passes, and whether the device throttled."""
    states = [state for phase in profile.phases for _, state in phase.states]
    sentences = []
    clocks = [state.clock_hz for state in states if state.clock_hz is not None]
    if clocks:
        low, high = min(clocks), max(clocks)
        words = (
            f"stayed at {format_si(high, 'Hz')}"
            if high <= 1.01 * low
            else (f"moved between {format_si(low, 'Hz')} and {format_si(high, 'Hz')}")
        )
        sentences.append(f"The clock {words} over {len(clocks)} readings, before, during and after each phase.")
    hot = [f"{phase.phase} ({', '.join(phase.throttled)})" for phase in profile.phases if phase.throttled]
    if hot:
        sentences.append(f"The device throttled during {' and '.join(hot)}: those times are too long.")
    elif all(phase.throttled is not None for phase in profile.phases):
        sentences.append("It throttled at none of them.")
    loads = [state.load_average for state in states if state.load_average is not None]
    if loads:
        sentences.append(f"The host's load was {min(loads):.1f} to {max(loads):.1f}.")
    resident = [phase.usage.resident_bytes for phase in profile.phases if phase.usage.resident_bytes is not None]
    peaks = [phase.usage.peak_resident_bytes for phase in profile.phases if phase.usage.peak_resident_bytes is not None]
    if resident and peaks:
        sentences.append(
            f"The process held up to {format_bytes(max(resident))} after a phase and {format_bytes(max(peaks))} at its "
            "peak."
        )
    return " ".join(sentences) or "The system tells nothing of the device's state."


def peak_maker(phase: PhaseProfile) -> str:
    """The operation at the peak of memory and its largest category; the comparison states the peak itself."""
    memory, name = phase.memory, phase.phase
    if memory.peak_bytes is None or not memory.at_peak:
        return f"The profile of {name} has no memory: {memory.reason or 'no reason recorded'}."
    most = memory.at_peak[0]
    share = most.bytes / memory.peak_bytes
    return f"The peak of {name} is in {memory.peak_op}; {share:.0%} of it was made by {most.op}."


def unknown(profile: Profile) -> list[str]:
    """Values that the system does not report, each reason once."""
    unknowns = [state.missing for phase in profile.phases for _, state in phase.states]
    reasons = {key: why for missing in unknowns for key, why in missing.items()}
    by_reason: dict[str, list[str]] = {}
    for gauge in GAUGES:
        if gauge not in known(profile):
            by_reason.setdefault(reasons.get(gauge.key, "no reason recorded"), []).append(gauge.name)
    if any(phase.throttled is None for phase in profile.phases):
        by_reason.setdefault(reasons.get("throttle_reasons", "no reason recorded"), []).append("throttling")
    for phase in profile.phases:
        if phase.energy.joules_per_token is None:
            by_reason.setdefault(phase.energy.reason or "no reason recorded", []).append(f"energy of {phase.phase}")
    return [f"Not known: {', '.join(names)}: {reason}." for reason, names in by_reason.items()]


def observers_finding(phase: PhaseProfile) -> str:
    """The instruments with the least and the largest cost."""
    if not phase.instruments:
        return f"{phase.phase.capitalize()}: no instrument was held against a clean pass."
    cheap = min(phase.instruments, key=lambda one: one.ratio)
    dear = max(phase.instruments, key=lambda one: one.ratio)
    return (
        f"In {phase.phase} a pass that is looked at takes {cheap.ratio:.2f}x ({cheap.name}) to {dear.ratio:.2f}x "
        f"({dear.name}) the time of a clean one."
    )


def largest_parts(phase: PhaseProfile) -> str:
    """The three operations with the largest shares of the whole pass."""
    most = sorted(phase.ops, key=lambda op: -op.total_s)[:3]
    return ", ".join(f"{short(op.name)} {op.share:.0%}" for op in most)
