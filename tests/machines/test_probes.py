"""Probes and short calibrations on machines that report other caches and have other memory free.

Tensors hold nothing and a clock that moves by itself times them: what is asked for is counted, how fast it was is not.
"""

from collections.abc import Iterator

import pytest
import torch

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.comparison.basis import basis_of
from llamalab.measure.calibration import constants_here
from llamalab.measure.calibration import run as calibrate
from llamalab.measure.roofs import best
from llamalab.measure.roofs import probes as roofs
from llamalab.measure.roofs import quick as roofs_quick
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Plan
from llamalab.presets import resolve_model
from llamalab.records.record import unmeasured
from tests.fakes import Asked, FakeMachine, GiB, MiB, everywhere, no_memory
from tests.measure.fakes import StepClock
from tests.report.sample import environment

CPU = torch.device("cpu")
CACHES = (0, 1 * MiB, 32 * MiB, 160 * MiB, 161 * MiB, 260 * MiB, 288 * MiB, 1 * GiB)
FREE = (GiB // 2, 2 * GiB, 8 * GiB)
ONCE = Plan(0.0, 1, 1, 1, 0.0)
NAME, ARCH = resolve_model("tiny")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """Little is run, as little as it takes to ask for everything."""
    monkeypatch.setattr(
        Machine, "random", lambda self, *shape: torch.empty(shape, dtype=self.torch_dtype, device=self.device)
    )
    for module, name, value in (
        (roofs, "_LAUNCHES", 2), (calibrate, "FEWEST_ROUNDS", 1), (calibrate, "MOST_ROUNDS", 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value, raising=False)
    for plan in (best.SURVEY, best.FINAL):
        everywhere(monkeypatch, plan, ONCE)
    with no_memory(monkeypatch) as counted:
        yield counted


def budget_bytes(free_bytes: int) -> int:
    """What a probe may ask for, and the little that does not count: vectors, and a row of outputs."""
    return min(free_bytes // 4, GiB) + 2 * MiB


@pytest.mark.parametrize("free_bytes", FREE)
@pytest.mark.parametrize("cache_bytes", CACHES)
def test_every_roof_is_found_within_the_memory_budget(
    cache_bytes: int, free_bytes: int, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeMachine(cache_bytes, free_bytes).install(monkeypatch)
    found = roofs_quick.quick_roofs(Machine(CPU, StepClock(), "bf16"), ARCH)
    assert {roof.kind for roof in found} == {"gemm", "stream", "copy", "cache", "attention", "launch"}
    assert all((roof.per_second or roof.seconds or 0) > 0 for roof in found)
    assert asked.peak_bytes <= budget_bytes(free_bytes)


@pytest.mark.parametrize(
    ("cache_bytes", "free_bytes"),
    [*((cache, 2 * GiB) for cache in CACHES), (260 * MiB, GiB // 2), (260 * MiB, 8 * GiB)],
)
def test_a_report_of_a_small_model_has_predictions_or_a_reason(
    cache_bytes: int, free_bytes: int, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class without kernels is predicted from its roof; nothing fails for it, and memory is bounded."""
    FakeMachine(cache_bytes, free_bytes).install(monkeypatch)
    constants = constants_here.short_calibration(CPU, "bf16", weight_bytes=MiB, progress=lambda *_: None)
    assert asked.peak_bytes <= min(free_bytes // 2, GiB)
    assert constants is not None or free_bytes < GiB
    found = roofs_quick.quick_roofs(Machine(CPU, StepClock(), "bf16"), ARCH)
    basis = basis_of(unmeasured(NAME, ARCH, "bf16", environment(), found, constants))
    for tokens, context in ((64, 64), (1, 64)):
        ops = forward_ops(ARCH, PassShape(new_tokens=tokens, context_tokens=context))
        predictions = {op.name: basis.predict(op, "bf16") for op in ops}
        assert all(isinstance(one, str) or one.time_s > 0 for one in predictions.values())
