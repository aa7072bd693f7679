import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.measure.roofs import probes as roofs
from llamalab.measure.roofs.probes import Machine, Probe, best_roof
from llamalab.measure.timing.clock import CpuClock
from llamalab.measure.timing.timer import Plan
from tests.measure.fakes import FakeClock

ARCH = LlamaArch(48, 3, 6, 2, 80, 96)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few rounds of little work: these tests ask what is measured, not how fast."""
    monkeypatch.setattr(roofs, "_SURVEY", Plan(0.0, 1, 1, 1, 0.0))
    monkeypatch.setattr(roofs, "_FINAL", Plan(0.0, 2, 2, 1, 0.0))
    monkeypatch.setattr(roofs, "_FLOOR_BYTES", 1 << 16)
    monkeypatch.setattr(roofs, "_LEAST_MATRIX_BYTES", 1 << 12)
    monkeypatch.setattr(roofs, "cache_bytes", lambda device: 1 << 13)


def fake_machine():
    return Machine(torch.device("cpu"), FakeClock(), "fp32")


def real_machine(dtype="fp32"):
    return Machine(torch.device("cpu"), CpuClock(), dtype)


def probe(machine, shape, amount, once_s, twice_s=None):
    clock = machine.clock
    return Probe(shape, amount, lambda: clock.advance(once_s), lambda: clock.advance(twice_s or 2 * once_s))


def test_the_best_rate_of_all_shapes_is_the_roof():
    machine = fake_machine()
    probes = [probe(machine, "slow", 100.0, 10.0), probe(machine, "fast", 60.0, 2.0), probe(machine, "idle", 1.0, 1.0)]
    roof = best_roof("gemm", machine, iter(probes))
    assert (roof.kind, roof.dtype, roof.per_second, roof.shape) == ("gemm", "fp32", 30.0, "fast")
    assert (roof.doubling_ratio, roof.trusted, roof.samples_s) == (2.0, True, [2.0, 2.0])


def test_doubled_work_may_be_the_better_rate():
    machine = fake_machine()
    assert best_roof("copy", machine, iter([probe(machine, "x", 90.0, 10.0, 18.0)])).per_second == 10.0


def test_work_that_is_not_done_is_no_roof():
    machine = fake_machine()
    roof = best_roof("gemm", machine, iter([probe(machine, "optimised away", 100.0, 10.0, 10.0)]))
    assert not roof.trusted
    assert "1.00 times" in roof.reason


def test_shapes_are_the_models_own_and_a_large_one():
    assert roofs.weight_shapes(ARCH) == [(48, 48), (16, 48), (80, 48), (48, 80), (4096, 4096)]


def test_random_values_fill_all_and_are_not_alike():
    values = real_machine("bf16").random(3, (1 << 19) + 5)
    assert values.shape == (3, (1 << 19) + 5)
    assert values.dtype == torch.bfloat16
    assert 0.9 < float(values.float().std()) < 1.1
    assert not torch.equal(values[0], values[1])


@pytest.mark.parametrize(
    ("find", "kind"),
    [
        (lambda machine: roofs.gemm_roof(machine, [(48, 80), (80, 48)], 8), "gemm"),
        (lambda machine: roofs.stream_roof(machine, [(48, 80), (8, 8)]), "stream"),
        (roofs.copy_roof, "copy"),
        (roofs.cache_roof, "cache"),
        (lambda machine: roofs.attention_roof(machine, ARCH, get_backend("sdpa").attend, (16, 32)), "attention"),
    ],
)
def test_every_probe_runs(find, kind):
    roof = find(real_machine())
    assert (roof.kind, roof.seconds) == (kind, None)
    assert roof.per_second > 0
    assert roof.samples_s
    assert roof.trusted == (roof.reason is None)


def test_cache_roof_knows_how_much_stays(monkeypatch):
    assert roofs.cache_roof(real_machine()).capacity_bytes == 1 << 13
    monkeypatch.setattr(roofs, "cache_bytes", lambda device: 0)
    assert roofs.cache_roof(real_machine()).capacity_bytes is None


def test_launch_is_a_time_and_no_rate(monkeypatch):
    monkeypatch.setattr(roofs, "_LAUNCHES", 3)
    roof = roofs.launch_roof(real_machine())
    assert roof.per_second is None
    assert roof.seconds > 0


def test_stream_reads_more_than_the_caches_hold(monkeypatch):
    seen = []
    monkeypatch.setattr(roofs, "best_roof", lambda kind, machine, probes: seen.extend(probes))
    roofs.stream_roof(real_machine(), [(48, 80), (8, 8), (160, 480)])
    # 15,360 and 307,200 bytes a matrix, a floor of 65,536; the 8 x 8 is a matter of calls.
    assert [one.amount for one in seen] == [5 * 15_360, 307_200]


def test_a_slow_machine_gets_fewer_rows(monkeypatch):
    monkeypatch.setattr(roofs, "time_one", lambda *arguments: [64 * 0.01])
    assert roofs.affordable_rows(real_machine(), (16, 16), 512) == 64
    monkeypatch.setattr(roofs, "time_one", lambda *arguments: [64 * 0.004])
    assert roofs.affordable_rows(real_machine(), (16, 16), 512) == 128
    monkeypatch.setattr(roofs, "time_one", lambda *arguments: [64 * 0.001])
    assert roofs.affordable_rows(real_machine(), (16, 16), 512) == 512
