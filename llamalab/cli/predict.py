"""`llamalab predict`: the predicted time of a run on a device, and its basis."""

import argparse
import sys
from collections.abc import Callable
from itertools import islice
from operator import attrgetter

from llamalab.analytic.forecast import Basis, Forecast, Times, forecast
from llamalab.analytic.stack_constants import StackConstants
from llamalab.analytic.workload import Workload
from llamalab.cli.arguments import add_format
from llamalab.cli.combinations import with_formats
from llamalab.cli.delivery import give
from llamalab.cli.find_model import find_model
from llamalab.cli.output import Answer, Table, percent
from llamalab.cli.parser import Parser
from llamalab.cli.predicted_rows import KERNEL_COLUMNS, OP_COLUMNS, kernels_beside, predicted_rows, unpublished
from llamalab.cli.runs import (
    Case,
    add_basis,
    add_hardware,
    add_models,
    add_numbers,
    add_ranks,
    add_shape,
    add_splits,
    cases,
    constants_of,
)
from llamalab.cli.sweep import SWEEP_COLUMNS, SWEEP_KEYS, stack_name, sweep
from llamalab.formatting import format_bytes, format_rate, format_seconds
from llamalab.hardware import HardwareSpec
from llamalab.plain_text import write_csv
from llamalab.startup.hints import Any, NamedTuple
from llamalab.startup.made_rows import MadeRows

SUMMARY = "predicted time of prefill, decode and a whole run, with its bound and its interval"
EXAMPLES = (
    "llamalab predict --model 70b --hardware h100-80gb-sxm --tensor-parallel 4 --weight-dtype fp8 --kv-dtype fp8",
    "llamalab predict --model 70b --hardware h100-80gb-sxm --tp 2 --pp 4 --batch 16",
    "llamalab predict --prompt 512-8192*2 --batch 1,2,4,8 --model 7b,13b,70b --hardware all --format csv",
)


