"""The words carry the numbers of the comparison, and claim nothing that it does not say."""

import dataclasses

import pytest

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.crossover import crossover
from llamalab.comparison.sentences import verdict
from llamalab.comparison.wording import signed_percent, tokens_per_s
from llamalab.records.record import AttentionPoint, Record
from tests.report.sample import sample_record


@pytest.fixture(scope="module")
def record() -> Record:
    return sample_record()


def points(times: dict[int, tuple[float, float]]) -> list[AttentionPoint]:
    """Naive and flash seconds by length."""
    return [
        AttentionPoint(
            backend=backend, algorithm=backend, batch=1, new_tokens=tokens, context_tokens=tokens, n_heads=4,
            n_kv_heads=2, head_dim=8, dtype="bf16", kernel=None, samples_s=[seconds], peak_bytes=None,
        )
        for tokens, pair in times.items()
        for backend, seconds in zip(("naive", "flash"), pair, strict=True)
    ]  # fmt: skip


def test_says_the_numbers_of_the_comparison(record: Record) -> None:
    comparison = Comparison(record)
    text = verdict(comparison).text
    for phase in comparison.phases:
        assert phase.predicted_tokens_per_s
        assert phase.error is not None
        assert f"predicted {tokens_per_s(phase.predicted_tokens_per_s)}" in text
        assert f"measured {tokens_per_s(phase.measured_tokens_per_s)}" in text
        assert f"error in time {signed_percent(phase.error)}" in text
    assert comparison.errors
    assert f"median error of a prediction is {comparison.errors.median:.0%}" in text
    assert "6,738,415,616 parameters, exactly as counted" in text
    assert "up to 5 sequences of 4,096 tokens" in text


def test_wrong_counts_are_errors_to_explain(record: Record) -> None:
    text = verdict(Comparison(dataclasses.replace(record, parameters_measured=6_738_415_615))).text
    assert "6,738,415,615 parameters, but 6,738,415,616 were counted: an error to explain" in text


@pytest.mark.parametrize(("layers", "said"), [(2, True), (None, False)])
def test_extrapolation_is_said_exactly_where_it_is(layers: int | None, said: bool) -> None:
    text = verdict(Comparison(sample_record(layers_measured=layers))).text
    assert ("extrapolated from 2 of 32 blocks" in text) is said
    assert ("extrapolated" in text) is said


@pytest.mark.parametrize(("times", "tokens", "words"), [
    ({64: (1.0, 2.0), 128: (2.0, 1.9), 256: (9.0, 3.0)}, 128, "faster than naive from 128 tokens on, 3.0x at 256"),
    ({64: (1.0, 0.5), 128: (2.0, 2.1), 256: (9.0, 8.0)}, 256, "faster than naive from 256 tokens on"),
    ({64: (1.0, 2.0), 128: (2.0, 2.5)}, None, "does not overtake naive attention up to 128 tokens"),
])  # fmt: skip
def test_crossover(record: Record, times: dict[int, tuple[float, float]], tokens: int | None, words: str) -> None:
    comparison = Comparison(dataclasses.replace(record, attention=points(times)))
    found = crossover(comparison)
    assert found
    assert found.tokens == tokens
    assert words in verdict(comparison).text


def test_no_crossover_without_both(record: Record) -> None:
    comparison = Comparison(dataclasses.replace(record, attention=[]))
    assert crossover(comparison) is None
    assert "not both measured" in verdict(comparison).text


def test_no_prediction_is_said_with_its_reason(record: Record) -> None:
    text = verdict(Comparison(dataclasses.replace(record, roofs=[]))).text
    assert "not predicted: there is no copy roof for bf16" in text
    assert "No operation has both a prediction and a measurement" in text


def test_above_the_roof_is_no_win(record: Record) -> None:
    slow = [dataclasses.replace(roof, per_second=roof.per_second and roof.per_second / 4) for roof in record.roofs]
    text = verdict(Comparison(dataclasses.replace(record, roofs=slow))).text
    assert "The run was faster than the probes of a roof, and its rate is the roof now: " in text
