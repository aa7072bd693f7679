import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.measure.report import passes
from llamalab.measure.report.passes import MeasuredModel, measure_pass
from llamalab.measure.target.blocks import choose_share
from llamalab.measure.timing.timer import Plan
from llamalab.model import StaticKVCache, build
from llamalab.records.record import unmeasured
from tests.measure.fakes import StepClock
from tests.report.sample import sample_record

ARCH = LlamaArch(48, 5, 6, 2, 80, 96)
PLAN = Plan(0.0, 4, 4, 1, 0.0)
POINTS = {"rope": 2, "kv_append": 2}  # rows that two points end


BASE = sample_record(dtype="fp32")  # whose roofs predictions rest on


def measured(bench, phase, **tokens):
    """The pass of it."""
    return measure_pass(bench, phase, PLAN, unmeasured("toy", ARCH, "fp32", BASE.environment, BASE.roofs), **tokens)[0]


def make_bench(attention="sdpa", *, full=False, dtype="fp32"):
    block_bytes = 4 * (2 * 48 * 48 + 2 * 16 * 48 + 3 * 80 * 48 + 2 * 48)
    share = choose_share(ARCH, "fp32", limit_bytes=3 * block_bytes, full=full)
    cache = StaticKVCache(share.arch, batch=2, max_tokens=12, dtype=dtype)
    return MeasuredModel(build(share.arch, dtype=dtype, attention=attention), cache, share, dtype)


@pytest.fixture(autouse=True)
def steps(monkeypatch):
    """A second between any two marks."""
    monkeypatch.setattr(passes, "clock_for", lambda device, marks=0: StepClock())


@pytest.mark.parametrize("attention", ["sdpa", "naive"])
def test_times_are_per_block_and_per_round(attention):
    run = measured(make_bench(attention), "prefill", new_tokens=7)
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
    part = {row.name: (row.count, row.basis) for row in measured(make_bench(), "x", new_tokens=3).parts}
    assert part == {"embedding": (1, "measured"), "block": (5, "extrapolated"), "head": (1, "measured")}
    full = measured(make_bench(full=True), "x", new_tokens=3)
    assert {row.basis for row in (*full.parts, *full.ops)} == {"measured"}


def test_decode_continues_the_same_context_in_every_round():
    bench = make_bench()
    measured(bench, "prefill", new_tokens=11)
    keys = torch.stack(bench.cache.keys)[:, :, :, :11]
    run = measured(bench, "decode", new_tokens=1, past_tokens=11)
    assert (run.batch, run.new_tokens, run.context_tokens) == (2, 1, 12)
    assert bench.cache.length == 12
    assert torch.equal(torch.stack(bench.cache.keys)[:, :, :, :11], keys)


def test_memory_beside_what_is_resident():
    bench = make_bench()
    memory = measured(bench, "prefill", new_tokens=7).memory
    weights = sum(weight.nbytes for weight in bench.model.parameters())
    assert memory.resident_bytes == weights + 2 * 3 * 2 * 16 * 12 * 4
    assert memory.peak_bytes >= 3 * 2 * 7 * 80 * 4


def test_the_profile_has_the_same_times_in_depth():
    base = unmeasured("toy", ARCH, "fp32", BASE.environment, BASE.roofs)
    run, profile = measure_pass(make_bench(), "prefill", PLAN, base, new_tokens=7)
    assert (profile.phase, profile.batch, profile.new_tokens, profile.layers_measured) == ("prefill", 2, 7, 3)
    assert [(op.name, op.time_s, op.samples_s) for op in profile.ops] == [(op.name, op.median_s, []) for op in run.ops]
    for op in profile.ops:
        assert op.layers_s == ([op.time_s] * 3 if "*" in op.name else [])
    # StepClock: the embedding, the turns of RoPE, 3 blocks and the head; what a pass takes is one step.
    assert profile.named_s == sum(op.time_s * op.calls for op in profile.ops)
    assert (profile.outside_s, profile.wall_s, profile.wall_samples_s) == (1.0, 1.0, [])
    assert (profile.kernel, profile.memory.peak_bytes) == (run.kernel, run.memory.peak_bytes)
    assert [tool.name for tool in profile.instruments] == ["part clock", "op clock", "profiler", "memory"]
    assert [tool.ratio for tool in profile.instruments][:2] == [1.0, 1.0]
    assert "llamalab profile measures it" in profile.energy.reason
    assert profile.fault is None
