"""Ranges named after operations: every operation of the cost table once per block, in order, end to end."""

import pytest
import torch

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.instrument.bind import tapped
from llamalab.measure.device.profiler import profiling
from llamalab.measure.timing.profiler_ranges import SETUP, Ranges, merged_labels, op_ends, own_labels, starred
from tests.model.shrunk import ARCHES, small_model, some_tokens

ALGORITHMS = {"naive": "naive", "sdpa": "flash"}


@pytest.mark.parametrize("attention", ALGORITHMS)
def test_a_pass_is_covered_by_the_cost_table_in_order(attention: str) -> None:
    model, algorithm = small_model(ARCHES["GQA"], attention=attention), ALGORITHMS[attention]
    ranges = Ranges(2, own_labels(algorithm))
    ranges.start()
    with torch.no_grad(), tapped(model, ranges):
        model(some_tokens(2, 5))
    ranges.stop()
    names = [span.name for span in ranges.spans]
    table = [op.name for op in forward_ops(ARCHES["GQA"], PassShape(new_tokens=5, attention=algorithm))]
    first, *block, norm, output = table
    expected = [first, SETUP, *(name.replace("*", str(layer)) for layer in (0, 1) for name in block), norm, output]
    assert names == expected
    assert list(dict.fromkeys(starred(name) for name in names if name != SETUP)) == table
    ends = zip(ranges.spans, ranges.spans[1:], strict=False)
    assert all(before.start_ns <= before.end_ns <= after.start_ns for before, after in ends)


def test_the_profiler_sees_the_ranges_under_these_names() -> None:
    model, ranges = small_model(ARCHES["GQA"]), Ranges(2, own_labels("flash"))
    with torch.no_grad(), tapped(model, ranges), profiling() as profiler:
        ranges.start()
        model(some_tokens(2, 5))
        ranges.stop()
    seen = [event.name() for event in profiler.kineto_results.events()]
    assert {span.name for span in ranges.spans} <= set(seen)


def test_a_pass_that_fails_leaves_no_range_open() -> None:
    model, ranges = small_model(ARCHES["GQA"]), Ranges(2, own_labels("flash"))
    ranges.start()
    with pytest.raises(ValueError, match="tokens must be ids"), tapped(model, ranges):
        model(some_tokens(2, 5) + 97)
    ranges.stop()
    assert [span.name for span in ranges.spans] == ["tok_embeddings"]
    ranges.start()
    with torch.no_grad(), tapped(model, ranges):
        model(some_tokens(2, 5))
    assert len(ranges.spans) == 2 + 2 * 15 + 2


def test_a_model_that_shows_less_has_one_row_for_it() -> None:
    names = [name for _, name in op_ends(1, merged_labels("flash"))]
    assert names[5:7] == ["layers.0.attention.wv", "layers.0.attention.rope+kv_append+flash"]
    naive = [name for _, name in op_ends(1, merged_labels("naive"))]
    assert "layers.0.attention.rope+kv_append+scores+softmax+values" in naive
