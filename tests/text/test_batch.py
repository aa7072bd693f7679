"""Batches, log-probabilities, and what the reference implementation is known to get wrong."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

import llamalab
from llamalab.errors import InputError
from llamalab.model import StaticKVCache, Transformer
from llamalab.text import decode
from llamalab.text.batch import stream_texts
from llamalab.text.generate import Generation, together
from llamalab.text.sampling import Sampler
from tests.text.test_stream import BYTES

ARCH = llamalab.LlamaArch(24, 3, 6, 2, 20, BYTES.vocab_size, max_positions=24)
EOS = BYTES.eos_id
PROMPTS = [[257, 5, 30, 9], [257], [257, *range(97, 112)], [257, 200, 200]]


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(5)
    model = llamalab.build(ARCH, dtype="fp32")
    with torch.no_grad():  # wide weights, so that the text does not settle on one token
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3 + (weight.dim() == 1))
    return model


def rows(
    model: Transformer, prompts: Sequence[Sequence[int]] = PROMPTS, seed: int = 0, **options: Any
) -> list[Generation]:
    options = {"max_new_tokens": 7} | options
    samplers = [Sampler(temperature=1.2, top_p=0.95, repetition_penalty=1.1, seed=seed) for _ in prompts]
    return [Generation(model, ids, sampler=own, **options) for ids, own in zip(prompts, samplers, strict=True)]


def full_logprobs(model: Transformer, ids: Sequence[int]) -> list[float]:
    """Of every token but the first, by one pass over all of them for each: no cache, no shift to get wrong."""
    found = []
    for at in range(1, len(ids)):
        logits_V = model(torch.tensor([ids[:at]]))[0, -1].detach().double()
        found.append(float((logits_V - logits_V.logsumexp(0))[ids[at]]))
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_a_ragged_batch_is_each_prompt_alone(model: Transformer, seed: int) -> None:
    # 15 tokens of prompt leave room for 9 new ones: that row meets the context's end, others the length.
    batch, alone = rows(model, seed=seed, max_new_tokens=12), rows(model, seed=seed, max_new_tokens=12)
    order = [row for row, _ in together(batch)]
    for together_, own in zip(batch, alone, strict=True):
        assert together_.ids == list(own)
        assert together_.finish_reason == own.finish_reason
        assert together_.logprobs == pytest.approx(own.logprobs, abs=1e-5)
    assert [generation.finish_reason for generation in batch] == ["length", "length", "context", "length"]
    assert order[:8] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert len(set(map(tuple, (generation.ids for generation in batch)))) == 4


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_a_row_that_waits_takes_the_place_of_one_that_ended(model: Transformer, at_once: int) -> None:
    lengths = (2, 7, 4, 1)
    batch, alone = (
        [rows(model, [prompt], max_new_tokens=most)[0] for prompt, most in zip(PROMPTS, lengths, strict=True)]
        for _ in range(2)
    )
    order = [row for row, _ in together(batch, at_once=at_once)]
    assert [one.ids for one in batch] == [list(one) for one in alone]
    first = {row: order.index(row) for row in range(4)}
    assert first[3] > max(first[0], first[1], first[2])
    if at_once == 2:
        assert order[:4] == [0, 1, 0, 1]  # the first has its two tokens
        assert order[4] == 2
    homes = {id(one.cache.home[0]) if one.cache.home else None for one in batch}
    assert homes == {None} if at_once == 1 else len(homes) == 1


def test_rows_that_share_no_length_keep_caches_of_their_own(model: Transformer) -> None:
    batch = [rows(model, [[257]], max_new_tokens=most)[0] for most in (24, 1, 1, 1)]
    assert [len(one.ids) for one in batch if list(together([one]))] == [24, 1, 1, 1]
    batch = [rows(model, [[257]], max_new_tokens=most)[0] for most in (24, 1, 1, 1)]
    list(together(batch))
    assert all(one.cache.home is None for one in batch)


def test_a_row_that_stops_leaves_and_the_others_go_on(model: Transformer) -> None:
    free = rows(model)
    list(together(free))
    stop = free[0].ids[2]
    batch, alone = rows(model, stop_ids=(stop,)), rows(model, stop_ids=(stop,))
    list(together(batch))
    for row, own in zip(batch, alone, strict=True):
        assert (row.ids, row.finish_reason) == (list(own), own.finish_reason)
    assert batch[0].ids == free[0].ids[: free[0].ids.index(stop)]
    assert "length" in {row.finish_reason for row in batch}


def test_decoding_is_one_pass_for_all_rows(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, forward = [], model.forward
    monkeypatch.setattr(
        model,
        "forward",
        lambda tokens_BT, **options: shapes.append(tuple(tokens_BT.shape)) or forward(tokens_BT, **options),
    )
    list(together(rows(model, max_new_tokens=3)))
    assert shapes == [(1, 4), (1, 1), (1, 16), (1, 3), (4, 1), (4, 1)]


def test_what_is_no_batch_is_refused(model: Transformer) -> None:
    with pytest.raises(InputError, match="at least one prompt; got none"):
        list(together([]))
    sampler = Sampler()
    shared = [Generation(model, [1], max_new_tokens=2, sampler=sampler) for _ in range(2)]
    with pytest.raises(InputError, match="a sampler and a cache of its own"):
        list(together(shared))
    other = llamalab.build(ARCH, dtype="fp32")
    with pytest.raises(InputError, match="of one model"):
        list(together([rows(model)[0], rows(other)[0]]))


def test_log_probabilities_are_those_of_full_passes(model: Transformer) -> None:
    batch = rows(model, score_prompt=True)
    list(together(batch))
    for generation in batch:
        expected = full_logprobs(model, [*generation.prompt_ids, *generation.ids])
        assert [*generation.prompt_logprobs, *generation.logprobs] == pytest.approx(expected, abs=1e-5)
        assert len(generation.prompt_logprobs) == len(generation.prompt_ids) - 1


def test_log_probabilities_do_not_depend_on_how_tokens_are_chosen(model: Transformer) -> None:
    greedy = Generation(model, PROMPTS[0], max_new_tokens=1, sampler=Sampler(temperature=0.0, repetition_penalty=1.5))
    drawn = Generation(
        model, PROMPTS[0], max_new_tokens=1, sampler=Sampler(temperature=0.01, top_k=1, repetition_penalty=1.5)
    )
    assert list(greedy) == list(drawn)
    assert greedy.logprobs == drawn.logprobs


@pytest.mark.parametrize("stored", [0, 1, 3])
def test_a_cache_that_holds_the_beginning_changes_nothing(model: Transformer, stored: int) -> None:
    cache = StaticKVCache(ARCH, batch=1, max_tokens=24, dtype="fp32")
    if stored:
        model(torch.tensor([PROMPTS[0][:stored]]), cache=cache)
    [own], [reused] = rows(model, PROMPTS[:1]), rows(model, PROMPTS[:1], cache=cache)
    assert list(own) == list(reused)
    assert cache.length == len(PROMPTS[0]) + 7 - 1
    with pytest.raises(InputError, match="a cache must hold less than the prompt"):
        rows(model, PROMPTS[:1], cache=cache)


def test_padding_of_the_embedding_is_never_chosen(model: Transformer) -> None:
    free, cut = (Generation(model, PROMPTS[0], max_new_tokens=9, sampler=Sampler(temperature=9.0), vocab_size=size)
                 for size in (None, 50))  # fmt: skip
    assert max(list(free)) >= 50
    assert max(list(cut)) < 50


def test_stop_strings_end_their_row_only(model: Transformer) -> None:
    prompts = [[257, 65, 66], [257, 67]]
    free = rows(model, prompts, seed=2)
    list(together(free))
    texts = [bytes(token_id for token_id in g.ids if token_id < 256).decode("utf-8", "replace") for g in free]
    stop = next(text for text in (texts[0][at : at + 2] for at in range(len(texts[0]) - 1)) if text not in texts[1])
    batch = rows(model, prompts, seed=2)
    made = ["", ""]
    for row, text in stream_texts(BYTES, batch, stops=[stop]):
        made[row] += text
    assert made == [texts[0][: texts[0].index(stop)], texts[1]]
    assert [generation.finish_reason for generation in batch] == ["stop", "length"]
    assert len(batch[0].ids) < len(free[0].ids)


def test_a_checkpoints_own_stop_strings_end_its_texts(model: Transformer) -> None:
    [free] = rows(model, [PROMPTS[0]])
    text = decode(BYTES, list(free))
    stop = text[2:4]
    tokenizer = BYTES.with_settings(BYTES.settings._replace(stop_strings=(stop,)))
    [made] = rows(model, [PROMPTS[0]])
    assert "".join(text for _, text in stream_texts(tokenizer, [made])) == text[: text.index(stop)]
    assert made.finish_reason == "stop"


# What follows are the five faults of meta-llama/llama 689c7f2, generation.py and model.py, one by one.


def test_fault_1_a_prompt_that_fills_the_context_is_scored_at_the_right_places(model: Transformer) -> None:
    prompt = [257, *range(60, 83)]
    assert len(prompt) == ARCH.max_positions
    [full] = rows(model, [prompt], score_prompt=True)
    assert len(list(full)) == 1
    assert full.finish_reason == "context"
    expected = full_logprobs(model, [*prompt, *full.ids])
    assert [*full.prompt_logprobs, *full.logprobs] == pytest.approx(expected, abs=1e-5)


def test_fault_2_eos_in_an_echoed_prompt_cuts_nothing(model: Transformer) -> None:
    prompt = [257, 259, 65, EOS, 66, 67]
    batch = rows(model, [prompt], stop_ids=(EOS, 257))
    text = "".join(text for _, text in stream_texts(BYTES, batch, stops=["A"], echo=True))
    assert text.startswith("ABC")
    assert batch[0].prompt_ids == prompt
    assert batch[0].ids
    assert text == decode(BYTES, [*prompt, *batch[0].ids])


# Fault 3, a refused message that runs the model all the same: test_chat.test_marks_are_refused_before_any_work.


def test_fault_4_nothing_is_written_past_the_context(model: Transformer) -> None:
    [long] = rows(model, [PROMPTS[2]], max_new_tokens=1000)
    list(long)
    assert long.cache.length == long.cache.max_tokens == ARCH.max_positions
    assert len(long.prompt_ids) + len(long.ids) == ARCH.max_positions + 1
    with pytest.raises(InputError, match="must fit in the KV cache of 24"):
        model(torch.tensor([[1]]), cache=long.cache)


@pytest.mark.parametrize(("prompt", "message"), [([], "at least one token"), ([1] * 25, "at most 24 tokens")])
def test_fault_5_impossible_prompts_are_input_errors(model: Transformer, prompt: list[int], message: str) -> None:
    # The dialogs that end in an IndexError there: test_dialog.test_roles_and_their_order.
    with pytest.raises(InputError, match=message):
        rows(model, [prompt])
