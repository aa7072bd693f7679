"""Drafts, continuous batches and reused prefixes: what is run is what is predicted, and the numbers are real ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from experiments import continuous_batch, prefix_reuse, speculative
from experiments.common.padded import padded
from llamalab.analytic.speculation import acceptance_of, replayed, speed_up, tokens_of_round
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.model import RaggedKVCache, StaticKVCache, Transformer, build
from llamalab.model.kv_cache.prefix import forked
from llamalab.text.generate import together
from llamalab.text.sampling import Sampler
from llamalab.text.speculative import Speculation
from tests.model.shrunk import ARCHES, small_model, some_tokens

ARCH = LlamaArch(32, 2, 4, 2, 48, 64)


class FlatPrices:
    """A pass costs one second and one more for each sequence whose attention is a call of its own."""

    arch = ARCH

    def pass_s(self, new: int, context: object, *, batch: int = 1, logits: str = "last") -> float:
        return 1.0

    def row_by_row_s(self, contexts: Sequence[int]) -> float:
        return 1.0 + len(contexts)

    def copy_s(self, moved_bytes: int, calls: int) -> float:
        return 0.5


def test_a_round_gives_what_acceptance_says() -> None:
    generator = torch.Generator().manual_seed(0)
    kept = (torch.rand(20000, 5, generator=generator) < 0.7).double().cumprod(1).sum(1).mean()
    assert tokens_of_round(0.7, 5) == pytest.approx(float(kept) + 1, rel=0.01)
    assert acceptance_of(tokens_of_round(0.35, 5) - 1, 5) == pytest.approx(0.35)
    assert speed_up(0.0, 3, step_s=2.0, draft_s=1.0, verify_s=2.0) == pytest.approx(2 / 5)
    with pytest.raises(InputError, match="acceptance must be a probability"):
        tokens_of_round(1.5, 2)
    with pytest.raises(InputError, match="between 0 and the 4 proposals"):
        acceptance_of(4.5, 4)


@pytest.mark.parametrize("name", ["MHA", "GQA"])
def test_a_padded_model_is_the_same_function_at_a_larger_size(name: str) -> None:
    small = small_model(ARCHES[name])
    large = padded(small, dim=3 * small.arch.dim, ffn_dim=small.arch.ffn_dim + 5, layers=4, dtype="fp32")
    assert large.arch.dim == 3 * small.arch.dim
    torch.testing.assert_close(large(some_tokens(2, 9)), small(some_tokens(2, 9)), rtol=0, atol=2e-5)
    with pytest.raises(InputError, match="whole times"):
        padded(small, dim=small.arch.dim + 1, ffn_dim=small.arch.ffn_dim, layers=4, dtype="fp32")


def test_the_passes_that_are_priced_are_those_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    requests, ran = continuous_batch.requests_of(5), []
    requests = [one._replace(prompt=one.prompt // 16, tokens=1 + one.tokens // 16) for one in requests]
    model = build(ARCH, dtype="bf16")
    forward = Transformer.forward

    def noted(self: Transformer, tokens_BT: torch.Tensor, *, cache: object, logits: str) -> torch.Tensor:
        lengths = cache.length if isinstance(cache, RaggedKVCache) else (cache.length,)  # type: ignore[attr-defined]
        new = tokens_BT.shape[1]
        ran.append(continuous_batch.Step(new, tuple(length + new for length in lengths)))
        return forward(self, tokens_BT, cache=cache, logits=logits)  # type: ignore[arg-type]

    monkeypatch.setattr(Transformer, "forward", noted)
    for own_caches in (False, True):
        ran.clear()
        list(together(continuous_batch.generations(model, requests, own_caches=own_caches), at_once=3))
        expected = continuous_batch.passes(requests, 3)
        assert [(step.new, sorted(step.contexts)) for step in ran] == [
            (step.new, sorted(step.contexts)) for step in expected
        ]


def test_the_batch_and_the_prefix_answer_in_words_and_numbers(tmp_path: Path) -> None:
    out = tmp_path / "batch.json"
    options = ["--requests", "3", "--at-once", "2", "--rounds", "1", "--out", str(out)]
    continuous_batch.main(options, ARCH, FlatPrices)  # type: ignore[arg-type]
    answer = json.loads(out.read_text())
    assert answer["samples_s"].keys() == answer["predicted_s"].keys() == set(continuous_batch.WAYS)
    assert "3 requests" in answer["conclusion"]
    out = tmp_path / "prefix.json"
    options = ["--prefix", "12", "--suffix", "3", "--texts", "2", "--rounds", "1", "--out", str(out)]
    prefix_reuse.main(options, ARCH, FlatPrices)  # type: ignore[arg-type]
    answer = json.loads(out.read_text())
    assert answer["predicted_s"] == [2.0, 1.0 + 2 * 1.5]
    assert answer["largest_logit_error"] < 0.1


@pytest.mark.parametrize("name", ARCHES)
def test_a_fork_goes_on_from_what_was_read_and_leaves_it_as_it_was(name: str) -> None:
    model, tokens_BT = small_model(ARCHES[name]), some_tokens(1, 9)
    first = StaticKVCache(model.arch, batch=1, max_tokens=9, dtype="fp32")
    with torch.inference_mode():
        model(tokens_BT[:, :6], cache=first)
        before = [keys.clone() for keys in first.keys]
        made = model(tokens_BT[:, 6:], cache=forked(first, model.arch, 9))
        torch.testing.assert_close(made, model(tokens_BT)[:, 6:], rtol=0, atol=1e-5)
    for keys, unchanged in zip(first.keys, before, strict=True):
        assert torch.equal(keys, unchanged)
    assert first.length == 6
    with pytest.raises(InputError, match="room for the 6 tokens"):
        forked(first, model.arch, 5)


def test_drafts_are_raced_on_texts_that_acceptance_was_not_told_from() -> None:
    model = small_model(ARCHES["GQA"].replace(vocab_size=64))
    prompts = [[1, 2, 3], [4, 5, 6]]
    alone_s, runs = speculative.race(model, model, prompts, [2, 3], 10)
    assert len(alone_s) == len(prompts)
    for count, made in runs.items():
        assert made.equal
        assert len(made.drafted_s) == len(prompts)
        assert made.rounds
        assert all(one == (count, count) for one in made.rounds)  # it agrees with itself
    same = speculative.agreement(model, model, prompts, 5)
    assert same == [[True] * 5] * 2
    assert replayed(same, 2) == 2.0


def test_a_round_is_replayed_as_it_runs() -> None:
    model = small_model(ARCHES["GQA"].replace(vocab_size=8))
    draft = small_model(ARCHES["MHA"].replace(vocab_size=8))
    greedy = Sampler(temperature=0.0)
    for proposals in (2, 3):
        made = Speculation(model, draft, [1, 2, 3], proposals=proposals, max_new_tokens=60, sampler=greedy)
        list(made)
        kept = [one.accepted for one in made.rounds if one.proposed == proposals]
        assert 0 < sum(kept) < proposals * len(kept)
        told = replayed(speculative.agreement(model, draft, [[1, 2, 3]], 60), proposals)
        assert told == pytest.approx(sum(kept) / len(kept))
