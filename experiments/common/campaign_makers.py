"""What makes the files of a campaign, each from machinery that is there anyway, and what is printed of each.

A maker writes its file whole into the folder of the machine and returns key figures and a table. It imports what it
measures with: a package that is not installed is missed by the makers that need it.
"""

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from llamalab.analytic.calibration_files import parsed_constants, read_calibration
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch
from llamalab.cli.calibrate import CONSTANTS_MARK
from llamalab.cli.report_files import OUR_RECORD
from llamalab.comparison.comparison import Comparison
from llamalab.files.outputs import write_text
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.measure.bench.rows import BenchCase, BenchRow
from llamalab.measure.calibration.run import calibrate
from llamalab.measure.device.environment import environment
from llamalab.measure.device.machine import available_bytes, resolve_device
from llamalab.presets import resolve_model
from llamalab.records.record import Record
from llamalab.records.record_json import record_from_json, record_to_json

DTYPE = "bf16"
CONSTANTS_FILE = f"constants-{DTYPE}.json"
_BENCH_SCHEMA, _BENCH_OURS = 1, '"bench"'
_WHOLE = 0.5  # of the free memory: a model whose weights take less runs every block in its report
_MOST_TEST_LINES = 60
_ROOT = Path(__file__).resolve().parents[2]
_NOTHING_RAN = 5  # pytest's exit code
LARGE_BYTES = 2**31  # of weights: on a CPU such a model is benched over tied blocks


class Job(NamedTuple):
    """What all steps of a campaign share: the machine's folder, the device by torch's name, the models."""

    folder: Path
    device: str
    models: tuple[str, ...]


class Made(NamedTuple):
    """A summary of the file that a step left: key figures in a line, and a table."""

    figures: str
    lines: tuple[str, ...] = ()


def make_calibration(job: Job) -> Made:
    """Constants of this machine."""
    made = calibrate(device=job.device, dtype=DTYPE, progress=tell)
    write_text(job.folder / CONSTANTS_FILE, made.json, ours=CONSTANTS_MARK)
    lines = [
        f"{one.model:4} {one.shape.phase:8}batch {one.shape.batch:3}, {one.shape.new:4} new, {one.shape.past:5} past  "
        f"predicted {format_seconds(one.predicted_s):>10} measured {format_seconds(one.measured_s):>10} "
        f"{one.error:+7.1%}"
        for one in made.outcomes
    ]
    errors = [(phase, made.error(phase)) for phase in ("prefill", "decode")]
    errors_shown = ", ".join(f"{phase} {'not checked' if error is None else f'{error:.1%}'}" for phase, error in errors)
    gemm = made.rates.get("gemm")
    products = (
        f"{format_si(gemm.peak_flops_per_s or 0.0, 'FLOP/s')}, {format_si(gemm.bandwidth_bytes_per_s, 'B/s')}"
        if gemm
        else "not seen"
    )
    figures = f"{errors_shown} mean error on unseen passes; products {products}"
    return Made(f"{figures}; {made.rounds} rounds, grade {made.grade.words}", tuple(lines))


def make_report(job: Job, name: str) -> Made:
    """What `llamalab report` records, with the constants of the machine's folder."""
    from llamalab.measure.report.run import measure_report

    arch, place = resolve_model(name)[1], resolve_device(job.device)
    full = place.type == "cuda" and weight_bytes(arch, DTYPE) < _WHOLE * available_bytes(place)
    record = measure_report(name, arch, device=job.device, dtype=DTYPE, full=full, progress=tell)
    record = replace(record, constants=_constants(job.folder))
    write_text(job.folder / f"{name}.json", record_to_json(record), ours=OUR_RECORD)
    return Made(_passes_line(record), (*(_roof_line(roof) for roof in record.roofs), *record.notes))


def make_bench(job: Job, name: str, label: str, compiled: str) -> Made:
    """What `llamalab bench` measures; the file is written anew after every test."""
    from llamalab.measure.bench.run import measure_bench

    arch, place = resolve_model(name)[1], resolve_device(job.device)
    tied = 2 if place.type == "cpu" and weight_bytes(arch, DTYPE) > LARGE_BYTES else "auto"
    settings = {
        "schema_version": _BENCH_SCHEMA,
        "bench": label,
        "model": name,
        "dtype": DTYPE,
        "environment": asdict(environment(place, f"python -m experiments.campaign --only {label}")),
    }
    rows: list[BenchRow] = []
    bench = measure_bench(
        name,
        arch,
        cases(place.type, arch, short=compiled != "none"),
        device=job.device,
        dtype=DTYPE,
        compiled=compiled,
        tie_blocks=tied,
        repetitions=3,
        reference=_record(job.folder, name),
        progress=tell,
    )
    for row in bench:
        rows.append(row)
        text = json.dumps(settings | {"rows": [one.to_dict() for one in rows]}, indent=1, allow_nan=False)
        write_text(job.folder / f"{label}.json", text + "\n", ours=_BENCH_OURS)
    return Made(_rates_line(rows), tuple(map(_row_line, rows)))


