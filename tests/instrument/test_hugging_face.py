"""A LlamaForCausalLM as it is: each of our points is the same tensor there, and edits do the same."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from llamalab.errors import InputError
from llamalab.instrument.edits import ablate, patch, scale
from llamalab.instrument.points import ALWAYS as POINTS
from llamalab.instrument.taps import capture, edit
from llamalab.model import StaticKVCache
from tests.model.hf_reference import hf_model
from tests.model.shrunk import ARCHES, small_model, some_tokens

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
NAMES = [point.name.removeprefix("layers.*.") for point in POINTS]
# What exists only inside a function, or is used twice.
FIXED = [f"attention.{name}" for name in ("rot_q", "scores", "pattern")] + ["resid_mid"]


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def close(ours: Any, theirs: Any) -> None:
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def full_name(point: str, layer: int = 1) -> str:
    return next(p.name for p in POINTS if p.name in (point, f"layers.*.{point}")).replace("*", str(layer))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ARCHES)
def test_each_tap_is_the_same_tensor_in_transformers(kind: str, attention: str) -> None:
    model, ids = small_model(ARCHES[kind]), some_tokens(3, 19)
    reference = hf_model(model)
    reference.set_attn_implementation(attention)
    with capture(model, "*") as ours, capture(reference, "*") as theirs:
        model(ids)
        reference(ids)
    assert len(theirs) == 2 * 20 + 3
    close(ours, theirs)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_rows_and_patterns_are_those_that_transformers_computes(attention: str) -> None:
    """Against its own output_attentions, not our recomputation."""
    reference, ids = hf_model(small_model(ARCHES["GQA"])), some_tokens(3, 19)
    expected = reference(ids, output_attentions=True).attentions
    reference.set_attn_implementation(attention)
    with capture(reference, "*.pattern", tokens=[0, -1], heads=[2, 11]) as got:
        reference(ids)
    for layer, pattern in enumerate(expected):
        rows = pattern[:, [2, 11]][:, :, [0, -1]]
        torch.testing.assert_close(got[f"layers.{layer}.attention.pattern"], rows, rtol=0, atol=1e-5)


def test_decode_steps_see_the_cache() -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(3, 9)
    reference, cache = hf_model(model), StaticKVCache(model.arch, batch=3, max_tokens=9, dtype="fp32")
    model(ids[:, :8], cache=cache)
    held = reference(ids[:, :8], use_cache=True).past_key_values
    with capture(model, "*") as ours, capture(reference, "*") as theirs:
        model(ids[:, 8:], cache=cache)
        reference(ids[:, 8:], past_key_values=held)
    assert theirs["layers.1.attention.k_cache"].shape == (3, 4, 9, 10)
    close(ours, theirs)


@pytest.mark.parametrize("kind", ["rms", "histogram"])
def test_statistics_are_the_same(kind: str) -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(3, 9)
    reference = hf_model(model)
    with capture(model, "*.resid_*", reduce=kind) as ours, capture(reference, "*.resid_*", reduce=kind) as theirs:
        model(ids)
        reference(ids)
    if kind == "rms":
        close(ours, theirs)
    else:  # a value at the edge of a bin may fall to either side
        assert all((theirs[name] - ours[name]).abs().sum() <= 20 for name in ours)


def _reweigh(tensor: Tensor) -> Tensor:
    return tensor * torch.linspace(0.5, 1.5, tensor.shape[-1])


def in_place(tensor: Tensor) -> Tensor:
    tensor.data.mul_(torch.linspace(0.5, 1.5, tensor.shape[-1]))
    return tensor


@pytest.mark.parametrize("point", [name for name in NAMES if name not in FIXED])
def test_an_edit_does_the_same_in_both(point: str) -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(3, 9)
    reference, before = hf_model(model), model(ids)
    with edit(model, full_name(point), _reweigh), edit(reference, full_name(point), _reweigh):
        ours, theirs = model(ids), reference(ids).logits
    assert (ours - before).abs().max() > 1e-2
    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-5)


def test_heads_are_ablated_and_patched() -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(3, 9)
    reference = hf_model(model)
    with capture(model, "layers.0.attention.z") as other:
        model(some_tokens(3, 9).flip(1))
    for function in (ablate([1, 2]), patch(other["layers.0.attention.z"], tokens=-1, heads=5)):
        with edit(model, "layers.0.attention.z", function), edit(reference, "layers.0.attention.z", function):
            torch.testing.assert_close(reference(ids).logits, model(ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("point", FIXED[:-1])
def test_a_change_in_place_of_what_no_module_takes_in_is_refused(point: str) -> None:
    """Seen by value: neither the tensor's identity nor its version tells."""
    reference = hf_model(small_model(ARCHES["GQA"]))
    with edit(reference, full_name(point), in_place), pytest.raises(InputError, match="must not be replaced"):
        reference(some_tokens(3, 9))
    with edit(reference, full_name(point), lambda tensor: tensor):
        reference(some_tokens(3, 9))


@pytest.mark.parametrize("point", [name for name in NAMES if name not in FIXED[:-1]])
def test_an_edit_in_place_does_the_same_in_both(point: str) -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(3, 9)
    reference, before = hf_model(model), model(ids)
    with edit(model, full_name(point), in_place), edit(reference, full_name(point), in_place):
        ours, theirs = model(ids), reference(ids).logits
    assert (ours - before).abs().max() > 1e-2
    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-5)


@pytest.mark.parametrize("point", FIXED)
def test_what_no_module_takes_in_is_not_replaced_silently(point: str) -> None:
    reference = hf_model(small_model(ARCHES["GQA"]))
    with edit(reference, full_name(point), scale(0.5)), pytest.raises(InputError, match="must not be replaced"):
        reference(some_tokens(3, 9))


def test_the_model_is_left_as_it_was() -> None:
    reference = hf_model(small_model(ARCHES["GQA"]))
    with capture(reference, "*"):
        assert any(module._forward_hooks for module in reference.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in reference.modules())
    assert "forward" not in vars(reference)


def test_a_compiled_model_is_tapped_too() -> None:
    """Late hooks would be lost in a compiled graph: it runs eagerly inside the block, and compiled again after it."""
    reference, ids = hf_model(small_model(ARCHES["GQA"])), some_tokens(3, 9)
    traced: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        traced.append(graph)
        return graph.forward

    compiled = torch.compile(reference, backend=backend)
    before, graphs = compiled(ids).logits, len(traced)
    with capture(reference, "logits") as got, edit(compiled, "layers.0.attention.z", ablate([1, 2])):
        edited = compiled(ids).logits
    assert torch.equal(got["logits"], edited)
    assert (edited - before).abs().max() > 1e-3
    torch.testing.assert_close(compiled(ids).logits, before)
    assert len(traced) == graphs > 0


def test_an_edit_of_an_outer_block_reaches_what_an_inner_one_sees() -> None:
    """Nested blocks are one stack: what is computed again is computed from edited queries."""
    model, ids = small_model(ARCHES["GQA"]), some_tokens(3, 9)
    reference, name = hf_model(model), "layers.1.attention.pattern"
    for one in (model, reference):
        with capture(one, name) as outer, edit(one, "layers.1.attention.q", scale(3.0)), capture(one, name) as inner:
            one(ids)
        assert torch.equal(outer[name], inner[name])
    with edit(model, "layers.1.attention.q", scale(3.0)), capture(model, name) as ours:
        model(ids)
    torch.testing.assert_close(inner[name], ours[name], rtol=0, atol=1e-5)
