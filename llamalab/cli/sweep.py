"""Predictions of every combination of a run's options: a row each, with the reason where there is none."""

import argparse
from collections.abc import Iterator

from llamalab.analytic.forecast import Basis, Times, bound_times, check_link, run_times
from llamalab.analytic.run_memory import memory_needed
from llamalab.analytic.splits import check_split
from llamalab.analytic.stack_constants import StackConstants
from llamalab.cli.output import Column, option_of
from llamalab.cli.runs import Case, cases, constants_of
from llamalab.errors import InputError, UnavailableError
from llamalab.formatting import format_bytes, format_rate, format_seconds
from llamalab.startup.hints import Any

ASSUMED = "tensorrt-llm"  # the row of the shipped constants: fused kernels, and the host's times of TensorRT-LLM 0.5
SWEEP_KEYS = (
    "model",
    "hardware",
    "tensor_parallel",
    "prompt",
    "generate",
    "batch",
    "dtype",
    "weight_dtype",
    "kv_dtype",
    "fits",
    "needed_bytes",
    "prefill_s",
    "decode_s_per_token",
    "total_s",
    "tokens_per_s",
    "bound_s",
    "basis",
    "low_s",
    "high_s",
    "reason",
    "stack",
    "pipeline_parallel",
    "context_parallel",
    "replicas",
)
SWEEP_COLUMNS = (
    Column("model", "model"),
    Column("hardware", "hardware"),
    Column("tensor_parallel", "TP"),
    Column("pipeline_parallel", "PP", rank=4),
    Column("context_parallel", "CP", rank=4),
    Column("replicas", "replicas", rank=4),
    Column("prompt", "prompt", rank=3),
    Column("generate", "generate", rank=3),
    Column("batch", "batch"),
    Column("prefill_s", "prefill", format_seconds),
    Column("decode_s_per_token", "per token", format_seconds),
    Column("total_s", "total", format_seconds, 1),
    Column("tokens_per_s", "tokens/s", format_rate),
    Column("reason", "why not", rank=2),
)


def stack_name(constants: Basis) -> str | None:
    """The stack of the constants; None where they were measured here, or are a bound."""
    if isinstance(constants, StackConstants):
        return constants.stack.name
    return ASSUMED if constants.basis.startswith("shipped") else None


def sweep(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row per combination, as it is computed; times that cannot be predicted are None, with the reason."""
    known: dict[tuple[str, str, str | None, int], Any] = {}
    for case in cases(args):
        place = case.spec.name, case.work.dtype, case.work.weight_dtype, case.work.tensor_parallel
        if place not in known:
            try:
                known[place] = constants_of(args, case)
            except UnavailableError as error:
                known[place] = error.spelled(option_of)
        yield _row(case, known[place])


def _row(case: Case, known: Any) -> dict[str, Any]:
    work, split = case.work, case.split
    row = dict.fromkeys(SWEEP_KEYS) | {
        "model": case.model,
        "hardware": case.spec.name,
        "tensor_parallel": work.tensor_parallel,
        "pipeline_parallel": split.pipeline * work.layer_parallel,  # a stack may share a model out by layers
        "context_parallel": split.context,
        "replicas": split.replicas,
        "prompt": work.prompt,
        "generate": work.generate,
        "batch": work.batch,
        "dtype": work.dtype,
        "weight_dtype": work.weight_dtype or work.dtype,
        "kv_dtype": work.kv_dtype or work.dtype,
    }
    try:
        needed = _needed_bytes(case)
    except InputError as error:  # these devices cannot share this model
        return row | {"reason": error.spelled(option_of)}
    room = case.spec.usable_memory_bytes
    row |= {"needed_bytes": needed, "fits": room is None or needed <= room}
    if isinstance(known, str):
        return row | {"reason": known}
    if not row["fits"]:
        return row | {"reason": f"{format_bytes(needed - (room or 0))} too much"}
    try:
        times, bound_s = _times(case, known)
    except (InputError, UnavailableError) as error:  # no link, or no constants of a class
        return row | {"reason": error.spelled(option_of)}
    low, high = known.interval(times.total_s, bound_s)
    row["stack"] = stack_name(known)
    return row | times._asdict() | {"bound_s": bound_s, "basis": known.basis, "low_s": low, "high_s": high}


def _needed_bytes(case: Case) -> int:
    if case.split.only_tensor:
        return memory_needed(case.arch, case.work).total_bytes
    from llamalab.analytic.split_forecast import split_memory

    check_split(case.arch, case.split, case.work)
    return split_memory(case.arch, case.work, case.split).total_bytes


def _times(case: Case, constants: Basis) -> tuple[Times, float]:
    """Predicted times, and the bound of the whole run."""
    arch, work, spec = case.arch, case.work, case.spec
    if not case.split.only_tensor:
        from llamalab.analytic.split_forecast import forecast_split

        found = forecast_split(arch, work, case.split, spec, constants).forecast
        return found.times, found.bound.total_s
    check_link(work.tensor_parallel, spec, constants)
    times = run_times(arch, work, constants.rates, constants.host)
    return times, bound_times(arch, work, constants.rates, spec.l2_bytes).total_s
