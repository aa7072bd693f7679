import weakref

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import probe_budget_bytes
from llamalab.measure.roofs import best, moves
from llamalab.measure.roofs import machine as machine_module
from llamalab.measure.roofs import probes as roofs
from llamalab.measure.roofs.best import Probe, best_roof
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.clock import HostClock
from llamalab.measure.timing.timer import Plan
from llamalab.model import packed
from llamalab.model.packed import Product
from llamalab.presets import PRESETS
from tests.fakes import everywhere
from tests.measure.fakes import FakeClock, StepClock

ARCH = LlamaArch(48, 3, 6, 2, 80, 96)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few rounds of little work: these tests ask what is measured, not how fast."""
    everywhere(monkeypatch, best.SURVEY, Plan(0.0, 1, 1, 1, 0.0))
    everywhere(monkeypatch, best.FINAL, Plan(0.0, 2, 2, 1, 0.0))
    monkeypatch.setattr(machine_module, "_FLOOR_BYTES", 1 << 16)
    monkeypatch.setattr(roofs, "_LEAST_MATRIX_BYTES", 1 << 12)
    everywhere(monkeypatch, effective_cache_bytes, lambda device: 1 << 13)
    monkeypatch.setattr(moves, "_SMALL_MOVES_BYTES", (256,))
    monkeypatch.setattr(moves, "_MOVES_BYTES", 1 << 12)


def fake_machine():
    return Machine(torch.device("cpu"), FakeClock(), "fp32")


def real_machine(dtype="fp32"):
    return Machine(torch.device("cpu"), HostClock(), dtype)


def probe(machine, shape, amount, once_s, twice_s=None):
    clock = machine.clock
    return Probe(shape, amount, lambda: clock.advance(once_s), lambda: clock.advance(twice_s or 2 * once_s))


def always(made):
    """A candidate that is there already."""
    return lambda: made


def test_the_best_rate_of_all_shapes_is_the_roof():
    machine = fake_machine()
    probes = [probe(machine, "slow", 100.0, 10.0), probe(machine, "fast", 60.0, 2.0), probe(machine, "idle", 1.0, 1.0)]
    roof = best_roof("gemm", machine, map(always, probes))
    assert (roof.kind, roof.dtype, roof.per_second, roof.shape) == ("gemm", "fp32", 30.0, "fast")
    assert (roof.doubling_ratio, roof.trusted, roof.samples_s) == (2.0, True, [2.0, 2.0])


def test_doubled_work_may_be_the_better_rate():
    machine = fake_machine()
    assert best_roof("copy", machine, [always(probe(machine, "x", 90.0, 10.0, 18.0))]).per_second == 10.0


def test_work_that_is_not_done_is_no_roof():
    machine = fake_machine()
    roof = best_roof("gemm", machine, [always(probe(machine, "optimised away", 100.0, 10.0, 10.0))])
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
        (moves.copy_roof, "copy"),
        (moves.cache_roof, "cache"),
        (lambda machine: roofs.attention_roof(machine, ARCH, get_backend("sdpa").attend, (16, 32)), "attention"),
    ],
)
def test_every_probe_runs(find, kind):
    roof = find(real_machine())
    assert (roof.kind, roof.seconds) == (kind, None)
    assert roof.per_second > 0
    assert roof.samples_s
    assert roof.trusted == (roof.reason is None)


def test_cache_roof_knows_how_much_stays():
    assert moves.cache_roof(real_machine()).capacity_bytes == 1 << 13


def test_launch_is_a_time_and_no_rate(monkeypatch):
    monkeypatch.setattr(roofs, "_LAUNCHES", 3)
    roof = roofs.launch_time_roof(real_machine())
    assert roof.per_second is None
    assert roof.seconds > 0


def test_stream_reads_more_than_the_caches_hold(monkeypatch):
    seen = []
    monkeypatch.setattr(roofs, "best_roof", lambda kind, machine, made: seen.extend(one() for one in made))
    roofs.stream_roof(real_machine(), [(48, 80), (8, 8), (160, 480)])
    # A floor of 65,536 bytes; the 8 x 8 is a matter of calls. The larger weight is cut to half of the floor: 17 rows.
    assert [(one.amount, one.shape) for one in seen] == [
        (5 * 15_360, "1x80 @ 80x48, 5 matrices"),
        (3 * 17 * 480 * 4, "1x480 @ 480x17, 3 matrices"),
    ]


def test_a_slow_machine_gets_fewer_rows(monkeypatch):
    monkeypatch.setattr(roofs, "time_one", lambda *arguments: [64 * 0.01])
    assert roofs.affordable_rows(real_machine(), (16, 16), 512) == 64
    monkeypatch.setattr(roofs, "time_one", lambda *arguments: [64 * 0.004])
    assert roofs.affordable_rows(real_machine(), (16, 16), 512) == 128
    monkeypatch.setattr(roofs, "time_one", lambda *arguments: [64 * 0.001])
    assert roofs.affordable_rows(real_machine(), (16, 16), 512) == 512


MIB, GIB = 2**20, 2**30
CACHES = (0, MIB, 32 * MIB, 160 * MIB, 161 * MIB, 260 * MIB, 288 * MIB, GIB)
SHAPES = [(4096, 4096), (11008, 4096), (4096, 11008), (1024, 4096), (32000, 4096), (128256, 4096), (512, 512)]


class LiveBytes(TorchDispatchMode):
    """The most bytes that tensors held at the same time, counted as they come and go; nothing is computed."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor):
                self._hold(tensor.untyped_storage())
        return made

    def _hold(self, storage):
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._let_go, key, storage.nbytes())

    def _let_go(self, key, size):
        self._known.discard(key)
        self.now -= size