def configure(parser: Parser) -> None:
    """The options of `llamalab predict`."""
    add_models(parser)
    add_hardware(parser, "h200-141gb-sxm")
    add_shape(parser, generate=128)
    add_ranks(parser, "1")
    add_splits(parser)
    add_numbers(parser)
    add_basis(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print one prediction with its op table, or a row for every combination."""
    if args.format == "csv" and args.out is None and len(list(islice(cases(args), 2))) > 1:
        write_csv(sys.stdout, SWEEP_KEYS, sweep(args))
    else:
        give(answer(args), args)
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """One prediction with its op table, or a row for every combination."""
    case, *others = islice(cases(args), 2)
    if not others:
        return _answer(case, *_predicted(case, constants_of(args, case)))
    rows = list(sweep(args))
    found = sorted(row["total_s"] for row in rows if row["total_s"] is not None)
    span = f": {format_seconds(found[0])} to {format_seconds(found[-1])} a run" if found else ""
    lead = f"{len(rows)} combinations, {len(found)} of them with a time{span}"
    return Answer({"rows": rows}, (lead,), (Table(with_formats(SWEEP_COLUMNS, rows, "batch"), rows),))


def _predicted(case: Case, constants: Basis) -> tuple[Forecast, dict[str, Any]]:
    """The forecast of a run, and additional figures of a split beyond tensor parallelism."""
    if case.split.only_tensor:
        return forecast(case.arch, case.work, case.spec, constants), {}
    from llamalab.analytic.split_forecast import forecast_split

    found = forecast_split(case.arch, case.work, case.split, case.spec, constants)
    shares = {"communication_share": found.communication_share, "bubble_share": found.bubble_share}
    return found.forecast, {"split": case.split._asdict(), **shares}


def stack_row(result: Forecast) -> dict[str, Any]:
    """The stack of a prediction: its row of constants, or which one was assumed."""
    constants = result.constants
    if not isinstance(constants, StackConstants):
        return {"name": stack_name(constants), "assumed": True}
    row = constants.stack._asdict()
    return {"name": row.pop("name"), "assumed": constants.assumed, **row}


def single_answer(model: str, spec: HardwareSpec, work: Workload, result: Forecast) -> Answer:
    """One prediction of a model by its name."""
    return _answer(Case(model, find_model(model)[1], spec, work), result)


class _Found(NamedTuple):
    """The parts of an answer: `split` are the additional figures of a split beyond tensor parallelism."""

    case: Case
    result: Forecast
    split: dict[str, Any]


# Each figure is computed on demand, so that a request for a time makes no op tables. In the order of JSON.
_FIGURES: dict[str, Callable[[_Found], Any]] = {
    "model": lambda found: found.case.model,
    "hardware": lambda found: found.case.spec.name,
    "inputs": lambda found: found.case.work._asdict(),
    **{name: attrgetter(f"result.times.{name}") for name in Times._fields},
    "bound": lambda found: found.result.bound._asdict(),
    "basis": lambda found: found.result.basis,
    "stack": lambda found: stack_row(found.result),
    "interval": lambda found: dict(zip(("low_s", "high_s"), found.result.interval, strict=True)) | {"of": "total_s"},
    "memory": lambda found: found.result.memory._asdict() | {"total_bytes": found.result.memory.total_bytes},
    "constants": lambda found: {name: rate._asdict() for name, rate in found.result.constants.rates.items()},
    "host": lambda found: found.result.constants.host._asdict(),
}
_OF_SPLIT = ("split", "communication_share", "bubble_share")
_TABLES: dict[str, Callable[[_Found], Any]] = {
    "ops": lambda found: [
        *predicted_rows("prefill", found.result.prefill_ops, found.result),
        *predicted_rows("decode", found.result.decode_ops, found.result),
    ],
    "published_kernels": lambda found: kernels_beside(found.case, found.result),
}
_OF_TENSOR_RANKS = _FIGURES | _TABLES
_OF_ANY_SPLIT = _FIGURES | {name: lambda found, name=name: found.split[name] for name in _OF_SPLIT} | _TABLES


def _answer(case: Case, result: Forecast, split: dict[str, Any] | None = None) -> Answer:
    found = _Found(case, result, split or {})
    figures: Any = MadeRows(lambda make: make(found), lambda: _OF_ANY_SPLIT if split else _OF_TENSOR_RANKS)

    def tables() -> tuple[Table, ...]:
        known = [row for row in figures["published_kernels"] if row["published_s"] is not None]
        return (Table(OP_COLUMNS, figures["ops"]), *([Table(KERNEL_COLUMNS, known)] if known else []))

    def lead() -> tuple[str, ...]:
        return (*_lead(case, result), *_split_words(case, split), *unpublished(figures["published_kernels"]))

    return Answer(figures, lead, tables)


def _assumption(result: Forecast) -> str:
    known = stack_row(result)
    return f" · stack: {known['name']} assumed, see --stack" if known["assumed"] and known["name"] else ""


def _room(spec: HardwareSpec) -> str:
    room = spec.usable_memory_bytes
    return "" if room is None else f" of {format_bytes(room)}"


def _split_words(case: Case, split: dict[str, Any] | None) -> tuple[str, ...]:
    if (stages := case.work.layer_parallel) > 1:
        return (f"  split PP {stages}: the stack shares out layers, and its devices work one after the other",)
    if not split:
        return ()
    sending, idle = split["communication_share"], split["bubble_share"]
    return (f"  split {case.split}: sending takes {percent(sending)} of the time, stages are idle for {percent(idle)}",)


def _lead(case: Case, result: Forecast) -> tuple[str, ...]:
    work, times, bound = case.work, result.times, result.bound
    low, high = result.interval
    devices = work.devices if case.split.only_tensor else case.split.devices
    ranks = f" × {devices}" if devices > 1 else ""
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
