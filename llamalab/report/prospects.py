"""Predictions and records beside this run: other devices, changes that shorten it, and recorded runs."""

from collections.abc import Sequence

from llamalab.analytic.forecast import Times
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.what_if import Change, Elsewhere, as_measured, predicted_workload, run_s
from llamalab.comparison.wording import title
from llamalab.formatting import format_rate, format_seconds
from llamalab.hardware import HardwareSpec
from llamalab.records.record import Record
from llamalab.report.data_table import DataTable, number, prediction, seconds, share, size_columns, speed, text

RECORDED = "recorded"


def here(comparison: Comparison) -> Elsewhere | None:
    """The same run on the record's machine, predicted; None where a prediction is impossible."""
    work = predicted_workload(comparison)
    prefill_s = run_s(comparison.basis, comparison.arch, work._replace(generate=1), as_measured(comparison))
    total_s = run_s(comparison.basis, comparison.arch, work, as_measured(comparison))
    if total_s is None or prefill_s is None:
        return None
    tokens_s = (total_s - prefill_s) / (work.generate - 1)
    times = Times(prefill_s, tokens_s, total_s, work.batch * work.generate / total_s)
    environment, constants = comparison.record.environment, comparison.basis.constants
    spec = HardwareSpec(
        name="this machine",
        title=environment.device_name,
        peak_flops_per_s={},
        bandwidth_bytes_per_s=0.0,
        memory_bytes=environment.memory_bytes,
        l2_bytes=None,
        interconnect=None,
        interconnect_bytes_per_s=None,
        tdp_w=None,
        clocking=None,
        source="this record",
        measured=True,
    )
    low, high = constants.interval(total_s, 0.0) if constants else (total_s, total_s)
    return Elsewhere(spec, 1, times, (low, high or total_s), comparison.basis.words)


def devices_table(comparison: Comparison, rows: Sequence[Elsewhere]) -> DataTable:
    """The run on the devices of the table, and on this machine, the fastest first."""
    made, own = [], here(comparison)
    rows = sorted([*([own] if own else []), *rows], key=lambda row: row.times.total_s if row.times else float("inf"))
    for row in rows:
        low, high = row.interval_s or (None, None)
        times = row.times
        made.append(
            {
                "device": row.spec.name,
                "devices": row.ranks,
                "prefill_s": times.prefill_s if times else None,
                "decode_s_per_token": times.decode_s_per_token if times else None,
                "total_s": times.total_s if times else None,
                "low_s": low,
                "high_s": high,
                "tokens_per_s": times.tokens_per_s if times else None,
                "basis": row.basis or row.reason,
            }
        )
    columns = (
        text("device"),
        number("devices", "how many"),
        seconds("prefill_s", "prefill"),
        seconds("decode_s_per_token", "per token"),
        seconds("total_s", "run"),
        seconds("low_s", "from", main=False),
        seconds("high_s", "to", main=False),
        number("tokens_per_s", "tokens/s", format_rate),
        text("basis", "basis, or why not"),
    )
    return DataTable("devices", "The same run on other devices, predicted", columns, made)


def devices_finding(comparison: Comparison, rows: Sequence[Elsewhere]) -> str:
    """The fastest device, and the predicted time on this machine."""
    work = predicted_workload(comparison)
    what = f"{work.prompt:,} + {work.generate:,} tokens, one sequence"
    known = [row for row in rows if row.times]
    if not known or known[0].times is None:
        return f"No device of the table can run {what} of {title(comparison)} in {work.dtype}."
    best, fastest_s = known[0], known[0].times.total_s
    number = f"{best.ranks} x " if best.ranks != 1 else ""
    sentence = f"{what}: {number}{best.spec.name} is predicted to be fastest, {format_seconds(fastest_s)} a run"
    here_s = run_s(comparison.basis, comparison.arch, work, as_measured(comparison))
    if here_s is not None:
        sentence += f"; this machine is predicted to take {format_seconds(here_s)}"
    return sentence + "."


def actions_table(found: Sequence[Change], basis: str) -> DataTable:
    """Changes to try, the largest saving first."""
    rows = [
        {
            "what": one.what,
            "saved_s": one.saved_s,
            "share": one.share,
            "total_s": one.total_s,
            "needs": one.needs,
            "basis": one.basis or basis,
        }
        for one in found
    ]
    columns = (
        text("what", "change"),
        seconds("saved_s", "predicted saving"),
        share("share", "of the run"),
        seconds("total_s", "run with it"),
        text("needs", "what it asks for"),
        text("basis", main=False),
    )
    return DataTable("next", "What to try next, by predicted saving", columns, rows)


def next_finding(comparison: Comparison, found: Sequence[Change]) -> str:
    """The first of them in words."""
    work = predicted_workload(comparison)
    run = f"a run of {work.prompt:,} + {work.generate:,} tokens"
    if not found:
        return f"Nothing that is known here is predicted to shorten {run}."
    best = found[0]
    return (
        f"Of {run}, {best.what} would save {format_seconds(best.saved_s)} ({best.share:.0%}): predicted, not measured. "
        "Each change is predicted alone; savings do not add up."
    )


def recorded(records: Sequence[Record]) -> DataTable:
    """Passes of committed records of other devices."""
    rows = []
    for record in records:
        comparison, environment = Comparison(record), record.environment
        for phase in comparison.phases:
            rows.append(
                {
                    "device": environment.device_name,
                    "model": record.model,
                    "phase": phase.run.phase,
                    "batch": phase.run.batch,
                    "new_tokens": phase.run.new_tokens,
                    "context_tokens": phase.run.context_tokens,
                    "predicted_s": phase.predicted_s,
                    "measured_s": phase.measured_s,
                    "error": phase.error,
                    "tokens_per_s": phase.measured_tokens_per_s,
                    "basis": comparison.basis.words,
                    "when": f"{RECORDED} {environment.started_at[:10]}",
                }
            )
    columns = (
        text("device"),
        text("when", main=False),
        text("model"),
        text("phase"),
        *size_columns(),
        *prediction(),
        speed("tokens_per_s", "measured tok/s"),
        text("basis", main=False),
    )
    return DataTable("recorded", "Runs recorded on other devices, predicted and measured", columns, rows)


def recorded_finding(records: Sequence[Record]) -> str:
    """The origin of the recorded runs."""
    names = list(dict.fromkeys(record.environment.device_name for record in records))
    return f"Not measured here: recorded on {', '.join(names)} and kept with the source, for readers without one."
