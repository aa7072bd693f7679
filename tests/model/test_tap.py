"""What a tap may return, and that an edit is told by its values, wherever the tap came from."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from llamalab.errors import InputError
from llamalab.instrument.taps import Capture, edit
from llamalab.model.tap import Combined, joined
from tests.model.hf_reference import hf_model
from tests.model.shrunk import ARCHES, small_model, some_tokens

WRONG: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "None": (lambda x: None, "must return a tensor; got NoneType"),
    "a number": (lambda x: 0.0, "must return a tensor; got float"),
    "an array": (lambda x: x.detach().numpy(), "must return a tensor; got ndarray"),
    "a shape that broadcasts": (lambda x: x[:1, ..., :1, :], r"must keep its shape, \(2, .*; got \(1, "),
    "a part": (lambda x: x[..., :-1], "must keep its shape"),
    "another dtype": (lambda x: x.double(), "must keep its dtype, torch.float32; got torch.float64"),
    "another device": (lambda x: x.to("meta"), "must keep its device, cpu; got meta"),
    "its own shape changed in place": (lambda x: x.squeeze_().unsqueeze_(0), "must keep its shape"),
}
POINTS = ["embed", "layers.0.attention.q", "layers.0.attention.pattern", "layers.1.attn_out", "logits"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("way", ["edit", "tap", "hugging face"])
def test_what_cannot_take_the_place_is_refused(way: str, kind: str, point: str) -> None:
    (function, message), ids = WRONG[kind], some_tokens(2, 5)
    model: Any = small_model(ARCHES["GQA"])
    if way == "hugging face":
        model = hf_model(model)
    given: dict[str, Any] = {}
    if way == "tap":
        given, point = {"tap": lambda name, x, at=point: function(x) if name == at else x}, "final_norm"
    edited = edit(model, point, (lambda x: x) if way == "tap" else function)
    with torch.no_grad(), edited, pytest.raises(InputError, match=message):
        model(ids, **given)


def in_place(tensor: Tensor) -> Tensor:
    tensor.data.mul_(torch.linspace(0.5, 1.5, tensor.shape[-1]))
    return tensor


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("point", ["q", "rot_q", "rot_k", "k_cache", "scores", "pattern", "z"])
def test_a_change_in_place_is_an_edit(point: str, mode: Any) -> None:
    """Beside fused attention as in naive, and like the same edit by a new tensor; no version of the tensor tells."""
    name, ids, found = f"layers.0.attention.{point}", some_tokens(2, 5), []
    for attention in ("naive", "sdpa"):
        model = small_model(ARCHES["GQA"], attention=attention)
        with mode():
            before = model(ids)
            for function in (in_place, lambda x: x * torch.linspace(0.5, 1.5, x.shape[-1])):
                with edit(model, name, function):
                    found.append(model(ids))
    assert (found[0] - before).abs().max() > 1e-3
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=0, atol=1e-5)


def test_a_tap_that_only_looks_leaves_fused_attention_as_it_is() -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(2, 5)
    with torch.no_grad():
        assert torch.equal(model(ids, tap=lambda name, tensor: tensor), model(ids))


def test_an_edit_by_nothing_still_carries_gradients() -> None:
    """An edit by a delta of zero has the values that were there, and is an edit all the same."""
    model, ids = small_model(ARCHES["GQA"]), some_tokens(2, 5)
    delta = torch.zeros(2, 12, 5, 5, requires_grad=True)
    with edit(model, "layers.0.attention.pattern", lambda x: x + delta):
        model(ids).logsumexp(-1).sum().backward()
    assert delta.grad is not None
    assert delta.grad.abs().max() > 0


def test_taps_are_joined_in_order_and_checked_once() -> None:
    look, change = Capture("embed"), lambda name, tensor: tensor
    assert joined(None, None) is None
    assert joined(look, None) is look
    assert joined(None, look) is look
    both = joined(look, change)
    assert isinstance(both, Combined)
    assert both.taps == (look, change)
    assert joined(None, both) is both
