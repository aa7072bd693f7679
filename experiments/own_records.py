"""Errors of predictions for our own model on machines that were calibrated.

    python -m experiments.own_records [FOLDER]        default: experiments/records

Each folder below holds one machine: records as `llamalab report` writes them, and constants-DTYPE.json
as `llamalab calibrate` made it there. The constants come from blocks of other sizes at other token
counts; the passes of a record, and the passes that the calibration was checked on, are scored. Time is
scored against the median of a pass, which is what the report shows, and against its fastest round,
which other work on the machine has disturbed least. Memory is what a pass holds at its peak: weights,
cache and activations of the blocks that ran.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.folders import RECORDS
from experiments.common.published import mape
from llamalab.analytic.calibration_files import read_calibration
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import weight_bytes
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Phase
from llamalab.report.recorded_runs import CONSTANTS, records_of

_COLUMNS = (
    "machine",
    "model",
    "from",
    "phase",
    "batch",
    "new",
    "context",
    "load",
    "predicted",
    "fastest",
    "error",
    "median",
    "error",
    "peak memory",
)


class Score(NamedTuple):
    """One pass: predicted seconds beside the median and the fastest round; bytes at its peak where known."""

    machine: str
    kind: str
    model: str
    source: str
    phase: str
    batch: int
    new_tokens: int
    context_tokens: int
    load: float | None
    predicted_s: float
    median_s: float | None
    fastest_s: float
    predicted_bytes: int | None = None
    measured_bytes: int | None = None

    @property
    def error(self) -> float:
        """Predicted / fastest - 1."""
        return self.predicted_s / self.fastest_s - 1

    @property
    def median_error(self) -> float | None:
        """Predicted / median - 1."""
        return self.predicted_s / self.median_s - 1 if self.median_s else None

    @property
    def memory_error(self) -> float | None:
        """Predicted / measured - 1 of the bytes held."""
        return self.predicted_bytes / self.measured_bytes - 1 if self.predicted_bytes and self.measured_bytes else None


def scores(folder: Path = RECORDS) -> list[Score]:
    """Every pass of every machine that has both constants and records."""
    return [
        one for machine in sorted(folder.glob("*/")) for path in calibrations(machine) for one in _of(machine, path)
    ]


def calibrations(machine: Path) -> list[Path]:
    """The constants files of a machine."""
    return sorted(machine.glob(f"{CONSTANTS}*.json"))


def _of(machine: Path, path: Path) -> Iterator[Score]:
    data = read_calibration(path)
    own = [record for record in records_of(machine) if record.dtype == data["dtype"]]
    kind = own[0].environment.device if own else "cpu"
    for record in own:
        comparison = Comparison(dataclasses.replace(record, constants=data))
        for phase in comparison.phases:
            yield _score(machine.name, comparison, phase)
    load = max(data.get("load_average") or [0.0])
    for point in data["validation"]["points"]:
        shape = (point["batch"], point["new"], point["past"] + point["new"])
        phase_name = "decode" if point["new"] == 1 else "prefill"
        yield Score(
            machine.name,
            kind,
            point["model"],
            "calibration",
            phase_name,
            *shape,
            load,
            point["predicted_s"],
            None,
            point["measured_s"],
        )


def _score(machine: str, comparison: Comparison, phase: Phase) -> Score:
    record, run = comparison.record, phase.run
    assert phase.predicted_s is not None  # it is predicted from constants, which hold every class
    part = comparison.arch.replace(n_layers=run.layers_measured)
    held = weight_bytes(part, run.dtype)
    held += kv_bytes(part, seq=record.passes[-1].context_tokens, batch=run.batch, dtype=run.dtype)
    peak, resident = run.memory.peak_bytes, run.memory.resident_bytes
    return Score(
        machine=machine,
        kind=record.environment.device,
        model=record.model,
        source="record",
        phase=run.phase,
        batch=run.batch,
        new_tokens=run.new_tokens,
        context_tokens=run.context_tokens,
        load=record.environment.before.load_average if record.environment.before else None,
        predicted_s=phase.predicted_s,
        median_s=run.total_s,
        fastest_s=sum(min(row.samples_s) * row.count for row in run.parts),
        predicted_bytes=held + phase.predicted_memory.bytes,
        measured_bytes=None if peak is None or resident is None else resident + peak,
    )


def page(found: list[Score]) -> list[str]:
    """The part of docs/accuracy.md about our own model."""
    lines = ["## Records of our own model", ""]
    if not found:
        return [*lines, "None is committed."]
    lines += [
        "Predicted from constants that `llamalab calibrate` fitted on the same machine, on blocks 512 to 3072 wide",
        "at token counts that are not scored. Times are scored against the fastest round of a pass, which other work",
        "on the machine disturbs least; the error against the median, which a report shows, stands beside it. Peak",
        "memory is weights, cache and activations of the blocks that ran; the activations of a decode step alone, a",
        "few hundred KB, are predicted 14 % too low, as the scratch of fused kernels is not counted. How the records",
        "were made and chosen is described in `experiments/records/README.md`.",
        "",
        "| machine | what | passes | mean error | against medians |",
        "|---|---|---:|---:|---:|",
    ]
    for machine in dict.fromkeys(score.machine for score in found):
        lines += _summary([score for score in found if score.machine == machine])
    lines += [
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{4 * '---|'}{(len(_COLUMNS) - 4) * '---:|'}",
    ]
    return [*lines, *(_row(score) for score in found)]


def _summary(own: list[Score]) -> list[str]:
    lines = []
    for phase in ("prefill", "decode"):
        rows = [score for score in own if score.phase == phase]
        medians = [score.median_error for score in rows if score.median_error is not None]
        shown = _share(mape(medians)) if medians else "–"
        cells = (
            own[0].machine,
            phase,
            len(rows),
            _share(mape(score.error for score in rows)),
            shown,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    held = [score.memory_error for score in own if score.memory_error is not None]
    cells = (own[0].machine, "peak memory", len(held), _share(mape(held), 3), "–")
    return [*lines, f"| {' | '.join(map(str, cells))} |"] if held else lines


def _row(score: Score) -> str:
    cells = (
        score.machine,
        score.model,
        score.source,
        score.phase,
        score.batch,
        score.new_tokens,
        score.context_tokens,
        "–" if score.load is None else f"{score.load:.1f}",
        _ms(score.predicted_s),
        _ms(score.fastest_s),
        f"{100 * score.error:+.1f} %",
        "–" if score.median_s is None else _ms(score.median_s),
        "–" if score.median_error is None else f"{100 * score.median_error:+.1f} %",
        "–" if score.memory_error is None else f"{100 * score.memory_error:+.3f} %",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f} ms"


def _share(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def result(found: list[Score]) -> dict[str, Any]:
    """Mean absolute errors by phase, for the last line of output."""
    known: dict[str, Any] = {"passes": len(found)}
    for phase in ("prefill", "decode"):
        errors = [score.error for score in found if score.phase == phase]
        known[f"{phase}_mape"] = round(mape(errors), 4) if errors else None
    return known


def main(argv: list[str]) -> int:
    """Print the tables; the last line is the result as JSON."""
    found = scores(Path(argv[0])) if argv else scores()
    print("\n".join(page(found)))
    print(json.dumps(result(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
