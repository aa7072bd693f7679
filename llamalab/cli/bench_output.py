"""The rows of a bench as text: as a table, in llama-bench's Markdown, as CSV or as JSON.

CSV, JSON lines and Markdown are printed row by row; table and JSON are printed at the end, after a Ctrl-C too. A file
is rewritten as a whole after every row.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from llamalab.cli.output import Answer, Column, Table, answer_text, keep, percent
from llamalab.cli.terminal import fitted_to_terminal
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.measure.bench.rows import BenchRow, Percentiles

UNSTEADY = 0.1  # standard deviation over mean, above which a row has a warning
STREAMED = ("csv", "jsonl", "md")
FORMS = ("table", *STREAMED, "json")


class BenchOutput:
    """Rows on their way to stdout or to a file."""

    def __init__(self, form: str, out: Path | None, *, verbose: bool = False) -> None:
        self.rows: list[BenchRow] = []
        self._form, self._out, self._verbose, self._printed = form, out, verbose, ""

    def add(self, row: "BenchRow") -> None:
        """Write the row, or keep it for the end."""
        self.rows.append(row)
        if self._out is not None:
            self._out = keep(self._out, bench_text(self.rows, self._form) + "\n")
        elif self._form in STREAMED:
            self._print()

    def finish(self) -> None:
        """Print the formats that cannot be printed row by row."""
        if self.rows and self._out is None and self._form not in STREAMED:
            self._print()

    def _print(self) -> None:
        from tqdm import tqdm

        text = self._text() + "\n"
        # Around the progress bar, if there is one.
        tqdm.write(text.removeprefix(self._printed), file=sys.stdout, end="")
        sys.stdout.flush()
        self._printed = text

    def _text(self) -> str:
        """The text that is due on stdout."""
        if self._form == "table":
            return fitted_to_terminal(bench_answer(self.rows), verbose=self._verbose)
        return bench_text(self.rows, self._form)


def bench_text(rows: "list[BenchRow]", form: str) -> str:
    """All rows in one of FORMS, without the last line's end."""
    if form == "jsonl":
        import json

        return "\n".join(json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False) for row in rows)
    if form == "json":
        return answer_text(Answer({"rows": [row.to_dict() for row in rows]}, (), ()), form)
    if form == "csv":
        return answer_text(Answer({}, (), (Table((), [_flat(row) for row in rows]),)), form)
    if form == "md":
        return answer_text(Answer({}, (), (Table(_WIDE, [_shown(row) for row in rows]),)), form)
    return answer_text(bench_answer(rows), form)


def bench_answer(rows: "list[BenchRow]") -> Answer:
    """The rows with all their figures and times, and the table that is shown of them."""
    data = {"rows": [row.to_dict() for row in rows], "basis": "measured"}
    return Answer(data, _lead(rows), (Table(_NARROW, [_shown(row) for row in rows]),))


def _flat(row: "BenchRow") -> dict[str, Any]:
    """The figures with lists as one cell; raw times are in JSON."""
    return {key: "; ".join(value) if isinstance(value, list) else value for key, value in row.figures().items()}


def _shown(row: "BenchRow") -> dict[str, Any]:
    return row.figures() | {
        "size": format_bytes(row.size_bytes),
        "parameters": format_si(row.parameters, ""),
        "rate": _rate(row),
        "ttft": _latency(row.ttft),
        "latency": _latency(row.token_latency),
        "reached": _reached(row),
        "fraction": _if_known(row.gemm_fraction or row.stream_fraction, percent),
        "predicted": "-" if row.predicted_tokens_per_s is None else _number(row.predicted_tokens_per_s),
        "error": _if_known(row.predicted_error, lambda error: f"{100 * error:+.1f} %"),
        "kernel": _if_known(row.kernel, lambda name: name.replace("aten::", "").lstrip("_")),
        "warmup": _if_known(row.warmup_s, format_seconds),
        "predicted_from": row.prediction_basis or row.prediction_reason,
        "remark": _remark(row),
    }


def _rate(row: "BenchRow") -> str | None:
    if row.tokens_per_s is None:
        return None
    deviation = row.tokens_per_s_deviation
    return _number(row.tokens_per_s) + ("" if deviation is None else f" ± {_number(deviation)}")


def _latency(found: "Percentiles | None") -> str | None:
    """p50 / p90 / p99 in milliseconds."""
    return None if found is None else " / ".join(_number(1e3 * seconds) for seconds in found) + " ms"


def _reached(row: "BenchRow") -> str | None:
    if row.flops_per_s is not None:
        return format_si(row.flops_per_s, "FLOP/s")
    return None if row.bytes_per_s is None else format_si(row.bytes_per_s, "B/s")


def _remark(row: "BenchRow") -> str:
    disturbed = f"DISTURBED: {'; '.join(row.disturbances)}" if row.disturbances else None
    spread = _spread(row)
    above = "faster than the probes of its roof" if (row.gemm_fraction or row.stream_fraction) == 1.0 else None
    return "; ".join(one for one in (row.reason, disturbed, spread, above, *row.remarks) if one)


def _spread(row: "BenchRow") -> str | None:
    """A warning where repetitions differ so much that their mean is not meaningful."""
    rate, deviation = row.tokens_per_s, row.tokens_per_s_deviation
    if not rate or deviation is None or deviation / rate <= UNSTEADY:
        return None
    return f"UNSTEADY: repetitions spread by {deviation / rate:.0%} of their mean; repeat on a quiet machine"


def _lead(rows: "list[BenchRow]") -> tuple[str, ...]:
    """A line per model with the settings common to its rows."""
    return tuple(dict.fromkeys(_shared(row) for row in rows))


def _shared(row: "BenchRow") -> str:
    basis = f"predicted from {row.prediction_basis}" if row.prediction_basis else row.prediction_reason
    threads = f"{row.threads} thread{'s' if row.threads > 1 else ''}"
    threads += f", {row.product} products" if row.product else ""
    return (
        f"{row.model}: {format_bytes(row.size_bytes)}, {format_si(row.parameters, 'parameters')}, {row.dtype} on "
        f"{row.device} ({row.backend}, {threads}), attention {row.attention}, compiled: {row.compiled}; {basis}"
    )


def _if_known(value: Any, show: Callable[[Any], str]) -> str | None:
    return None if value is None else show(value)


def _number(value: float) -> str:
    """A number with two decimals, as in llama-bench; below 1 with three significant digits."""
    return f"{value:,.2f}" if abs(value) >= 1 or not value else f"{value:.3g}"


_RESULT = (
    Column("blocks", "blocks", rank=2),
    Column("batch", "batch"),
    Column("test", "test", rank=-1),
    Column("rate", "t/s", rank=-1),
    Column("ttft", "TTFT p50 / p90 / p99", rank=2),
    Column("latency", "token p50 / p90 / p99", rank=2),
    Column("reached", "reached", rank=1),
    Column("fraction", "of roof", rank=1),
    Column("predicted", "predicted t/s"),
    Column("error", "error"),
    Column("warmup", "warm-up", rank=3),
)
_REMARK = Column("remark", "remark", rank=-1)  # warnings are always shown
_NARROW = (Column("model", "model"), *_RESULT, _REMARK)
_WIDE = (
    Column("model", "model"),
    Column("size", "size"),
    Column("parameters", "params"),
    Column("backend", "backend"),
    Column("threads", "threads"),
    Column("dtype", "dtype"),
    Column("attention", "attention"),
    Column("kernel", "kernel"),
    *_RESULT,
    Column("predicted_from", "predicted from"),
    _REMARK,
)
