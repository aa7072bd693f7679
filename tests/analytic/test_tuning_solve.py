"""What is solved for fits, and one more, or one less, does not."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamalab.analytic.fine_tuning import tuning_memory
from llamalab.analytic.lora import Lora
from llamalab.analytic.tuned_weights import trained_parameters
from llamalab.analytic.tuning import Tuning
from llamalab.analytic.tuning_solve import check_tuning_fits, solved_step, step_changes_that_fit, tuning_fits
from llamalab.errors import DoesNotFitError, InputError
from llamalab.presets import PRESETS

QLORA = Tuning(PRESETS["7b"].arch, 1024, method="qlora", lora=Lora(8, ("q", "v")), recompute="full")
SHARDED = Tuning(PRESETS["13b"].arch, 2048, zero=3, recompute="full")


@settings(max_examples=20)
@given(st.integers(6 * 10**9, 90 * 10**9))
def test_the_most_fits_and_one_more_does_not(memory_bytes: int) -> None:
    for solve, value, more in (
        ("batch", lambda step: step.batch, lambda step: step._replace(batch=step.batch + 1)),
        ("context", lambda step: step.seq, lambda step: step._replace(seq=step.seq + 1)),
    ):
        found = solved_step(solve, QLORA, memory_bytes)
        assert value(found) >= 1
        assert tuning_fits(found, memory_bytes)
        assert not tuning_fits(more(found), memory_bytes)


def test_the_largest_rank_fits_and_one_more_does_not() -> None:
    assert QLORA.lora is not None
    found = solved_step("rank", QLORA, 8 * 10**9)
    assert found.lora is not None
    assert found.lora.rank > 100
    assert tuning_fits(found, 8 * 10**9)
    assert not tuning_fits(found._replace(lora=found.lora._replace(rank=found.lora.rank + 1)), 8 * 10**9)
    everything = solved_step("rank", QLORA, 10**12)
    assert everything.lora is not None
    assert everything.lora.rank == 4095  # below the matrix that it approximates


@settings(max_examples=20)
@given(st.integers(10 * 10**9, 300 * 10**9))
def test_the_fewest_devices_fit_and_half_of_them_do_not(memory_bytes: int) -> None:
    found = solved_step("devices", SHARDED, memory_bytes)
    if not tuning_fits(found, memory_bytes):
        assert not tuning_fits(SHARDED._replace(data_parallel=2**20), memory_bytes)
    elif found.data_parallel > 1:
        assert not tuning_fits(found._replace(data_parallel=found.data_parallel // 2), memory_bytes)


@pytest.mark.parametrize(("solve", "field"), [("recompute", "recompute"), ("optimizer", "optimizer")])
def test_the_first_word_that_fits(solve: str, field: str) -> None:
    step = Tuning(PRESETS["7b"].arch, 4096, 4, attention="naive")
    words = {"recompute": ("none", "selective", "full"), "optimizer": ("adamw", "adamw-8bit", "adafactor")}[solve]
    sizes = [tuning_memory(step._replace(**{field: word})).safe_bytes for word in words]
    assert sizes == sorted(sizes, reverse=True)
    for word, size in zip(words, sizes, strict=True):
        assert getattr(solved_step(solve, step, size), field) == word


def test_a_refusal_tells_the_missing_bytes_and_changes_that_do_fit() -> None:
    step = Tuning(PRESETS["7b"].arch, 8192, 4)
    missing = tuning_memory(step).safe_bytes - 80 * 10**9
    with pytest.raises(DoesNotFitError, match=rf"\({missing:,} bytes\) too much; try "):
        check_tuning_fits(step, 80 * 10**9, "it")
    words = step_changes_that_fit(QLORA._replace(batch=8, recompute="none"), 24 * 10**9)
    assert "full recomputation" in words
    assert any(word.startswith("batch ") for word in words)
    assert any(word.startswith("context ") for word in words)


@pytest.mark.parametrize(
    ("solve", "changes"),
    [
        ("rank", {"method": "full", "lora": None}),
        ("rank", {"lora": Lora(8, ("q", "x"))}),
        ("devices", {}),
        ("context", {"documents": (5, 5)}),
        ("batch", {"seq": 0}),
    ],
)
def test_a_question_without_an_answer_is_refused(solve: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        solved_step(solve, QLORA._replace(**changes), 10**10)


@pytest.mark.parametrize(("accumulate", "zero"), [(1, 0), (2, 0), (2, 2)])
def test_masters_that_take_the_gradients_have_them_in_fp32(accumulate: int, zero: int) -> None:
    step = Tuning(PRESETS["7b"].arch, 64, precision="masters", accumulate=accumulate, zero=zero, data_parallel=8)
    held, mixed = tuning_memory(step), tuning_memory(step._replace(precision="mixed", accumulate=1))
    wide = 4 * trained_parameters(step) // (8 if zero >= 2 else 1)
    beside = wide if accumulate > 1 else wide - mixed.gradient_bytes - mixed.activation_bytes
    assert held.total_bytes == mixed.total_bytes + beside
