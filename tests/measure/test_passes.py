import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.measure import passes
from llamalab.measure.blocks import choose_share
from llamalab.measure.passes import Bench, measure_pass
from llamalab.measure.timer import Plan
from llamalab.model import StaticKVCache, build
from tests.measure.fakes import StepClock

ARCH = LlamaArch(48, 5, 6, 2, 80, 96)
PLAN = Plan(0.0, 4, 4, 1, 0.0)
POINTS = {"rope": 2, "kv_append": 2}  # rows that two points end


def make_bench(attention="sdpa", *, full=False, dtype="fp32"):
    block_bytes = 4 * (2 * 48 * 48 + 2 * 16 * 48 + 3 * 80 * 48 + 2 * 48)
    share = choose_share(ARCH, "fp32", limit_bytes=3 * block_bytes, full=full)
    cache = StaticKVCache(share.arch, batch=2, max_tokens=12, dtype=dtype)
    return Bench(build(share.arch, dtype=dtype, attention=attention), cache, share, dtype)


@pytest.fixture(autouse=True)
def steps(monkeypatch):
    """A second between any two marks."""
    monkeypatch.setattr(passes, "clock_for", lambda device, marks=0: StepClock())


@pytest.mark.parametrize("attention", ["sdpa", "naive"])
def test_times_are_per_block_and_per_round(attention):
    run = measure_pass(make_bench(attention), "prefill", PLAN, new_tokens=7)
    assert [(part.name, part.samples_s) for part in run.parts] == [
        ("embedding", [1.0] * 4),
        ("block", [1.0] * 4),
        ("head", [1.0] * 4),
    ]
    for op in run.ops:
        assert op.samples_s == [float(POINTS.get(op.name.rpartition(".")[2], 1))] * 4
    assert (run.whole_s, run.observer_ratio, run.total_s) == ([1.0] * 4, 1.0, 7.0)
    assert (run.layers_measured, run.layers_total) == (3, 5)
    assert (run.attention, run.algorithm) == (attention, "flash" if attention == "sdpa" else "naive")


def test_extrapolated_is_what_was_multiplied_beyond_what_ran():
    part = {row.name: (row.count, row.basis) for row in measure_pass(make_bench(), "x", PLAN, new_tokens=3).parts}
    assert part == {"embedding": (1, "measured"), "block": (5, "extrapolated"), "head": (1, "measured")}
    full = measure_pass(make_bench(full=True), "x", PLAN, new_tokens=3)
    assert {row.basis for row in (*full.parts, *full.ops)} == {"measured"}


def test_decode_continues_the_same_context_in_every_round():
    bench = make_bench()
    measure_pass(bench, "prefill", PLAN, new_tokens=11)
    keys = bench.cache.keys[:, :, :, :11].clone()
    run = measure_pass(bench, "decode", PLAN, new_tokens=1, past_tokens=11)
    assert (run.batch, run.new_tokens, run.context_tokens) == (2, 1, 12)
    assert bench.cache.length == 12
    assert torch.equal(bench.cache.keys[:, :, :, :11], keys)


def test_memory_beside_what_is_resident():
    bench = make_bench()
    memory = measure_pass(bench, "prefill", PLAN, new_tokens=7).memory
    weights = sum(weight.nbytes for weight in bench.model.parameters())
    assert memory.resident_bytes == weights + 2 * 3 * 2 * 16 * 12 * 4
    assert memory.peak_bytes >= 3 * 2 * 7 * 80 * 4


def test_tokens_are_the_same_every_time():
    bench = make_bench()
    assert torch.equal(bench.tokens(2, 9), bench.tokens(2, 9))
    assert bench.tokens(2, 9).max() < ARCH.vocab_size
