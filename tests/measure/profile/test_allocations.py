"""Memory over a pass: categories, the peak and what made it, from events that are written out here."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.measure.device.base import AllocatorEvent
from llamalab.measure.device.cpu import profiler_events
from llamalab.measure.device.cuda import history_events
from llamalab.measure.device.machine import measure_peak
from llamalab.measure.profile.allocations import memory_profile, predicted_steps
from llamalab.measure.profile.run import measure_profile
from llamalab.measure.timing.profiler_ranges import Span
from llamalab.model import StaticKVCache
from tests.model.shrunk import ARCHES, small_model
from tests.report.sample import sample_record

SPANS = [Span("tok_embeddings", 0, 10), Span("layers.0.attention.kv_append", 10, 20),
         Span("layers.0.feed_forward.w1", 20, 30), Span("output", 30, 40)]  # fmt: skip


def laid_out(events: Sequence[AllocatorEvent]) -> Any:
    return memory_profile(
        events, SPANS, method="test", weight_bytes=7, kv_bytes=8, predicted={"feed-forward": 300},
        ops=forward_ops(ARCHES["GQA"], PassShape(new_tokens=5)),
    )  # fmt: skip


def test_categories_are_told_by_where_memory_is_taken_and_given_back() -> None:
    found = laid_out([
        AllocatorEvent(1, 100, 64),  # the stream, until the head
        AllocatorEvent(11, 200, 32),  # a cache that grows: never given back
        AllocatorEvent(21, 300, 500), AllocatorEvent(25, 300, -500),  # scratch of one operation
        AllocatorEvent(26, 300, 128),  # the same address again, this time for the next operation
        AllocatorEvent(31, 300, -128), AllocatorEvent(32, 400, 16), AllocatorEvent(33, 100, -64),
        AllocatorEvent(35, 999, -1000),  # older than the pass
    ])  # fmt: skip
    by_op = {moment.op: moment for moment in found.timeline}
    w1 = by_op["layers.0.feed_forward.w1"]
    assert (w1.activation_bytes, w1.kv_bytes, w1.workspace_bytes, w1.logits_bytes) == (64, 32, 500, 0)
    assert by_op["output"].logits_bytes == 16
    assert (found.peak_bytes, found.peak_op) == (596, "layers.0.feed_forward.w1")
    assert [(one.op, one.category, one.bytes) for one in found.at_peak] == [
        ("layers.0.feed_forward.w1", "workspace", 500),
        ("tok_embeddings", "activation", 64),
        ("layers.0.attention.kv_append", "kv", 32),
    ]
    step = next(step for step in found.steps if step.step == "feed-forward")
    assert (step.measured_bytes, step.predicted_bytes) == (564, 300)
    assert step.error == 300 / 564 - 1


def test_no_event_is_no_peak_but_a_reason() -> None:
    found = laid_out([])
    assert (found.peak_bytes, found.timeline) == (None, [])
    assert found.reason == "the allocator reported no event of this pass"


def test_the_history_of_the_cuda_allocator_is_read() -> None:
    trace = [
        {"action": "segment_alloc", "addr": 5, "size": 1 << 20, "time_us": 1},
        {"action": "alloc", "addr": 5, "size": 512, "time_us": 2},
        {"action": "free_requested", "addr": 5, "size": 512, "time_us": 3},
        {"action": "free_completed", "addr": 5, "size": 512, "time_us": 4},
    ]
    assert history_events(trace) == [AllocatorEvent(2000, 5, 512), AllocatorEvent(4000, 5, -512)]


def test_the_tree_of_the_profiler_is_read_in_order() -> None:
    kind = torch._C._profiler._EventType.Allocation

    def node(at: int, size: int, *children: Any, tag: Any = kind) -> Any:
        fields = SimpleNamespace(ptr=9, alloc_size=size)
        return SimpleNamespace(tag=tag, start_time_ns=at, typed=(tag, fields), children=children)

    tree = [node(1, 0, node(5, -8), node(3, 8), tag="other")]
    assert profiler_events(tree) == [AllocatorEvent(3, 9, 8), AllocatorEvent(5, 9, -8)]


def test_the_peak_is_the_one_that_the_running_sum_finds_and_is_what_is_predicted() -> None:
    """Two ways of measuring and one of counting, of the same pass."""
    arch = ARCHES["GQA"].replace(dim=240, ffn_dim=1820)
    model = small_model(arch)
    profile = measure_profile(
        model, phases=("prefill",), prompt_tokens=37, reference=sample_record(dtype="fp32"), budget_s=0.0
    )
    memory = profile.phase("prefill").memory
    cache = StaticKVCache(arch, batch=1, max_tokens=37, dtype="fp32")
    tokens = torch.zeros(1, 37, dtype=torch.long)

    def run() -> None:
        cache.rewind()
        with torch.inference_mode():
            model(tokens, cache=cache, logits="last")

    run()
    assert memory.peak_bytes == measure_peak(run, torch.device("cpu")).peak_bytes
    assert memory.peak_bytes == sum(one.bytes for one in memory.at_peak)
    assert memory.peak_bytes == max(moment.total_bytes for moment in memory.timeline)
    expected = predicted_steps(arch, PassShape(new_tokens=37, dtype="fp32"))
    assert memory.peak_bytes == max(expected.values())
    assert memory.weight_bytes == sum(weight.nbytes for weight in model.parameters())
    assert memory.kv_bytes == cache.nbytes
    assert [step.step for step in memory.steps] == list(expected)
