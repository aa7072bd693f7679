"""The findings of a record in words. All figures come from llamalab.comparison.comparison."""

from llamalab.comparison.claims import Coverage, coverage, memory_held, phase_held, wrong_winners
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.crossover import crossover
from llamalab.comparison.passes import Phase, relative_error
from llamalab.comparison.wording import blocks, machine, short, signed_percent, title, tokens_per_s
from llamalab.formatting import format_bytes, format_si
from llamalab.startup.hints import NamedTuple

_VERBS = {"prefill": "reads a {tokens:,}-token prompt at", "decode": "writes at"}
DISTURBED = 1.1  # slowdown of the op-by-op pass beyond which it does not represent a clean one
_ROOFS = {"compute": ("GEMM", "FLOP/s"), "memory": ("memory", "B/s")}


class Verdict(NamedTuple):
    """One headline, the predictions that failed, the findings, and limits of their validity."""

    headline: str
    failures: tuple[str, ...]
    findings: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it, one sentence per line, failures first."""
        failed = (f"Failed: {sentence}" for sentence in self.failures)
        return "\n".join((self.headline, *failed, *self.findings, *self.doubts))


def verdict(comparison: Comparison) -> Verdict:
    """The verdict of a record in words."""
    findings = [
        *(phase_sentence(phase) for phase in comparison.phases if phase_held(phase) is not False),
        error_sentence(comparison),
        *([] if wrong_counts(comparison) else [checks_sentence(comparison)]),
        crossover_sentence(comparison),
        fit_sentence(comparison),
    ]
    return Verdict(headline(comparison), failures(comparison), tuple(filter(None, findings)), doubts(comparison))


def failures(comparison: Comparison) -> tuple[str, ...]:
    """The predictions that did not hold, one sentence each."""
    held = coverage(comparison)
    return tuple(
        filter(
            None,
            [
                checks_sentence(comparison) if wrong_counts(comparison) else "",
                *(phase_sentence(phase) for phase in comparison.phases if phase_held(phase) is False),
                winner_sentence(comparison),
                *(memory_sentence(phase) for phase in comparison.phases if memory_held(phase) is False),
                "" if held is None or held.held else coverage_sentence(held),
            ],
        )
    )


def doubts(comparison: Comparison) -> tuple[str, ...]:
    """Conditions that limit the validity of the figures, one sentence each."""
    record, constants = comparison.record, comparison.basis.constants
    untrusted = [roof for roof in record.roofs if not roof.trusted]
    return tuple(
        filter(
            None,
            [
                extrapolation_sentence(comparison),
                "" if constants else "Predictions rest on roofs alone, which leave out the time of a call.",
                f"The calibration is graded {constants.grade.words}."
                if constants and constants.grade and constants.grade.name == "poor"
                else "",
                *(
                    f"The {roof.kind} roof for {roof.dtype} is not trusted: {roof.reason or 'no reason recorded'}."
                    for roof in untrusted
                ),
                raised_roofs_sentence(comparison),
                *(observer_sentence(phase) for phase in comparison.phases),
            ],
        )
    )


def wrong_counts(comparison: Comparison) -> bool:
    """Whether a number that must equal its count does not."""
    return not (comparison.parameters.exact and comparison.kv.exact)


def winner_sentence(comparison: Comparison) -> str:
    """Where the predicted winner of flash against naive was wrong; empty where it was right."""
    wrong = wrong_winners(comparison)
    if not wrong:
        return ""
    last = wrong[-1]
    times = [
        f"{name} {format_si(naive, 's')} against {format_si(flash, 's')}"
        for name, naive, flash in (
            ("predicted", last.naive.predicted_s or 0.0, last.flash.predicted_s or 0.0),
            ("measured", last.naive.measured_s or 0.0, last.flash.measured_s or 0.0),
        )
    ]
    lengths = (
        " and ".join(f"{one.tokens:,}" for one in wrong)
        if len(wrong) < 3
        else (f"{wrong[0].tokens:,} to {last.tokens:,}")
    )
    return (
        f"Flash against naive: {last.predicted} was predicted to be faster than {last.measured} at {lengths} tokens, "
        f"and is slower; naive against {last.flash.point.backend} at {last.tokens:,}: {', '.join(times)}."
    )


def memory_sentence(phase: Phase) -> str:
    """The peak of activations of a phase, measured and predicted."""
    memory, predicted, name = phase.run.memory, phase.predicted_memory.bytes, phase.run.phase
    if memory.peak_bytes is None:
        return f"Activations of {name}: not measured: {memory.reason or 'no reason recorded'}."
    error = relative_error(predicted, memory.peak_bytes)
    words = "" if error is None else f" ({signed_percent(error)})"
    peak = format_bytes(memory.peak_bytes)
    return f"Activations of {name} peak at {peak}, {format_bytes(predicted)} predicted{words}."


def coverage_sentence(held: Coverage) -> str:
    """The share of operations within the interval of their prediction."""
    return f"{held.inside} of {held.of} operations lie in the interval of their prediction; nine in ten should."


def observer_sentence(phase: Phase) -> str:
    """The time that op-by-op timing adds to a pass; empty where it is small."""
    ratio = phase.run.observer_ratio
    if ratio is None or ratio < DISTURBED:
        return ""
    return f"Timing {phase.run.phase} op by op takes {ratio:.2f}x the clean pass: single operations are shown too slow."


def headline(comparison: Comparison) -> str:
    """Speed of the model on this machine."""
    deeds = [
        f"{_VERBS.get(phase.run.phase, phase.run.phase + ' runs at').format(tokens=phase.run.new_tokens)} "
        f"{tokens_per_s(phase.measured_tokens_per_s)}"
        for phase in comparison.phases
    ]
    place = machine(comparison.record.environment)
    stored = comparison.record.formats
    return f"{title(comparison)} in {stored} on {place} {' and '.join(deeds)}."


def phase_sentence(phase: Phase) -> str:
    """Predicted and measured speed of a phase, and its limiting roof."""
    name, measured = phase.run.phase.capitalize(), tokens_per_s(phase.measured_tokens_per_s)
    if phase.run.basis == "extrapolated":
        measured += f" (extrapolated from {blocks(phase)})"
    if phase.predicted_tokens_per_s is None or phase.error is None:
        return f"{name}: measured {measured}; {phase.reason}."
    predicted = tokens_per_s(phase.predicted_tokens_per_s)
    error = signed_percent(phase.error)
    if phase_held(phase) is False and phase.interval_s:
        error += f", outside {format_si(phase.interval_s[0], 's')} to {format_si(phase.interval_s[1], 's')}"
    return f"{name} is {limit_words(phase)}: predicted {predicted}, measured {measured}, error in time {error}."


def limit_words(phase: Phase) -> str:
    """The roof that limits a phase and the share that it reaches."""
    limit = phase.limit
    if limit is None:
        return "of unknown bound"
    if limit.rate is None or limit.roof is None or limit.fraction is None:
        return f"{limit.name}-bound"
    roof, unit = _ROOFS[limit.name]
    return (
        f"{limit.name}-bound at {limit.fraction:.0%} of the measured {roof} roof "
        f"({format_si(limit.rate, unit)} of {format_si(limit.roof, unit)})"
    )


def error_sentence(comparison: Comparison) -> str:
    """The errors of predictions, op by op."""
    errors = comparison.errors
    if errors is None:
        return "No operation has both a prediction and a measurement."
    worst, error = errors.worst, errors.worst.error
    assert error is not None
    return (
        f"Over {errors.rows} operations the median error of a prediction is {errors.median:.0%} and nine in ten "
        f"are within {errors.p90:.0%}; the worst is {short(worst.op.name)} in {worst.phase} at {signed_percent(error)}."
        + (f" {errors.outside} more lie outside what was calibrated." if errors.outside else "")
    )


def checks_sentence(comparison: Comparison) -> str:
    """The two counts that must be exact."""
    sentences = []
    for what, check in (("parameters", comparison.parameters), ("bytes of KV cache", comparison.kv)):
        same = "exactly as counted" if check.exact else f"but {check.expected:,} were counted: an error to explain"
        sentences.append(f"{check.measured:,} {what}, {same}")
    return f"The model has {sentences[0]}; {sentences[1]}."


def crossover_sentence(comparison: Comparison) -> str:
    """Flash against naive, in words."""
    found = crossover(comparison)
    if found is None:
        return "Flash and naive attention were not both measured at any length."
    if found.tokens is None:
        return (
            f"Flash attention ({found.backend}) does not overtake naive attention up to {found.longest:,} tokens: "
            f"there it takes {1 / found.speedup:.2f}x its time."
        )
    return (
        f"Flash attention ({found.backend}) is faster than naive from {found.tokens:,} tokens on, "
        f"{found.speedup:.1f}x at {found.longest:,}."
    )


def fit_sentence(comparison: Comparison) -> str:
    """The largest batch that fits."""
    seq = comparison.arch.max_positions
    memory, batch = format_bytes(comparison.record.environment.memory_bytes), comparison.fits(seq)
    if not batch:
        return f"Weights and the cache of one {seq:,}-token sequence do not fit in this device's {memory}."
    sequences = "one sequence" if batch == 1 else f"up to {batch:,} sequences"
    return f"Beside the weights, {sequences} of {seq:,} tokens fit in this device's {memory}."


def extrapolation_sentence(comparison: Comparison) -> str:
    """Blocks whose time was extrapolated; empty where all ran."""
    partial = [phase for phase in comparison.phases if phase.run.basis == "extrapolated"]
    if not partial:
        return ""
    return f"Whole-model times are extrapolated from {blocks(partial[0])}; embedding and head ran as they are."


def raised_roofs_sentence(comparison: Comparison) -> str:
    """Roofs that were raised to rates of the run, because it exceeded every probe; empty without any."""
    raised = [roof for roof in comparison.record.roofs if roof.raised_by and roof.probed_per_second and roof.per_second]
    words = ", ".join(
        f"{roof.kind} by {(roof.per_second or 0.0) / (roof.probed_per_second or 1.0) - 1:.0%} "
        f"({short(roof.raised_by or '')})"
        for roof in raised
    )
    return f"The run was faster than the probes of a roof, and its rate is the roof now: {words}." if words else ""
