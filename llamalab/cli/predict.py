"""`llamalab predict`: the time that a run should take on a device, and what that rests on."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from llamalab.analytic.forecast import (
    Basis,
    Forecast,
    Workload,
    bound_times,
    check_link,
    forecast,
    memory_needed,
    run_times,
)
from llamalab.analytic.ops import Op
from llamalab.analytic.roofline import predict_pass
from llamalab.analytic.stack_constants import StackConstants
from llamalab.cli.arguments import Parser, add_format
from llamalab.cli.delivery import give
from llamalab.cli.find_model import find_model
from llamalab.cli.output import Answer, Column, Table
from llamalab.cli.runs import (
    Case,
    add_basis,
    add_hardware,
    add_models,
    add_numbers,
    add_ranks,
    add_shape,
    cases,
    constants_of,
)
from llamalab.errors import InputError, UnavailableError
from llamalab.hardware import HardwareSpec
from llamalab.plain_text import csv_text
from llamalab.units import format_bytes, format_rate, format_seconds, format_si

SUMMARY = "predicted time of prefill, decode and a whole run, with its bound and its interval"
EXAMPLES = (
    "llamalab predict --model 7b --hardware a100-40gb-sxm --prompt 1024 --generate 1024 --batch 16 --dtype fp16",
    "llamalab predict --model 70b --hardware h100-80gb-sxm --tensor-parallel 4 --weight-dtype fp8 --kv-dtype fp8",
    "llamalab predict --prompt 512-8192*2 --batch 1,2,4,8 --model 7b,13b,70b --hardware all --format csv",
)
ASSUMED = "tensorrt-llm"  # shipped constants: kernels as servers fuse them, and the host of its 0.5
SWEEP_KEYS = (
    "model", "hardware", "tensor_parallel", "prompt", "generate", "batch", "dtype", "weight_dtype", "kv_dtype",
    "fits", "needed_bytes", "prefill_s", "decode_s_per_token", "total_s", "tokens_per_s", "bound_s", "basis",
    "low_s", "high_s", "reason", "stack",
)  # fmt: skip


def configure(parser: Parser) -> None:
    """The options of `llamalab predict`."""
    add_models(parser)
    add_hardware(parser, "h200-141gb-sxm")
    add_shape(parser, generate="128")
    add_ranks(parser, "1")
    add_numbers(parser)
    add_basis(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print one prediction with its op table, or a row for every combination."""
    if args.format == "csv" and args.out is None and len(list(islice(cases(args), 2))) > 1:
        _stream(sweep(args))
    else:
        give(answer(args), args)
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """One prediction with its op table, or a row for every combination."""
    case, *others = islice(cases(args), 2)
    if not others:
        return _answer(case, forecast(case.arch, case.work, case.spec, constants_of(args, case.spec)))
    rows = list(sweep(args))
    return Answer({"rows": rows}, (), (Table(_SWEEP_COLUMNS, rows),))


