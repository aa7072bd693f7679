"""Draft and verify: the large model's text, whatever the draft proposes."""

import pytest
import torch

import llamalab
from llamalab.errors import InputError
from llamalab.model import Transformer
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler
from llamalab.text.speculative import Speculation

ARCH = llamalab.LlamaArch(24, 3, 6, 2, 20, 40, max_positions=48)
PROMPT = [7, 5, 30, 9]


def wild(seed: int, arch: llamalab.LlamaArch = ARCH) -> Transformer:
    """A model whose text does not settle on one token."""
    torch.manual_seed(seed)
    model = llamalab.build(arch, dtype="fp32")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3 + (weight.dim() == 1))
    return model


@pytest.fixture(scope="module")
def model() -> Transformer:
    return wild(5)


@pytest.fixture(scope="module")
def near(model: Transformer) -> Transformer:
    """A draft that is often right: the model with a little noise."""
    made = wild(5)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
    return made


def test_greedy_text_is_the_models_own_with_any_draft(model: Transformer, near: Transformer) -> None:
    alone = Generation(model, PROMPT, max_new_tokens=30, sampler=Sampler(temperature=0.0))
    expected = list(alone)
    for draft, proposals in ((model, 4), (near, 1), (near, 5), (wild(6), 3)):
        made = Speculation(
            model, draft, PROMPT, proposals=proposals, max_new_tokens=30, sampler=Sampler(temperature=0.0)
        )
        assert list(made) == expected
        assert made.finish_reason == "length"
        assert sum(one.accepted + 1 for one in made.rounds) == 30
        if draft is model:  # it always agrees with itself: 5 tokens a round
            assert len(made.rounds) == 6
            assert made.accepted_length == 4
        assert all(0 <= one.accepted <= one.proposed <= proposals for one in made.rounds)


def test_drawn_tokens_have_the_distribution_of_the_model(model: Transformer) -> None:
    """Of the second token after the prompt, which a proposal was accepted or refused for, over many seeds."""
    draft, draws = wild(6), 400
    counts_V, first_V = torch.zeros(ARCH.vocab_size, dtype=torch.float64), Sampler(temperature=1.0)
    for seed in range(draws):
        sampler = Sampler(temperature=1.0, seed=seed)
        made = Speculation(model, draft, PROMPT, proposals=2, max_new_tokens=1, sampler=sampler)
        made._proposals = made._steps = 2  # a whole round, of which the first token counts
        counts_V[next(iter(made))] += 1
    wanted_V = first_V.probabilities(model(torch.tensor([PROMPT]))[0, -1])
    errors_V = (counts_V / draws - wanted_V) / (wanted_V * (1 - wanted_V) / draws).sqrt().clamp(min=1 / draws)
    assert float(errors_V.abs().max()) < 5
    assert float((counts_V / draws - wanted_V).abs().sum()) < 0.3


def test_it_ends_where_a_generation_would(model: Transformer, near: Transformer) -> None:
    greedy = Sampler(temperature=0.0)
    text = list(Generation(model, PROMPT, max_new_tokens=20, sampler=greedy))
    stop = text[7]
    made = Speculation(model, near, PROMPT, proposals=4, max_new_tokens=20, sampler=greedy, stop_ids=[stop])
    assert list(made) == text[: text.index(stop)]
    assert made.finish_reason == "stop"
    full = Speculation(model, near, PROMPT, proposals=4, max_new_tokens=99, sampler=greedy)
    assert len(list(full)) == ARCH.max_positions - len(PROMPT) + 1
    assert full.finish_reason == "context"
    allowed = Speculation(model, near, PROMPT, proposals=3, max_new_tokens=20, sampler=greedy, vocab_size=10)
    assert max(allowed) < 10


def test_what_cannot_be_is_refused(model: Transformer) -> None:
    options = {"proposals": 2, "max_new_tokens": 9, "sampler": Sampler(temperature=0.0)}
    with pytest.raises(InputError, match="vocabulary of the model that it proposes to, 40 ids; got 41"):
        Speculation(model, wild(1, ARCH.replace(vocab_size=41)), PROMPT, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sliding window of 6 tokens"):
        Speculation(model, wild(1, ARCH.replace(window=6)), PROMPT, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="proposals must be at least 1; got 0"):
        Speculation(model, model, PROMPT, **options | {"proposals": 0})  # type: ignore[arg-type]
