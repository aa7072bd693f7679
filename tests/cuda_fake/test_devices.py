"""Devices of several proportions whose rates are known: what is true by construction must come out on each."""

import json
from collections.abc import Iterator

import pytest
import torch

from llamalab.measure.calibration.run import calibrate
from llamalab.measure.device import watch
from llamalab.measure.device.machine import clock_for
from llamalab.measure.profile.run import measure_profile, reference_of
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.quick import quick_roofs
from llamalab.measure.timing import timer
from llamalab.measure.timing.deadline import Deadline
from llamalab.model import build
from llamalab.presets import PRESETS
from llamalab.records.record_json import record_to_json
from tests.cuda_fake.gpu import Gpu
from tests.cuda_fake.torch_cuda import installed
from tests.cuda_fake.truth import DEVICES, WIDE, check_rows, rates_of, record_of

pytestmark = pytest.mark.fake_cuda
PLACE = torch.device("cuda", 0)


@pytest.fixture
def device(guard: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """The device of that name."""
    with installed(monkeypatch, Gpu(DEVICES[request.param])) as gpu:
        yield gpu


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_every_roof_is_trusted_and_within_5_percent(device: Gpu, few_rounds: None) -> None:
    costs = device.costs
    roofs = {one.kind: one for one in quick_roofs(Machine(PLACE, clock_for(PLACE), "bf16"), PRESETS["7b"].arch)}
    assert {kind for kind, one in roofs.items() if not one.trusted} == set()
    for kind, rate in rates_of(costs).items():
        assert roofs[kind].per_second == pytest.approx(rate, rel=0.05), kind
        assert roofs[kind].per_second <= 1.001 * rate, kind
    assert roofs["launch"].seconds == pytest.approx(costs.kernel_s + costs.gap_s, rel=0.05)
    assert max(device.held_s) > 0


@pytest.mark.parametrize("device", ["large cache", "large cache, slow host", "small cache"], indirect=True)
def test_a_profile_shows_the_kernels_own_time_and_closes(
    device: Gpu, few_rounds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WORKING_S", 0.02)
    monkeypatch.setattr(timer, "_MOST_WARMUPS", 5)
    model = build(WIDE, device="cuda", dtype="bf16").eval()
    found = measure_profile(model, budget_s=0.02, prompt_tokens=512, reference=record_of(device.costs))
    for phase in found.phases:
        check_rows(device.costs, phase.ops, phase.new_tokens, phase.context_tokens)
        assert abs(phase.closure) < 0.05, phase.closure
        assert phase.memory.method == "cuda: allocator history"
        assert phase.memory.peak_bytes
        assert phase.during.clock_hz == 1_980_000_000
        assert phase.throttled == ["software power cap"]
    assert found.phases[1].kernel == "aten::_scaled_dot_product_flash_attention"
    assert json.loads(record_to_json(reference_of(found)))


@pytest.mark.parametrize("device", ["large cache", "large cache, slow host"], indirect=True)
def test_a_calibration_predicts_passes_that_it_has_not_seen(device: Gpu, few_rounds: None) -> None:
    made = calibrate(device="cuda", deadline=Deadline(9.0))
    assert made.left_out == ()
    assert {one.model for one in made.outcomes} == {"7b", "13b"}
    told = [(one.model, one.shape, one.error) for one in made.outcomes]
    for phase in ("prefill", "decode"):
        error = made.error(phase)
        assert error is not None
        assert error < 0.05, told
    # A product's tiles fill the device in whole waves: how well the last one is filled is luck of the shape.
    assert max(abs(one.error) for one in made.outcomes) < 0.08, told
    products = made.rates["gemm"]
    assert products.bandwidth_bytes_per_s == pytest.approx(device.costs.memory_bytes_per_s, rel=0.05)
