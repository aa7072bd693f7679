"""`llamalab compare`: runs compared with the first of them, phase by phase and operation by operation.

A run is a file (a record or page of llamalab report, a profile, a bench or a prediction as JSON, or a file of another
tool), a folder of such files, or a prediction named MODEL@HARDWARE.
"""

import argparse
from itertools import product
from pathlib import Path

from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import forecast
from llamalab.analytic.ops import ALGORITHMS
from llamalab.analytic.workload import Workload
from llamalab.choices import ACTIVATION_DTYPES, PHASES
from llamalab.cli.arguments import add_choice, add_counts, add_format, add_shared, one_of
from llamalab.cli.compare_rows import ROWS_BESIDE, RUN_LETTERS, rows_beside
from llamalab.cli.delivery import give
from llamalab.cli.devices import chosen_devices
from llamalab.cli.find_model import find_model
from llamalab.cli.lengths import add_lengths, run_lengths
from llamalab.cli.output import Answer, Column, Table, counted, note, percent
from llamalab.cli.parser import Parser
from llamalab.cli.predict import single_answer
from llamalab.comparison.own_runs import run_of_prediction
from llamalab.comparison.peer_predictions import (
    GivenPass,
    Guess,
)
from llamalab.comparison.run_deltas import Delta, compare_runs, differing, unmatched
from llamalab.comparison.run_files import read_runs
from llamalab.errors import InputError
from llamalab.files.outputs import check_target, write_text
from llamalab.formatting import format_ratio, format_seconds
from llamalab.records.run import Run
from llamalab.startup.hints import Any
from llamalab.units import DTYPES, PLAIN_DTYPES

SUMMARY = "runs, predictions or other tools' results held against each other, operation by operation"
EXAMPLES = (
    "llamalab compare before.json after.json",
    "llamalab compare llama-bench.json --model 7b --hardware h100",
    "llamalab compare 7b@a100 7b@h100 7b@h200 --prompt 2048 --format md",
)


