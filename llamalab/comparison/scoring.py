"""The errors of predictions against measured runs, row by row and by group, over a file of them.

An error is predicted over measured time (or memory) minus 1, for throughput too: positive is too slow. Coverage is
the share of measurements inside the predicted interval; `under_bound` counts those more than 2 % faster than
the physical bound. A row that cannot be predicted keeps its place, with the reason.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from llamalab.analytic.forecast import Times, bound_times, check_link, run_times
from llamalab.analytic.run_memory import memory_needed
from llamalab.analytic.stack_constants import StackConstants, stack_constants, workload_of
from llamalab.analytic.stacks import find_stack
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.comparison.measured_runs import AUTO_STACK, MeasuredPoint, device_named, measured_point
from llamalab.errors import InputError, LlamaLabError
from llamalab.startup.hints import Any, NamedTuple

ROUNDING = 0.02  # measurements and data sheets are rounded
MEMORY_SPREAD = 0.15


class Scored(NamedTuple):
    """A point with its prediction, interval and bound (seconds or bytes), or the reason why it has none."""

    point: MeasuredPoint | None
    predicted: float | None = None
    interval: tuple[float, float] | None = None
    bound: float | None = None
    reason: str | None = None

    @property
    def error(self) -> float | None:
        """Predicted over measured, minus 1."""
        if self.point is None or self.predicted is None:
            return None
        return self.predicted / self.point.measured - 1

    @property
    def covered(self) -> bool:
        """Whether the measurement lies inside the interval."""
        assert self.point is not None
        assert self.interval is not None
        return self.interval[0] <= self.point.measured <= self.interval[1]

    @property
    def under_bound(self) -> bool:
        """Whether it was measured faster than the physical bound, by more than TOLERANCE."""
        return bool(self.point and self.bound and self.point.measured < (1 - ROUNDING) * self.bound)


@lru_cache(maxsize=4096)
def _constants(name: str, spec_name: str, dtype: str, weight: str, threads: int | None, ranks: int) -> StackConstants:
    spec = device_named(spec_name)
    return stack_constants(find_stack(name, spec), spec, dtype, weight, threads=threads, ranks=ranks)


def predict_row(row: dict[str, str], stack: str = AUTO_STACK) -> Scored:
    """A row with its prediction, or with the reason why there is none."""
    point = None
    try:
        point = measured_point(row, stack)
        work = point.work
        weight = work.weight_dtype or work.dtype
        constants = _constants(point.stack, row["device"], work.dtype, weight, work.threads, work.tensor_parallel)
        check_link(workload_of(constants.stack, work).tensor_parallel, point.spec, constants)
        predicted = predicted_of(point, constants)
        bound = bound_of(point, constants)
    except LlamaLabError as error:
        return Scored(point, reason=str(error))
    if point.phase == "memory":
        low, high = predicted / (1 + MEMORY_SPREAD), predicted * (1 + MEMORY_SPREAD)
        return Scored(point, predicted, (max(bound, low), high), bound)
    phase = "decode" if point.phase == "serving" else point.phase
    return Scored(point, predicted, constants.interval_of_phase(phase, predicted, bound), bound)


def predicted_of(point: MeasuredPoint, constants: StackConstants) -> float:
    """Predicted seconds, or bytes, for the metric of a point."""
    work = workload_of(constants.stack, point.work)
    if point.phase == "memory":
        return float(memory_needed(point.arch, work).total_bytes)
    if point.phase == "serving":
        return serving_s(point.arch, work, constants)
    return _of(point, run_times(point.arch, _whole(point, work), constants.rates, constants.host))


def serving_s(arch: LlamaArch, work: Workload, constants: StackConstants) -> float:
    """Mean seconds between the tokens of a request at a server with B requests in flight.

    While one request generates its G tokens, the B - 1 others run one prefill each; a stack lets the share `interleave`
    of these prefills fall between two tokens (1/2: all requests start together; 1: they start evenly spread).
    """
    if work.generate < 2:
        raise InputError(f"generate must be at least 2 for the time between tokens; got {work.generate}")
    step_s = run_times(arch, work._replace(prompt=work.prompt), constants.rates, constants.host).decode_s_per_token
    alone = run_times(arch, work._replace(batch=1, generate=1), constants.rates).prefill_s
    assert step_s is not None
    return step_s + constants.stack.interleave * (work.batch - 1) / work.generate * alone


def bound_of(point: MeasuredPoint, constants: StackConstants) -> float:
    """The physical bound: fused kernels at the highest peaks of the device, no host; of memory, the weights."""
    work = workload_of(constants.stack, point.work)
    if point.phase == "memory":
        return float(memory_needed(point.arch, work).weight_bytes)
    return _of(point, bound_times(point.arch, _whole(point, work), constants.rates, point.spec.l2_bytes))


def _whole(point: MeasuredPoint, work: Workload) -> Workload:
    # A decode step needs a second generated token; the first one comes from the prefill.
    if point.phase in ("decode", "serving"):
        return work._replace(generate=max(2, work.generate))
    return work if point.phase == "run" else work._replace(generate=1)


def _of(point: MeasuredPoint, times: Times) -> float:
    if point.phase == "run":
        return times.total_s
    if point.phase == "prefill":
        return times.prefill_s
    assert times.decode_s_per_token is not None
    return times.decode_s_per_token


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """n, MAPE, bias and p90 in per cent, coverage in per cent, points under the bound, of those predicted."""
    known = [one for one in scored if one.error is not None]
    errors = [100 * (one.error or 0.0) for one in known]
    if not errors:
        return {"n": 0, "mape": None, "bias": None, "p90": None, "coverage": None, "under_bound": 0}
    sizes = sorted(map(abs, errors))
    return {
        "n": len(errors),
        "mape": sum(sizes) / len(sizes),
        "bias": sum(errors) / len(errors),
        "p90": sizes[min(len(sizes) - 1, int(0.9 * len(sizes)))],
        "coverage": 100 * sum(one.covered for one in known) / len(known),
        "under_bound": sum(one.under_bound for one in known),
    }


def grouped(scored: Iterable[Scored]) -> dict[tuple[str, str, str, int, str], list[Scored]]:
    """Predicted points by stack, device, phase, bits of the weights, and one device or several; sorted."""
    groups: dict[tuple[str, str, str, int, str], list[Scored]] = {}
    for one in scored:
        if one.point is not None and one.predicted is not None:
            groups.setdefault(one.point.group, []).append(one)
    return dict(sorted(groups.items()))
