"""Decode on the device: the tokens that plain generation makes, without a word to the host."""

import warnings

import pytest
import torch

import llamalab
from llamalab.errors import CacheOverflowError, InputError
from llamalab.model import StaticKVCache, Transformer
from llamalab.text.decode_loop import Choice, DecodeLoop
from tests.model.shrunk import ARCHES, small_model, some_tokens


@torch.no_grad()
def greedy(model: Transformer, tokens_BT: torch.Tensor, count: int) -> torch.Tensor:
    """The likeliest continuation, without any cache."""
    for _ in range(count):
        tokens_BT = torch.cat((tokens_BT, model(tokens_BT)[:, -1:].argmax(-1)), dim=1)
    return tokens_BT[:, -count:]


@pytest.mark.parametrize("kind", ["MHA", "GQA"])
def test_greedy_steps_are_the_likeliest_tokens(kind: str) -> None:
    model, prompt_BT = small_model(ARCHES[kind]), some_tokens(3, 5)
    loop = DecodeLoop(model, batch=3, max_tokens=11)
    for _ in range(2):  # the second time from the beginning
        first_B1 = loop.prefill(prompt_BT)
        made_BT = torch.cat((first_B1, loop.steps(4), loop.steps(2)), dim=1)
        assert torch.equal(made_BT, greedy(model, prompt_BT, 7))
        assert loop.cache.length == 11


# Who loads inductor is told so by torch itself.
of_torch_itself = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


@pytest.mark.cuda
@of_torch_itself
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_replayed_graphs_make_the_tokens_that_plain_steps_make(compiled: bool) -> None:
    model = llamalab.build(ARCHES["GQA"], dtype="fp32", device="cuda")
    prompt_BT = some_tokens(3, 5).cuda()
    expected = greedy(model, prompt_BT, 400)
    loop = DecodeLoop(llamalab.compile(model) if compiled else model, batch=3, max_tokens=404)
    made = torch.cat((loop.prefill(prompt_BT), loop.steps(399)), dim=1)
    assert torch.equal(made, expected)


@of_torch_itself
def test_the_compilers_word_on_fp32_fails_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 is meant where it is asked for: what inductor says of it on a GPU is no error, as other warnings are."""
    from torch._inductor.compile_fx import _warn_tf32_disabled

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    _warn_tf32_disabled()
    with pytest.raises(UserWarning):
        warnings.warn("another", UserWarning, stacklevel=1)


def test_room_is_checked_before_any_step() -> None:
    loop = DecodeLoop(small_model(ARCHES["MHA"]), batch=1, max_tokens=8)
    loop.prefill(some_tokens(1, 6))
    with pytest.raises(CacheOverflowError, match="3 steps must fit in the KV cache of 8; it holds 6"):
        loop.steps(3)
    assert loop.cache.length == 6


def test_the_cache_is_of_the_models_own_type() -> None:
    loop = DecodeLoop(llamalab.build("stories260k", dtype="bf16"), batch=1, max_tokens=8)
    assert isinstance(loop.cache, StaticKVCache)
    assert loop.cache.dtype == "bf16"


def test_draws_follow_the_probabilities_and_heed_top_k() -> None:
    torch.manual_seed(1)
    logits_BV = torch.tensor([[0.0, 1.0, 2.0, 3.0]]).expand(20_000, 4)
    drawn = Choice(temperature=2.0)(logits_BV)[:, 0].bincount(minlength=4) / 20_000
    torch.testing.assert_close(drawn, (logits_BV[0] / 2).softmax(-1), rtol=0, atol=0.015)
    kept = Choice(temperature=1.0, top_k=2)(logits_BV)[:, 0].bincount(minlength=4) / 20_000
    assert kept[:2].sum() == 0
    torch.testing.assert_close(kept[2:], torch.tensor([2.0, 3.0]).softmax(-1), rtol=0, atol=0.015)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}])
def test_a_choice_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="temperature must be at least 0 and top_k at least 1"):
        Choice(**wrong)  # type: ignore[arg-type]
