"""Ablate, patch and scale: what the functions do to a tensor, and gradients through them."""

import pytest
import torch

from llamalab.errors import InputError
from llamalab.instrument.edits import ablate, patch, scale
from llamalab.instrument.taps import capture, edit
from tests.model.shrunk import ARCHES, small_model, some_tokens


def test_ablated_heads_are_zero_and_the_others_untouched() -> None:
    x = torch.randn(2, 5, 3, 4)
    y = ablate([1, -1])(x)
    assert torch.equal(y[:, [0, 2, 3]], x[:, [0, 2, 3]])
    assert y[:, [1, 4]].abs().sum() == 0
    with pytest.raises(InputError, match="where there are heads"):
        ablate(0)(x[0])
    with pytest.raises(InputError, match="heads must be below 5; got 5"):
        ablate(5)(x)


def test_patch_replaces_tokens_of_heads() -> None:
    x, value = torch.randn(2, 5, 7, 4), torch.randn(2, 5, 7, 4)
    y = patch(value, tokens=slice(2, 4), heads=3)(x)
    expected = x.clone()
    expected[:, 3, 2:4] = value[:, 3, 2:4]
    assert torch.equal(y, expected)
    assert torch.equal(patch(value)(x), value)
    with pytest.raises(InputError, match="shape of what it replaces"):
        patch(value[:1])(x)


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_patching_every_token_of_the_stream_carries_the_other_run_over(attention: str) -> None:
    model, clean, other = small_model(ARCHES["GQA"], attention=attention), some_tokens(2, 5), some_tokens(2, 5).flip(1)
    with torch.no_grad():
        with capture(model, "layers.0.resid_post", "logits") as source:
            model(other)
        with edit(model, "layers.0.resid_post", patch(source["layers.0.resid_post"])):
            assert torch.equal(model(clean), source["logits"])
        with edit(model, "layers.0.resid_post", patch(source["layers.0.resid_post"], tokens=-1)):
            partly = model(clean)
        assert torch.equal(partly[:, :-1], model(clean)[:, :-1])
        assert (partly[:, -1] - model(clean)[:, -1]).abs().max() > 1e-2


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize("point", ["q", "pattern", "z"])
def test_gradients_flow_through_edits(attention: str, point: str) -> None:
    """Through a head that is ablated nothing flows back; through the others it does."""
    model, factor = small_model(ARCHES["GQA"], attention=attention), torch.tensor(0.5, requires_grad=True)
    with edit(model, f"layers.1.attention.{point}", lambda x: ablate(0)(x) * factor):
        model(some_tokens(2, 5))[:, -1].logsumexp(-1).sum().backward()
    assert factor.grad is not None
    assert factor.grad.abs() > 0
    wq = model.layers[1].attention.wq.weight.grad.view(12, 10, 120)
    assert wq[0].abs().max() == 0
    assert (wq[1:].abs().amax((1, 2)) > 0).all()


def test_edits_of_chosen_layers() -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(2, 5)
    with edit(model, "*.attn_out", scale(0.0), layers=[1]), capture(model, "*.resid_*") as got:
        model(ids)
    assert torch.equal(got["layers.1.resid_pre"], got["layers.1.resid_mid"])
    assert not torch.equal(got["layers.0.resid_pre"], got["layers.0.resid_mid"])