def configure(parser: Parser) -> None:
    """The options of `llamalab compare`."""
    about = "files, folders of JSON files, or predictions as MODEL@HARDWARE"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=about)
    parser.add_argument("--model", help="the model of files that do not tell it, for the prediction beside each row")
    parser.add_argument("--hardware", help="the device of files that do not tell it")
    for option, known, about in (
        ("--dtype", DTYPES, "the dtype that files do not tell"),
        ("--weight-dtype", DTYPES, "storage of the weights (default: as --dtype)"),
        ("--kv-dtype", PLAIN_DTYPES, "storage of the KV cache (default: as --dtype)"),
    ):
        parser.add_argument(option, type=one_of(option, known), metavar="|".join(known), help=about)
    about = "the passes of a trace that tells no shapes, of --prompt tokens or at --context"
    parser.add_argument("--phase", type=one_of("--phase", PHASES), metavar="|".join(PHASES), help=about)
    add_lengths(parser, prompt=512, generate=128)
    add_counts(parser, "--batch", "sequences of MODEL@HARDWARE, or of a trace", default=1)
    add_shared(parser)
    add_choice(parser, "--attention", ALGORITHMS, "flash", "its attention algorithm")
    parser.add_argument("--page", metavar="FILE.html", help="write the comparison as a page too")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the comparison, and write the page where one is asked for."""
    if args.page:
        check_target(Path(args.page))
    found = answer(args)
    if args.page:
        from llamalab.report import render_comparison

        write_text(Path(args.page), render_comparison(found.data))
        note(f"the page is {args.page}")
    give(found, args)
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """Every run against the first; for a single one, its rows with our predictions."""
    runs = [run for name in args.runs for run in _runs(name, args)]
    if len(runs) > len(RUN_LETTERS):
        raise InputError(f"at most {len(RUN_LETTERS)} runs can be compared; got {len(runs)}; leave some out")
    measured = rows_beside(runs, _given(args), _given_pass(args))
    data: dict[str, Any] = {
        "runs": [
            {"run": RUN_LETTERS[place], "name": run.name, "tool": run.tool, "model": run.model, "device": run.device}
            | {"settings": run.settings}
            for place, run in enumerate(runs)
        ],
        "rows": measured,
        "comparisons": [_comparison(runs[0], other, RUN_LETTERS[place]) for place, other in enumerate(runs[1:], 1)],
        "basis": "as each row says",
    }
    tables = [table for one in data["comparisons"] for table in _tables(one)]
    known = Table(ROWS_BESIDE, measured, "Every phase of every run, and our prediction beside it:")
    return Answer(data, _lead(data), (*tables, known) if tables else (known,))


def _runs(name: str, args: argparse.Namespace) -> list[Run]:
    model, at, hardware = name.rpartition("@")
    if not at or Path(name).exists():
        return read_runs(name)
    _, arch = find_model(model)
    found = []
    for spec in chosen_devices(hardware):
        for work, words in _workloads(args):
            tier = "calibrated" if spec.measured else "shipped"
            result = forecast(arch, work, spec, choose(spec, tier, work.dtype, work.weight_dtype))
            name = f"{model}@{spec.name}{words}"
            found.append(run_of_prediction(single_answer(model, spec, work, result).data, name))
    return found


def _workloads(args: argparse.Namespace) -> list[tuple[Workload, str]]:
    """The runs of MODEL@HARDWARE over the options, each named by the options that vary."""
    dtype = args.dtype or "bf16"
    storage = args.weight_dtype or (None if dtype in ACTIVATION_DTYPES else dtype)
    dtype = dtype if dtype in ACTIVATION_DTYPES else "bf16"
    runs = list(product(run_lengths(args), args.batch, args.tensor_parallel))
    return [
        (
            Workload(
                prompt=prompt,
                generate=made,
                batch=batch,
                dtype=dtype,
                weight_dtype=storage,
                kv_dtype=args.kv_dtype,
                attention=args.attention,
                tensor_parallel=ranks,
            ),
            f" {batch} × ({prompt} + {made}), TP {ranks}" if len(runs) > 1 else "",
        )
        for (prompt, made), batch, ranks in runs
    ]


def _given(args: argparse.Namespace) -> Guess:
    arch = find_model(args.model)[1] if args.model else None
    spec = chosen_devices(args.hardware)[0] if args.hardware else None
    if len(args.tensor_parallel) > 1 and spec:
        raise InputError(f"--tensor-parallel of a file must be one number; got {len(args.tensor_parallel)}")
    return Guess(
        arch=arch,
        spec=spec,
        dtype=args.weight_dtype or args.dtype,
        ranks=args.tensor_parallel[0],
        kv_dtype=args.kv_dtype,
        attention=args.attention,
    )


def _given_pass(args: argparse.Namespace) -> GivenPass | None:
    """The shape in --phase, for a trace without shapes."""
    if args.phase is None:
        return None
    (prompt, made), batch = run_lengths(args)[0], args.batch[0]
    return (
        GivenPass("prefill", batch, prompt, prompt)
        if args.phase == "prefill"
        else GivenPass("decode", batch, 1, prompt + made)
    )


def _comparison(a: Run, b: Run, letter: str) -> dict[str, Any]:
    found = compare_runs(a, b)
    return {
        "a": a.name,
        "b": b.name,
        "letter": letter,
        "settings": {key: list(pair) for key, pair in differing(a, b).items()},
        "unmatched": unmatched(a, b),
        "phases": [
            _row(one.whole) | {"verdict": phase_verdict(one.whole), "ops": [_row(row) for row in one.rows]}
            for one in found
        ],
    }


def _row(delta: Delta) -> dict[str, Any]:
    low, high = delta.interval_s or (None, None)
    row = {key: value for key, value in delta._asdict().items() if key != "interval_s"}
    return row | {"low_s": low, "high_s": high, "ratio": delta.b_s / delta.a_s if delta.a_s and delta.b_s else None}


def phase_verdict(whole: Delta) -> str:
    """The verdict on a phase: faster, slower, or no difference seen.

    >>> phase_verdict(Delta("decode", None, 1.0, 1.2, 0.2, 1.0, (0.1, 0.3), True, "", "measured"))
    '1.20 × the time (slower)'
    """
    if whole.seen is False:
        return "no difference seen"
    assert whole.a_s
    assert whole.b_s
    ratio = whole.b_s / whole.a_s
    word = "the same" if ratio == 1 else "slower" if ratio > 1 else "faster"
    doubt = "" if whole.seen else "; too few samples to tell it from noise"
    return f"{format_ratio(ratio)} × the time ({word}{doubt})"


def _lead(data: dict[str, Any]) -> tuple[str, ...]:
    lines = []
    for one in data["comparisons"]:
        phases = "; ".join(f"{phase['phase']} {phase['verdict']}" for phase in one["phases"])
        lines.append(f"{one['letter']} against A: {phases or 'nothing that both have'}")
    lines += [f"  {run['run']}: {run['name']} ({run['tool']})" for run in data["runs"]]
    for one in data["comparisons"]:
        lines += [f"  {one['letter']} differs in {key}: {a} and {b}" for key, (a, b) in one["settings"].items()]
        if one["unmatched"]:
            lines.append(f"  not compared, only in one: {', '.join(one['unmatched'])}")
    if not data["comparisons"]:
        rows = data["rows"]
        known = [row for row in rows if row["error"] is not None]
        said = f"{counted(len(rows), 'row')}, {len(known)} with a prediction beside"
        lines.insert(0, f"{data['runs'][0]['name']}: {said}")
    without = [row["predicted_from"] for row in data["rows"] if row["predicted_from"] and row["predicted_s"] is None]
    lines += [f"  not predicted: {reason}" for reason in dict.fromkeys(without)]
    return tuple(lines)


def _signed_time(value: float) -> str:
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{format_seconds(abs(value))}"


def _tables(one: dict[str, Any]) -> list[Table]:
    rows = []
    for phase in one["phases"]:
        whole = {key: value for key, value in phase.items() if key not in ("ops", "verdict")}
        rows += [*({"b": one["letter"], **row} for row in phase["ops"]), {"b": one["letter"], **whole, "op": "TOTAL"}]
    caption = f"{one['letter']} against A, the largest part of the difference first; rows add up to the total:"
    return [Table(_DELTAS, rows, caption)] if rows else []


_DELTAS = (
    Column("op", "operation"),
    Column("phase", "phase", rank=-1),
    Column("a_s", "A", format_seconds),
    Column("b_s", "other", format_seconds),
    Column("delta_s", "difference", _signed_time, -1),
    Column("share", "of it", percent),
    Column("low_s", "from", _signed_time, 1),
    Column("high_s", "to", _signed_time, 1),
    Column("why", "why", rank=-1),
)