def counted_machine(monkeypatch, cache, free, dtype="bf16"):
    """Sizes as they are on a machine of such caches and free memory; tensors are not made, only counted."""
    monkeypatch.undo()
    monkeypatch.setattr(Machine, "random", lambda self, *shape: torch.empty(shape, dtype=self.torch_dtype))
    everywhere(monkeypatch, effective_cache_bytes, lambda device: max(MIB, min(256 * MIB, cache)))
    everywhere(monkeypatch, probe_budget_bytes, lambda device: min(GIB // 2, free // 4))
    monkeypatch.setattr(roofs, "product_for", lambda device, dtype: Product("copied", torch.clone, F.linear))
    for plan in (best.SURVEY, best.FINAL):
        everywhere(monkeypatch, plan, Plan(0.0, 1, 1, 1, 0.0))
    monkeypatch.setattr(moves, "_MOVES_BYTES", 1)
    return Machine(torch.device("cpu"), StepClock(), dtype)


FREE = (GIB // 2, 2 * GIB, 8 * GIB)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize("cache", CACHES)
def test_every_probe_stays_within_its_budget(monkeypatch, cache, free, dtype):
    machine = counted_machine(monkeypatch, cache, free, dtype)
    for find in (
        lambda: roofs.gemm_roof(machine, SHAPES, 512),
        lambda: roofs.stream_roof(machine, SHAPES),
        lambda: moves.copy_roof(machine),
        lambda: moves.cache_roof(machine),
    ):
        with FakeTensorMode(), LiveBytes() as live:
            find()
        assert 0 < live.peak <= min(GIB // 2, free // 4)


@pytest.mark.parametrize("free", FREE)
def test_attention_and_the_first_trial_stay_within_the_budget_too(monkeypatch, free):
    machine = counted_machine(monkeypatch, 32 * MIB, free)
    attend = get_backend("chunked").attend
    for find in (
        lambda: roofs.affordable_rows(machine, (128256, 4096), 512),
        lambda: roofs.attention_roof(machine, PRESETS["7b"].arch, attend, (512, 1024)),
    ):
        with FakeTensorMode(), LiveBytes() as live:
            find()
        assert 0 < live.peak <= min(GIB // 2, free // 4)


def test_weights_that_cannot_leave_the_cache_are_no_roof_of_memory(monkeypatch):
    everywhere(monkeypatch, probe_budget_bytes, lambda device: 1 << 14)
    roof = roofs.stream_roof(real_machine(), [(48, 80)])
    assert not roof.trusted
    assert roof.reason == "weights of 8.00 KiB, which memory has room for, stay in a cache of 8.00 KiB"


def test_without_packed_products_plain_ones_are_measured(monkeypatch):
    monkeypatch.setattr(packed, "can_pack", lambda dtype: False)
    assert roofs.stream_roof(real_machine("bf16"), [(48, 80)]).per_second > 0
    assert "packed" not in roofs.gemm_roof(real_machine("bf16"), [(48, 80)], 4).shape


@pytest.mark.parametrize(("seconds", "names"), [(1.0, ["", ", weight (in, out)"]), (9.0, [""])])
def test_an_order_without_a_kernel_is_left_after_one_small_product(seconds, names, monkeypatch):
    """As bf16 with the weight turned is on a CPU without AVX-512: hundreds of times slower, by no cause of ours."""
    machine = fake_machine()
    monkeypatch.setattr(roofs, "product_for", lambda device, dtype: Product("plain", lambda weight: weight, F.linear))
    taken = iter((1.0, seconds))
    monkeypatch.setattr(roofs, "time_one", lambda call, clock, plan: [next(taken)])
    assert [name for name, _ in roofs._orders(machine)] == names
