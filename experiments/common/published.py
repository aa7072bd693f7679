"""Measurements of whole models that others published (experiments/published.csv), and what is predicted of them."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from experiments.common.planners import SHARES, planned_s
from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import Times, run_times
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.hardware import HardwareSpec, find_hardware
from llamalab.presets import PRESETS

POINTS = Path(__file__).parents[1] / "published.csv"
OTHER_MODELS = {  # shapes of points that have no preset: config.json of meta-llama/Meta-Llama-3-8B and -70B
    "llama3-8b": LlamaArch(4096, 32, 32, 8, 14336, 128256, 1e-5, 500_000.0, max_positions=8192),
    "llama3-70b": LlamaArch(8192, 80, 64, 8, 28672, 128256, 1e-5, 500_000.0, max_positions=8192),
}


class Point(NamedTuple):
    """One published measurement, as the file has it."""

    id: str
    scored: bool
    group: str
    source: str
    revision: str
    model: str
    spec: HardwareSpec
    work: Workload
    quantity: str
    value: float
    note: str

    @property
    def arch(self) -> LlamaArch:
        """The shape of its model."""
        return OTHER_MODELS[self.model] if self.model in OTHER_MODELS else PRESETS[self.model].arch

    @property
    def measured_s(self) -> float:
        """The measurement as a time."""
        if self.quantity == "tokens_per_s":
            return self.work.batch * self.work.generate / self.value
        return self.value / 1e3

    def of(self, times: Times) -> float:
        """The time among predicted ones that was measured."""
        if self.quantity == "decode_ms":
            assert times.decode_s_per_token is not None
            return times.decode_s_per_token
        return times.prefill_s if self.quantity == "prefill_ms" else times.total_s


Predictor = Callable[[Point], Times]


def read_points(path: Path = POINTS) -> list[Point]:
    """All points of the file."""
    with open(path, encoding="utf-8", newline="") as file:
        return [_point(row) for row in csv.DictReader(file)]


def _point(row: dict[str, str]) -> Point:
    work = Workload(
        int(row["prompt"]),
        int(row["generate"]),
        int(row["batch"]),
        row["dtype"],
        row["weight_dtype"],
        row["kv_dtype"],
        tensor_parallel=int(row["tensor_parallel"]),
    )
    return Point(
        row["id"],
        row["scored"] == "yes",
        row["group"],
        row["source"],
        row["revision"],
        row["model"],
        find_hardware(row["device"]),
        work,
        row["quantity"],
        float(row["value"]),
        row["note"],
    )


def shipped(point: Point) -> Times:
    """Ours, with the constants that are shipped."""
    return _tier(point, "shipped")


def bound(point: Point) -> Times:
    """The data sheet without any loss, operation by operation."""
    return _tier(point, "bound")


def _tier(point: Point, tier: str) -> Times:
    constants = choose(point.spec, tier, point.work.dtype, point.work.weight_dtype)
    return run_times(point.arch, point.work, constants.rates, constants.host)


def planner(name: str) -> Predictor:
    """The formula of planners with the two efficiencies of one of them (experiments.common.planners)."""

    def predict(point: Point) -> Times:
        work = point.work
        prefill_s, decode_s = planned_s(point.arch, work, point.spec, SHARES[name])
        total_s = prefill_s + (work.generate - 1) * decode_s
        return Times(prefill_s, decode_s, total_s, work.batch * work.generate / total_s)

    return predict


PREDICTORS: dict[str, Predictor] = {
    "llamalab, shipped constants": shipped,
    **{f"{name} (formula, {compute:g}/{memory:g})": planner(name) for name, (compute, memory) in SHARES.items()},
    "llamalab, physical bound": bound,
}


def error(point: Point, predictor: Predictor) -> float:
    """Predicted over measured time, minus 1."""
    return point.of(predictor(point)) / point.measured_s - 1


def mape(errors: Iterable[float | None]) -> float:
    """Mean absolute relative error of those that are known."""
    return fmean(abs(error) for error in errors if error is not None)
