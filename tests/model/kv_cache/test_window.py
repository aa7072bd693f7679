"""A step whose position is a tensor computes what a step at a known position computes."""

import pytest
import torch

from llamalab.errors import InputError
from llamalab.model import StaticKVCache
from llamalab.model.kv_cache.window import WindowKVCache
from tests.model.shrunk import ARCHES, small_model, some_tokens


@pytest.mark.parametrize("kind", ["MHA", "GQA", "MQA"])
@pytest.mark.parametrize("window", [6, 9, 11])
@torch.no_grad()
def test_steps_in_a_window_equal_plain_steps(kind: str, window: int) -> None:
    model, tokens_BT = small_model(ARCHES[kind]), some_tokens(3, 6)
    plain, cache = (StaticKVCache(model.arch, batch=3, max_tokens=11, dtype="fp32") for _ in range(2))
    # What was there before must not be seen: neither the tokens of an earlier text nor anything else.
    model(some_tokens(3, 11), cache=cache)
    cache.rewind(0)
    for target in (plain, cache):
        model(tokens_BT[:, :4], cache=target)
    view, before = WindowKVCache(cache, window), model.backend
    for at in (4, 5):
        expected = model(tokens_BT[:, at : at + 1], cache=plain)
        view.position_1.fill_(at)
        with view.attended_by(model):
            got = model(tokens_BT[:, at : at + 1], cache=view)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert model.backend is before
    torch.testing.assert_close(cache.keys[1][:, :, :6], plain.keys[1][:, :, :6], rtol=0, atol=1e-5)


def test_more_than_one_token_is_refused() -> None:
    model = small_model(ARCHES["MHA"])
    view = WindowKVCache(StaticKVCache(model.arch, batch=1, max_tokens=8, dtype="fp32"), 8)
    with pytest.raises(InputError, match="one new token at a time; got 2"):
        model(some_tokens(1, 2), cache=view)


@torch.no_grad()
def test_a_step_turns_a_full_ring_as_plain_steps_do() -> None:
    model, tokens_BT = small_model(ARCHES["GQA"].replace(window=5, full_layers=(1,))), some_tokens(3, 15)
    plain, cache = (StaticKVCache(model.arch, batch=3, max_tokens=16, dtype="fp32") for _ in range(2))
    for target in (plain, cache):
        model(tokens_BT[:, :4], cache=target)
    for at in range(4, 15):
        expected = model(tokens_BT[:, at : at + 1], cache=plain)
        view = WindowKVCache(cache, 8 if at < 8 else 16)
        view.position_1.fill_(at)
        with view.attended_by(model):
            got = model(tokens_BT[:, at : at + 1], cache=view)
        cache.advance(1)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
