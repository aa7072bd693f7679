"""The records that a campaign makes, and their order: the most valuable first.

A step makes one file in the folder of a machine, by llamalab calibrate, report and bench, or by an experiment
(campaign_makers). Estimates of seconds are of an H200 and of a CPU with two cores. Experiments are read here, not
imported: what one of them needs is missed by its own step alone.
"""

import ast
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from experiments.common.campaign_makers import (
    CONSTANTS_FILE,
    DTYPE,
    LARGE_BYTES,
    Job,
    Made,
    make_bench,
    make_calibration,
    make_cuda_tests,
    make_experiment,
    make_report,
)
from llamalab.analytic.params import weight_bytes
from llamalab.presets import resolve_model

_EXPERIMENTS = Path(__file__).resolve().parents[1]
_TEXTS = _EXPERIMENTS.parents[1] / "shared" / "real"  # of which kv_cache_onoff makes one


class Step(NamedTuple):
    """One file of a campaign; `make` writes it whole, and is a function of this or another module."""

    name: str
    file: str
    estimate_s: float
    about: str
    make: Callable[[Job], Made]


def default_models(kind: str) -> tuple[str, ...]:
    """The models of a kind of device."""
    return ("7b", "13b", "70b") if kind == "cuda" else ("tiny", "7b")


def all_steps(kind: str, models: Sequence[str]) -> list[Step]:
    """The steps on "cpu" or "cuda", most valuable first.

    >>> [step.name for step in all_steps("cuda", ["7b"])][:4]
    ['calibration', 'report-7b', 'decode_series', 'bench-7b']
    """
    first, *others = models
    cuda = kind == "cuda"
    calibration = Step(
        "calibration", CONSTANTS_FILE, 35 if cuda else 55, "constants, checked on unseen shapes", make_calibration
    )
    steps = [calibration, _report(first, cuda), *(_cuda_steps(first) if cuda else _cpu_steps(first))]
    reports = [_report(name, cuda) for name in others]
    benches = [_bench(name, cuda) for name in others]
    # After the first model's: what it takes to answer for the others, largest first.
    rest = [step for pair in zip(reports[::-1], benches[::-1], strict=True) for step in pair]
    return [*steps[:5], *rest, *steps[5:]]


def _cuda_steps(first: str) -> list[Step]:
    device = ("--device", "cuda")
    return [
        _experiment("decode_series", 50, *device, models=True),
        _bench(first, cuda=True),
        Step("cuda_tests", "cuda_tests.json", 60, "the tests that need a GPU", make_cuda_tests),
        _experiment("plan_times", 15, *device),
        _experiment("device_traces", 15, *device),
        _experiment("attention_backends", 75, *device, "--record", f"{first}.json"),
        _experiment("memory_peaks", 15, *device, models=True),
        _experiment("flash_vs_naive", 20, *device, "--dtype", DTYPE, "--heads", "32", "--longest", "8192"),
        _experiment("tap_cost", 20, *device),
        _experiment("tied_blocks", 15, *device),
        _experiment(
            "gqa_groups", 15, *device, "--dtype", DTYPE, "--memory", "8GiB", "--context", "4096", "--attention", "sdpa"
        ),
        _experiment("attention_arithmetic", 5),
        _experiment("decode_series", 60, *device, "--compiled", models=True, label="decode_compiled"),
        _bench(first, cuda=True, compiled="block"),
        _experiment("versus", 240, *device, "--compiled"),
    ]


def _cpu_steps(first: str) -> list[Step]:
    device = ("--device", "cpu")
    steps = [
        _bench(first, cuda=False),
        _experiment("memory_peaks", 15, *device, models=True),
        _experiment("attention_backends", 20, *device, "--record", f"{first}.json"),
        _experiment("flash_vs_naive", 60, *device),
        _experiment("gqa_groups", 90, *device),
        _experiment("attention_arithmetic", 5),
        _experiment("tap_cost", 150, *device),
        _experiment("tied_blocks", 150, *device),
        _experiment("decode_series", 60, *device, models=True),
    ]
    texts = [_experiment("kv_cache_onoff", 60)] if _TEXTS.is_dir() else []
    return [*steps, *texts, _experiment("versus", 900, *device, "--compiled")]


def _report(name: str, cuda: bool) -> Step:
    small = weight_bytes(resolve_model(name)[1], DTYPE) < LARGE_BYTES
    seconds = 40 if cuda else 20 if small else 90
    return Step(
        f"report-{name}",
        f"{name}.json",
        seconds,
        "roofs, prefill, decode, attention, memory",
        partial(make_report, name=name),
    )


def _bench(name: str, cuda: bool, compiled: str = "none") -> Step:
    label = f"bench-{name}" + ("" if compiled == "none" else "-compiled")
    about = f"prompts and generation over depth and batch{'' if compiled == 'none' else ', blocks compiled'}"
    small = weight_bytes(resolve_model(name)[1], DTYPE) < LARGE_BYTES
    seconds = (40 if compiled == "none" else 90) if cuda else 15 if small else 45
    return Step(label, f"{label}.json", seconds, about, partial(make_bench, name=name, label=label, compiled=compiled))


def _experiment(module: str, seconds: float, *arguments: str, models: bool = False, label: str | None = None) -> Step:
    about = question_of(module)
    file = f"{label or module}.json"
    make = partial(make_experiment, module=module, arguments=arguments, models=models, file=file)
    return Step(label or module, file, seconds, about, make)


def question_of(module: str) -> str:
    """The question of an experiment, from its source.

    >>> question_of("plan_times")
    'What does the first attention call at a new number of keys cost, kernel by kernel?'
    """
    tree = ast.parse((_EXPERIMENTS / f"{module}.py").read_text(encoding="utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    return next(str(ast.literal_eval(node.value)) for node in assigned if ast.unparse(node.targets[0]) == "QUESTION")
