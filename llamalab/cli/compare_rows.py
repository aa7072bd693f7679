"""The rows of `llamalab compare`: measured values of every run, with our predictions."""

from llamalab.cli.output import Column
from llamalab.comparison.peer_predictions import (
    Beside,
    GivenPass,
    Guess,
    as_given,
    guessed,
    predicted_beside,
    single_pass,
)
from llamalab.formatting import format_rate, format_seconds
from llamalab.records.run import Run, RunPhase
from llamalab.startup.hints import Any

RUN_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def rows_beside(runs: list[Run], given: Guess, given_pass: GivenPass | None) -> list[dict[str, Any]]:
    """Every phase of every run; for a trace a single pass, with the shape in the file or in the options."""
    rows = []
    for place, run in enumerate(runs):
        guess = guessed(run, given)
        for phase in (single_pass(as_given(one, given_pass), guess.arch) for one in run.phases):
            ours = _beside(phase, guess) if phase.basis != "predicted" else None
            predicted_s = ours.predicted_s if ours else None
            rows.append(
                {"run": RUN_LETTERS[place], "phase": phase.name, "kind": phase.kind, "batch": phase.batch}
                | {"new_tokens": phase.new_tokens, "context_tokens": phase.context_tokens, "time_s": phase.total_s}
                | {"tokens_per_s": phase.tokens_per_s, "samples": len(phase.samples_s), "basis": phase.basis}
                | {"predicted_s": predicted_s, "error": predicted_s / phase.total_s - 1 if predicted_s else None}
                | {"predicted_from": ours.basis if ours else None}
            )
    return rows


def _beside(phase: RunPhase, guess: Guess) -> Beside:
    """The prediction stored in the file, else ours for the device that the file names."""
    if phase.predicted_s is not None:
        return Beside(phase.predicted_s, "the file")
    return predicted_beside(phase, guess)


ROWS_BESIDE = (
    Column("run", "run"),
    Column("phase", "phase"),
    Column("batch", "batch", rank=1),
    Column("time_s", "time", format_seconds),
    Column("tokens_per_s", "tokens/s", format_rate),
    Column("predicted_s", "predicted", format_seconds),
    Column("error", "error", "{:+.1%}".format),
    Column("basis", "basis", rank=2),
    Column("predicted_from", "predicted from", rank=3),
)
