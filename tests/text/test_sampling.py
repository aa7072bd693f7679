import math

import pytest
import torch

from llamalab.errors import InputError
from llamalab.text.sampling import Sampler

LOGITS_V = torch.tensor([0.3, 2.0, -1.0, 1.5, 0.9])


def draws(sampler: Sampler, count: int) -> list[int]:
    return [sampler(LOGITS_V) for _ in range(count)]


def test_greedy_takes_the_first_of_the_largest() -> None:
    assert Sampler(temperature=0.0)(torch.tensor([1.0, 3.0, 3.0])) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_divides_the_logits(temperature: float) -> None:
    weights = [math.exp(value / temperature) for value in LOGITS_V.tolist()]
    expected = torch.tensor([weight / sum(weights) for weight in weights], dtype=torch.float64)
    torch.testing.assert_close(Sampler(temperature=temperature).probabilities(LOGITS_V), expected)


def test_top_k_keeps_k_and_renormalises() -> None:
    probs_V = Sampler(top_k=2).probabilities(LOGITS_V)
    weights = [0, math.exp(2.0), 0, math.exp(1.5), 0]
    expected = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    torch.testing.assert_close(probs_V, expected)


def test_top_k_above_the_vocabulary_keeps_all() -> None:
    torch.testing.assert_close(Sampler(top_k=99).probabilities(LOGITS_V), Sampler().probabilities(LOGITS_V))


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1e-9, [0]), (0.45, [0]), (0.55, [0, 1]), (0.85, [0, 1, 2]), (1.0, [0, 1, 2, 3])]
)
def test_top_p_keeps_tokens_whose_rivals_weigh_at_most_p(top_p: float, kept: list[int]) -> None:
    probs_V = Sampler(top_p=top_p).probabilities(torch.tensor([0.5, 0.3, 0.15, 0.05]).log())
    assert probs_V.nonzero().flatten().tolist() == kept
    assert float(probs_V.sum()) == pytest.approx(1.0)


def test_top_p_counts_within_top_k() -> None:
    # Of 0.5 and 0.3 the first weighs 0.625: above 0.6, so it stands alone.
    probs_V = Sampler(top_k=2, top_p=0.6).probabilities(torch.tensor([0.5, 0.3, 0.15, 0.05]).log())
    assert probs_V.nonzero().flatten().tolist() == [0]


@pytest.mark.parametrize(("min_p", "kept"), [(0.0, 4), (0.1, 4), (0.11, 3), (0.31, 2), (0.6, 2), (0.61, 1), (1.0, 1)])
def test_min_p_keeps_what_weighs_at_least_that_share_of_the_heaviest(min_p: float, kept: int) -> None:
    # 0.05 is 0.1 of 0.5, 0.15 is 0.3 of it, 0.3 is 0.6: in fp64 a hair below or above.
    probs_V = Sampler(min_p=min_p * (1 - 1e-7)).probabilities(
        torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()
    )
    assert probs_V.nonzero().flatten().tolist() == list(range(kept))
    assert float(probs_V.sum()) == pytest.approx(1.0)


def test_min_p_goes_by_the_weights_at_that_temperature() -> None:
    # At temperature 1/2 weights are squared: 0.09 is 0.36 of 0.25.
    probs_V = Sampler(min_p=0.5, temperature=0.5).probabilities(torch.tensor([0.5, 0.3, 0.2]).log())
    assert probs_V.nonzero().flatten().tolist() == [0]


def test_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_not() -> None:
    logits_V, before_V = LOGITS_V.clone(), LOGITS_V.clone()
    penalised_V = Sampler(repetition_penalty=2.0)._penalised(logits_V, [1, 2, 1])
    assert penalised_V.tolist() == pytest.approx([0.3, 1.0, -2.0, 1.5, 0.9])
    assert torch.equal(logits_V, before_V)
    assert Sampler(temperature=0.0, repetition_penalty=2.0)(LOGITS_V, seen=[1, 2]) == 3
    assert Sampler(temperature=0.0, repetition_penalty=2.0)(LOGITS_V) == 1


def test_a_seed_gives_the_same_tokens() -> None:
    first = draws(Sampler(seed=3), 200)
    assert draws(Sampler(seed=3), 200) == first
    assert draws(Sampler(seed=4), 200) != first


def test_the_seed_is_the_samplers_own() -> None:
    torch.manual_seed(0)
    first = draws(Sampler(seed=3), 50)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert draws(Sampler(seed=3), 50) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_draws_follow_the_probabilities() -> None:
    sampler, count = Sampler(seed=1), 20_000
    shares_V = torch.bincount(torch.tensor(draws(sampler, count)), minlength=5) / count
    probs_V = sampler.probabilities(LOGITS_V)
    # Five standard deviations of a share.
    assert ((shares_V - probs_V).abs() < 5 * (probs_V * (1 - probs_V) / count).sqrt()).all()


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e300])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    probs_V = Sampler(temperature=temperature).probabilities(LOGITS_V * 1e4)
    assert float(probs_V.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(temperature: float, bad: float) -> None:
    with pytest.raises(InputError, match="logits must be finite"):
        Sampler(temperature=temperature)(torch.tensor([0.0, bad, 1.0]))


def test_a_logit_of_minus_infinity_is_never_drawn() -> None:
    sampler = Sampler(temperature=100.0)
    assert {sampler(torch.tensor([0.0, -math.inf, 1.0])) for _ in range(200)} == {0, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be"),
        ({"temperature": math.nan}, "temperature must be"),
        ({"temperature": math.inf}, "temperature must be"),
        ({"top_k": 0}, "top_k must be"),
        ({"top_p": 0.0}, "top_p must be"),
        ({"top_p": 1.1}, "top_p must be"),
        ({"top_p": math.nan}, "top_p must be"),
        ({"min_p": -0.1}, "min_p must be"),
        ({"min_p": 1.1}, "min_p must be"),
        ({"min_p": math.nan}, "min_p must be"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be"),
        ({"repetition_penalty": -1.0}, "repetition_penalty must be"),
        ({"repetition_penalty": math.inf}, "repetition_penalty must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**63}, "seed must be"),
    ],
)
def test_options_that_cannot_be_right(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampler(**options)  # type: ignore[arg-type]
