"""What else is told beside this run: other devices, what to try next, and recorded runs, as tables and words."""

from collections.abc import Sequence

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.sentences import percent, title
from llamalab.comparison.what_if import GENERATED, Change, Elsewhere, as_measured, changes, elsewhere, run_s, workload
from llamalab.records.record import Record
from llamalab.report.tables import Column, Table
from llamalab.units import format_seconds

RECORDED = "recorded"


def _share(value: float) -> str:
    return f"{value:.0%}"


def _text(key: str, name: str) -> Column:
    return Column(key, name, numeric=False)


def devices(rows: Sequence[Elsewhere]) -> Table:
    """The run on the devices of the table."""
    made = []
    for row in rows:
        low, high = row.interval_s or (None, None)
        times = row.times
        made.append({
            "device": row.spec.name, "devices": row.ranks, "prefill_s": times.prefill_s if times else None,
            "decode_s_per_token": times.decode_s_per_token if times else None,
            "total_s": times.total_s if times else None, "low_s": low, "high_s": high,
            "tokens_per_s": times.tokens_per_s if times else None, "basis": row.basis or row.reason,
        })  # fmt: skip
    columns = (
        _text("device", "device"), Column("devices", "how many"), Column("prefill_s", "prefill", format_seconds),
        Column("decode_s_per_token", "per token", format_seconds), Column("total_s", "run", format_seconds),
        Column("low_s", "from", format_seconds), Column("high_s", "to", format_seconds),
        Column("tokens_per_s", "tokens/s", "{:,.1f}".format), _text("basis", "basis, or why not"),
    )  # fmt: skip
    return Table("devices", "The same run on other devices, predicted", columns, made)


def devices_finding(comparison: Comparison, rows: Sequence[Elsewhere]) -> str:
    """Which device is fastest, and what this machine is predicted to take."""
    work = workload(comparison)
    what = f"{work.prompt:,} + {GENERATED} tokens, one sequence"
    told = [row for row in rows if row.times]
    if not told or told[0].times is None:
        return f"No device of the table can run {what} of {title(comparison)} in {work.dtype}."
    best, fastest_s = told[0], told[0].times.total_s
    number = f"{best.ranks} x " if best.ranks != 1 else ""
    sentence = f"{what}: {number}{best.spec.name} is predicted to be fastest, {format_seconds(fastest_s)} a run"
    here_s = run_s(comparison.basis, comparison.arch, work, as_measured(comparison))
    if here_s is not None:
        sentence += f"; this machine is predicted to take {format_seconds(here_s)}"
    return sentence + "."


def next_steps(found: Sequence[Change], basis: str) -> Table:
    """What to try, the largest saving first."""
    rows = [
        {"what": one.what, "saved_s": one.saved_s, "share": one.share, "total_s": one.total_s, "needs": one.needs,
         "basis": basis}
        for one in found
    ]  # fmt: skip
    columns = (
        _text("what", "change"), Column("saved_s", "predicted saving", format_seconds),
        Column("share", "of the run", _share),
        Column("total_s", "run with it", format_seconds), _text("needs", "what it asks for"), _text("basis", "basis"),
    )  # fmt: skip
    return Table("next", "What to try next, by predicted saving", columns, rows)


def next_finding(comparison: Comparison, found: Sequence[Change]) -> str:
    """The first of them in words."""
    work = workload(comparison)
    run = f"a run of {work.prompt:,} + {GENERATED} tokens"
    if not found:
        return f"Nothing that is known here is predicted to shorten {run}."
    best = found[0]
    return (
        f"Of {run}, {best.what} would save {format_seconds(best.saved_s)} ({best.share:.0%}): predicted, not measured. "
        "Each change is told by itself; savings do not add up."
    )


def recorded(records: Sequence[Record]) -> Table:
    """Passes of committed records of other devices."""
    rows = []
    for record in records:
        comparison, environment = Comparison(record), record.environment
        for phase in comparison.phases:
            rows.append({
                "device": environment.device_name, "model": record.model, "phase": phase.run.phase,
                "batch": phase.run.batch, "new_tokens": phase.run.new_tokens,
                "context_tokens": phase.run.context_tokens, "predicted_s": phase.predicted_s,
                "measured_s": phase.measured_s, "error": phase.error,
                "tokens_per_s": phase.measured_tokens_per_s, "basis": comparison.basis.words,
                "when": f"{RECORDED} {environment.started_at[:10]}",
            })  # fmt: skip
    columns = (
        _text("device", "device"), _text("when", "when"), _text("model", "model"), _text("phase", "phase"),
        Column("batch", "batch"),
        Column("new_tokens", "new tokens", "{:,}".format), Column("context_tokens", "context", "{:,}".format),
        Column("predicted_s", "predicted", format_seconds), Column("measured_s", "measured", format_seconds),
        Column("error", "error", percent), Column("tokens_per_s", "measured tok/s", "{:,.4g}".format),
        _text("basis", "basis"),
    )  # fmt: skip
    return Table("recorded", "Runs recorded on other devices, predicted and measured", columns, rows)


def recorded_finding(records: Sequence[Record]) -> str:
    """Where the recorded runs come from."""
    names = list(dict.fromkeys(record.environment.device_name for record in records))
    return f"Not measured here: recorded on {', '.join(names)} and kept with the source, for readers without one."


def told(comparison: Comparison) -> tuple[list[Elsewhere], list[Change]]:
    """What the tables show: the run on other devices, and what to try here."""
    return elsewhere(comparison.arch, workload(comparison), comparison.stack), changes(comparison)
