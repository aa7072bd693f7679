"""The largest step of AdamW fits, one more does not, and what a refusal names does fit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.training_solve import (
    TrainingStep,
    check_training_fits,
    solved_training,
    training_changes_that_fit,
)
from llamalab.errors import DoesNotFitError, InputError
from llamalab.presets import PRESETS

STEP = TrainingStep(PRESETS["7b"].arch, PassShape(new_tokens=1024))


@settings(max_examples=15)
@given(st.integers(120 * 10**9, 900 * 10**9), st.sampled_from(["none", "full"]))
def test_the_most_fits_and_one_more_does_not(memory_bytes: int, recompute: str) -> None:
    step = STEP._replace(recompute=recompute)
    batch = solved_training("batch", step, memory_bytes).shape.batch
    assert step.of(batch=batch).memory.safe_bytes <= memory_bytes < step.of(batch=batch + 1).memory.safe_bytes
    context = solved_training("context", step, memory_bytes).shape.new_tokens
    assert step.of(new_tokens=context).memory.safe_bytes <= memory_bytes
    assert step.of(new_tokens=context + 1).memory.safe_bytes > memory_bytes


@settings(max_examples=15)
@given(st.integers(5 * 10**9, 200 * 10**9))
def test_the_fewest_ranks_fit_and_half_of_them_do_not(memory_bytes: int) -> None:
    found = solved_training("ranks", STEP, memory_bytes)
    ranks = found.shape.tensor_parallel
    if found.memory.safe_bytes > memory_bytes:
        assert found == STEP
    elif ranks > 1:
        assert STEP.of(tensor_parallel=ranks // 2).memory.safe_bytes > memory_bytes


def test_the_widest_type_and_the_least_recomputation_that_fit() -> None:
    step = STEP.of(new_tokens=4096, attention="naive")
    wide, narrow = (step.of(dtype=kind).memory.safe_bytes for kind in ("fp32", "bf16"))
    assert narrow < wide
    assert solved_training("weights", step, wide).shape.dtype == "fp32"
    assert solved_training("weights", step, wide - 1).shape.dtype == "bf16"
    selective = step._replace(recompute="selective").memory.safe_bytes
    assert solved_training("recompute", step, narrow).recompute == "none"
    assert solved_training("recompute", step, selective).recompute == "selective"


def test_a_refusal_tells_the_missing_bytes_and_changes_that_do_fit() -> None:
    step, memory_bytes = STEP.of(new_tokens=8192), 120 * 10**9
    missing = step.memory.safe_bytes - memory_bytes
    with pytest.raises(DoesNotFitError, match=rf"\({missing:,} bytes\) too much; try "):
        check_training_fits(step, memory_bytes, "it")
    words = training_changes_that_fit(step, memory_bytes)
    assert "full recomputation" in words
    assert "2 devices" in words
    check_training_fits(step._replace(recompute="full"), memory_bytes, "it")
    check_training_fits(step.of(tensor_parallel=2), memory_bytes, "it")
    with pytest.raises(DoesNotFitError, match="no single change is enough"):
        check_training_fits(step, 1, "it")


def test_the_length_of_packed_documents_is_given() -> None:
    packed = STEP._replace(implementation="fused", documents=(5, 5))
    with pytest.raises(InputError, match="without packed documents"):
        solved_training("context", packed, 10**12)