def sweep(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row per combination, as it is computed; times are None, with the reason, where there can be none."""
    known: dict[str, Any] = {}
    for case in cases(args):
        if case.spec.name not in known:
            try:
                known[case.spec.name] = constants_of(args, case.spec)
            except UnavailableError as error:
                known[case.spec.name] = str(error)
        yield _row(case, known[case.spec.name])


def _row(case: Case, known: Any) -> dict[str, Any]:
    work = case.work
    row = dict.fromkeys(SWEEP_KEYS) | {
        "model": case.model,
        "hardware": case.spec.name,
        "tensor_parallel": work.devices,
        "prompt": work.prompt,
        "generate": work.generate,
        "batch": work.batch,
        "dtype": work.dtype,
        "weight_dtype": work.weight_dtype or work.dtype,
        "kv_dtype": work.kv_dtype or work.dtype,
    }
    try:
        needed = memory_needed(case.arch, work).total_bytes
    except InputError as error:  # these ranks cannot share this model
        return row | {"reason": str(error)}
    room = case.spec.usable_memory_bytes
    row |= {"needed_bytes": needed, "fits": room is None or needed <= room}
    if isinstance(known, str):
        return row | {"reason": known}
    if not row["fits"]:
        return row | {"reason": f"{format_bytes(needed - (room or 0))} too much"}
    try:
        check_link(work, case.spec, known)
        constants: Basis = known
        times = run_times(case.arch, work, constants.rates, constants.host)
    except UnavailableError as error:  # no link, or no constants of a class
        return row | {"reason": str(error)}
    bound_s = bound_times(case.arch, work, constants.rates, case.spec.l2_bytes).total_s
    low, high = constants.interval(times.total_s, bound_s)
    row["stack"] = stack_name(constants)
    return row | times._asdict() | {"bound_s": bound_s, "basis": constants.basis, "low_s": low, "high_s": high}


def _stream(rows: Iterable[dict[str, Any]]) -> None:
    sys.stdout.write(csv_text(SWEEP_KEYS, ()))
    for row in rows:
        sys.stdout.write(csv_text(SWEEP_KEYS, [row], header=False))


_SWEEP_COLUMNS = (
    Column("model", "model"),
    Column("hardware", "hardware"),
    Column("tensor_parallel", "TP"),
    Column("prompt", "prompt"),
    Column("generate", "generate"),
    Column("batch", "batch"),
    Column("prefill_s", "prefill", format_seconds),
    Column("decode_s_per_token", "per token", format_seconds),
    Column("total_s", "total", format_seconds),
    Column("tokens_per_s", "tokens/s", format_rate),
    Column("reason", "why not"),
)
_OP_COLUMNS = (
    Column("phase", "phase"),
    Column("op", "operation"),
    Column("count", "count"),
    Column("flops", "FLOPs", lambda value: format_si(value, "FLOP")),
    Column("bytes", "moved", format_bytes),
    Column("time_s", "time each", format_seconds),
    Column("bound_s", "bound", format_seconds, 1),
    Column("total_s", "in all", format_seconds),
    Column("limit", "limit"),
)


def stack_name(constants: Basis) -> str | None:
    """The stack that constants are of: None where they were measured here, or are a bound."""
    if isinstance(constants, StackConstants):
        return constants.stack.name
    return ASSUMED if constants.basis.startswith("shipped") else None


def stack_of(result: Forecast) -> dict[str, Any]:
    """The stack of a prediction: its row of constants, or which one was assumed."""
    constants = result.constants
    if not isinstance(constants, StackConstants):
        return {"name": stack_name(constants), "assumed": True}
    row = constants.stack._asdict()
    return {"name": row.pop("name"), "assumed": constants.assumed, **row}


def predicted_rows(phase: str, ops: tuple[Op, ...], result: Forecast) -> list[dict[str, Any]]:
    """The table of one pass with its predicted times."""
    predictions = predict_pass(ops, result.constants.rates)
    return [
        {
            "phase": phase,
            "op": op.name,
            "kind": op.kind,
            "part": op.part,
            "count": op.count,
            "flops": op.flops_causal,
            "vector_flops": op.vector_flops,
            "weight_bytes": op.weight_bytes,
            "read_bytes": op.read_bytes,
            "written_bytes": op.written_bytes,
            "link_bytes": op.link_bytes,
            "bytes": op.bytes,
            **predictions[op.name]._asdict(),
            "total_s": op.count * predictions[op.name].time_s,
        }
        for op in ops
    ]


def single_answer(model: str, spec: HardwareSpec, work: Workload, result: Forecast) -> Answer:
    """One prediction of a model by its name."""
    return _answer(Case(model, find_model(model)[1], spec, work), result)


def _answer(case: Case, result: Forecast) -> Answer:
    work, times, bound = case.work, result.times, result.bound
    rows = predicted_rows("prefill", result.prefill_ops, result) + predicted_rows("decode", result.decode_ops, result)
    low, high = result.interval
    data = {
        "model": case.model,
        "hardware": case.spec.name,
        "inputs": work._asdict(),
        **times._asdict(),
        "bound": bound._asdict(),
        "basis": result.basis,
        "stack": stack_of(result),
        "interval": {"low_s": low, "high_s": high, "of": "total_s"},
        "memory": result.memory._asdict() | {"total_bytes": result.memory.total_bytes},
        "constants": {name: rate._asdict() for name, rate in result.constants.rates.items()},
        "host": result.constants.host._asdict(),
        "ops": rows,
    }
    return Answer(data, _lead(case, result), (Table(_OP_COLUMNS, rows),))


def _assumption(result: Forecast) -> str:
    known = stack_of(result)
    return f" · stack: {known['name']} assumed, see --stack" if known["assumed"] and known["name"] else ""


def _room(spec: HardwareSpec) -> str:
    room = spec.usable_memory_bytes
    return "" if room is None else f" of {format_bytes(room)}"


def _lead(case: Case, result: Forecast) -> tuple[str, ...]:
    work, times, bound = case.work, result.times, result.bound
    low, high = result.interval
    ranks = f" × {work.devices}" if work.devices > 1 else ""
    between = (
        f"between {format_seconds(low)} and {format_seconds(high)}"
        if high is not None
        else "a bound: nothing is faster"
    )
    decode = times.decode_s_per_token
    per_token = (
        "" if decode is None else f", then {format_seconds(decode)} per token, the mean over {work.generate - 1}"
    )
    return (
        f"{case.model} on {case.spec.name}{ranks}: prefill {format_seconds(times.prefill_s)}{per_token}",
        f"  batch {work.batch}, {work.prompt} + {work.generate} tokens",
        f"  whole run {format_seconds(times.total_s)} ({between}), {format_rate(times.tokens_per_s)} tokens/s",
        f"  bound {format_seconds(bound.total_s)} · basis: {result.basis}{_assumption(result)}",
        f"  memory {format_bytes(result.memory.total_bytes)}{_room(case.spec)} per device",
    )
