"""Roofs and calibration of a device whose rates are known: what is true by construction must come out."""

import pytest
import torch

from llamalab.measure.calibration.run import calibrate
from llamalab.measure.device.machine import clock_for
from llamalab.measure.roofs import quick
from llamalab.measure.roofs.again import finders
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.probes import stream_roof
from llamalab.measure.roofs.quick import quick_roofs
from llamalab.measure.timing.deadline import Deadline
from llamalab.presets import PRESETS
from tests.cuda_fake.costs import Costs
from tests.cuda_fake.gpu import Gpu
from tests.cuda_fake.torch_cuda import installed
from tests.report.sample import sample_record

pytestmark = pytest.mark.fake_cuda
PLACE, ARCH = torch.device("cuda", 0), PRESETS["7b"].arch


def test_every_roof_is_trusted_and_within_5_percent(gpu: Gpu, few_rounds: None) -> None:
    roofs = {one.kind: one for one in quick_roofs(Machine(PLACE, clock_for(PLACE), "bf16"), ARCH)}
    costs = gpu.costs
    truth = {
        "gemm": costs.flops_per_s, "stream": costs.memory_bytes_per_s, "copy": costs.memory_bytes_per_s,
        "cache": costs.best_cached_copy_bytes_per_s(), "attention": costs.attention_flops_per_s,
    }  # fmt: skip
    assert {kind for kind, one in roofs.items() if not one.trusted} == set()
    for kind, rate in truth.items():
        assert roofs[kind].per_second == pytest.approx(rate, rel=0.05), kind
        assert roofs[kind].per_second <= 1.001 * rate, kind
    assert roofs["launch"].seconds == pytest.approx(costs.kernel_s + costs.gap_s, rel=0.05)
    assert max(gpu.held_s) > 0


def test_the_gap_between_kernels_does_not_count_against_the_fastest_memory(
    guard: None, few_rounds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device of today's fastest memory, behind a host five times as slow."""
    slow = Costs(memory_bytes_per_s=7.5e12, cache_bytes=132_120_576, product_call_s=30e-6, call_s=20e-6)
    with installed(monkeypatch, Gpu(slow)):
        machine = Machine(PLACE, clock_for(PLACE), "bf16")
        found = stream_roof(machine, quick._streamed(machine, ARCH))
    assert found.trusted
    assert found.per_second == pytest.approx(slow.memory_bytes_per_s, rel=0.05)


def test_roofs_that_a_pass_exceeded_are_looked_for_with_as_many_tokens_as_fill_the_device(
    gpu: Gpu, few_rounds: None
) -> None:
    record = sample_record("7b")  # of a prompt shorter than that
    found = finders(record, PLACE)["attention"]()
    assert "4096 tokens" in (found.shape or "")


def test_a_calibration_predicts_passes_that_it_has_not_seen(gpu: Gpu, few_rounds: None) -> None:
    made = calibrate(device="cuda", deadline=Deadline(9.0))
    assert made.left_out == ()
    assert {one.model for one in made.outcomes} == {"7b", "13b"}
    for phase in ("prefill", "decode"):
        error = made.error(phase)
        assert error is not None
        assert error < 0.05, [(one.shape, one.error) for one in made.outcomes]
    products = made.rates["gemm"]
    assert products.bandwidth_bytes_per_s == pytest.approx(3.0e12, rel=0.05)