def make_cuda_tests(job: Job) -> Made:
    """The tests marked cuda, in a process of their own; the file holds what pytest said at its end.

    Only the files that have such tests are collected, by pytest and hypothesis alone: a machine may lack what others
    import; and a warning of another torch is no failure. Raises RuntimeError where one fails, and where none ran.
    """
    own = ["-o", "addopts=--strict-markers", "-p", "no:cacheprovider", "-q", "-rs", "-W", "default", "-m", "cuda"]
    command = [sys.executable, "-m", "pytest", *own, *cuda_test_files()]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    lines = (ran.stdout.splitlines() or ran.stderr.splitlines())[-_MOST_TEST_LINES:]
    last = lines[-1] if lines else "pytest said nothing"
    outcome = {"experiment": "cuda_tests", "exit_code": ran.returncode, "lines": lines, "conclusion": last}
    write_text(job.folder / "cuda_tests.json", json.dumps(outcome, indent=1) + "\n", ours='"experiment"')
    if ran.returncode and ran.returncode != _NOTHING_RAN:
        raise RuntimeError(f"tests on the GPU must pass; pytest ended with {ran.returncode}: {' '.join(lines[-3:])}")
    if not re.search(r"\b[1-9]\d* passed", last):
        raise RuntimeError(f"tests on the GPU must run; pytest ran none: {last}")
    return Made(last, tuple(lines))


def cuda_test_files() -> list[str]:
    """The files of tests that are marked cuda, below the checkout.

    >>> "tests/attention/test_cuda.py" in cuda_test_files()
    True
    """
    paths = sorted((_ROOT / "tests").rglob("test_*.py"))
    return [str(one.relative_to(_ROOT)) for one in paths if re.search(r"mark\.cuda\b", one.read_text(encoding="utf-8"))]


def make_experiment(job: Job, module: str, arguments: tuple[str, ...], models: bool, file: str) -> Made:
    """One of the experiments, with the file that it leaves; a name of a record means that of the machine's folder."""
    given = [str(job.folder / one) if one.endswith(".json") else one for one in arguments]
    path = job.folder / file
    options = ["--models", ",".join(job.models)] if models else []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        import_module(f"experiments.{module}").main([*given, *options, "--out", str(path)])
    conclusion = str(json.loads(path.read_text(encoding="utf-8"))["conclusion"])
    *table, _ = printed.getvalue().splitlines()  # the last line is all of it as JSON
    shown = [line for line in table if line.strip() and line not in conclusion.splitlines()]
    return Made(" ".join(conclusion.split()), tuple(shown))


def cases(kind: str, arch: LlamaArch, *, short: bool = False) -> list[BenchCase]:
    """The tests of a bench: two prompts and a batch of them, and generation over depth to 4096 and batch to 64."""
    if kind == "cuda" and not short:
        prompts = [BenchCase(512, 0), BenchCase(2048, 0), BenchCase(512, 0, 0, 16)]
        return [*prompts, *(BenchCase(0, 32, depth, batch) for depth in (480, 4064) for batch in (1, 4, 16, 64))]
    if kind == "cuda":
        return [BenchCase(2048, 0), BenchCase(0, 16, 480)]
    if weight_bytes(arch, DTYPE) > LARGE_BYTES:
        return [BenchCase(64, 0), BenchCase(0, 4, 60), BenchCase(0, 4, 60, 4)]
    return [BenchCase(512, 0), BenchCase(0, 32), BenchCase(0, 32, 224, 16)]


def tell(label: str, done: float) -> None:
    """Progress on stderr."""
    print(f"  {done:4.0%} {label}", file=sys.stderr, flush=True)


def _constants(folder: Path) -> dict[str, Any] | None:
    """The machine's calibration, checked; None where there is none."""
    path = folder / CONSTANTS_FILE
    if not path.is_file():
        return None
    data = read_calibration(path)
    parsed_constants(data, path.name, DTYPE)
    return data


def _record(folder: Path, name: str) -> Record | None:
    path = folder / f"{name}.json"
    return record_from_json(path.read_text(encoding="utf-8"), source=path.name) if path.is_file() else None


def _roof_line(roof: Any) -> str:
    unit = "FLOP/s" if roof.kind in ("gemm", "attention") else "B/s"
    reached = format_seconds(roof.seconds) if roof.per_second is None else format_si(roof.per_second, unit)
    fault = "" if roof.trusted else f"  NOT trusted: {roof.reason}"
    return f"{roof.kind:9} {roof.dtype:4} {reached:>16}  {roof.shape}{fault}"


def _passes_line(record: Record) -> str:
    parts = []
    for phase in Comparison(record).phases:
        run = phase.run
        error = "" if phase.predicted_s is None else f", predicted {phase.predicted_s / run.total_s - 1:+.1%}"
        peak = "?" if run.memory.peak_bytes is None else format_bytes(run.memory.peak_bytes)
        parts.append(
            f"{run.phase} of {run.new_tokens} at {run.context_tokens}: {format_seconds(run.total_s)}{error}, peak "
            f"{peak} ({run.layers_measured} of {run.layers_total} blocks, kernel {run.kernel})"
        )
    return "; ".join(parts)


def _rates_line(rows: Sequence[BenchRow]) -> str:
    """The best prompt and generation: tokens/s and share of the roof."""
    parts = []
    for what, own in (
        ("prompts", [row for row in rows if not row.generated_tokens]),
        ("generation", [row for row in rows if row.generated_tokens]),
    ):
        known = [row for row in own if row.tokens_per_s]
        if known:
            best = max(known, key=lambda row: row.gemm_fraction or row.stream_fraction or 0.0)
            parts.append(f"{what}, at best: {_row_line(best)}")
    return "; ".join(parts) or "nothing could be run: " + "; ".join(sorted({row.reason or "" for row in rows}))


def _row_line(row: BenchRow) -> str:
    head = f"{row.test} x{row.batch}"
    if row.tokens_per_s is None:
        return f"{head}: {row.reason}"
    share = row.gemm_fraction or row.stream_fraction
    reached = "" if share is None else f", {share:.0%} of roof"
    error = "" if row.predicted_error is None else f", predicted {row.predicted_error:+.1%}"
    return (
        f"{head}: {row.tokens_per_s:,.1f} tokens/s{reached}{error} ({row.blocks}, warm-up {row.warmup_s or 0.0:.1f} s)"
    )
