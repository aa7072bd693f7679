"""Taps that keep and replace tensors: which points they choose, what they do there, and that they go again."""

from typing import Any

import pytest
import torch

import llamalab
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.bind import tapped
from llamalab.instrument.edits import scale
from llamalab.instrument.points import POINTS
from llamalab.instrument.taps import Capture, Edit, capture, edit
from llamalab.model import StaticKVCache
from llamalab.model.tap import Combined
from tests.model.shrunk import ARCHES, small_model, some_tokens

MODES = [torch.enable_grad, torch.no_grad, torch.inference_mode]


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (("logits",), ["logits"]),
        (("layers.1.resid_p*",), ["layers.1.resid_pre", "layers.1.resid_post"]),
        (("*.pattern", "embed"), ["embed", "layers.0.attention.pattern", "layers.1.attention.pattern"]),
        (("layers.[0].attention.?",), [f"layers.0.attention.{name}" for name in "qkvz"]),
    ],
)
def test_capture_keeps_what_its_patterns_name(patterns: tuple[str, ...], chosen: list[str]) -> None:
    model, every = small_model(ARCHES["GQA"]), {}
    model(some_tokens(2, 5), tap=lambda name, tensor: every.setdefault(name, tensor))
    with capture(model, *patterns) as got:
        model(some_tokens(2, 5))
    assert list(got) == chosen
    assert all(torch.equal(tensor, every[name]) for name, tensor in got.items())


@pytest.mark.parametrize("point", [point.name for point in POINTS])
def test_every_point_is_a_pattern(point: str) -> None:
    assert Capture(point).wants(point.replace("*", "17"))
    assert Capture(point.replace("*", "17")).wants(point.replace("*", "17"))


@pytest.mark.parametrize("pattern", ["layers.3.attention.query", "attention.q", "", "layers.1000.resid_pre"])
def test_a_pattern_that_can_match_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(UnknownNameError, match=r"a point must be one of embed, .* or a pattern that matches one"):
        Capture(pattern)


def test_a_layer_that_the_model_has_not_is_refused() -> None:
    model = small_model(ARCHES["GQA"])
    with pytest.raises(UnknownNameError, match="a point must be"), capture(model, "layers.2.resid_pre"):
        pass
    with pytest.raises(InputError, match="layers must be from 0 to 1; got 2"), capture(model, "*", layers=[0, 2]):
        pass


def test_no_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="at least one pattern; got none"):
        Capture()


def test_layers_are_a_set_and_leave_what_is_in_no_layer() -> None:
    model = small_model(ARCHES["GQA"])
    with capture(model, "embed", "*.resid_p*", layers={1}) as got:
        model(some_tokens(2, 5))
    assert list(got) == ["embed", "layers.1.resid_pre", "layers.1.resid_post"]


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize(
    ("tokens", "rows"), [(-1, [8]), (slice(2, 8, 3), [2, 5]), ([0, 7, 3], [0, 7, 3]), (None, [*range(9)])]
)
@pytest.mark.parametrize(("heads", "kept"), [(2, [2]), (slice(1, 3), [1, 2]), ([3, -4], [3, -4]), (None, slice(None))])
def test_tokens_and_heads_are_parts_of_the_whole(
    attention: str, tokens: Any, rows: list[int], heads: Any, kept: Any
) -> None:
    """Scores and pattern are recomputed for the asked rows and heads only; the rest are views or copies of rows."""
    model = small_model(ARCHES["GQA"], attention=attention)
    ids, whole, part = some_tokens(2, 9), Capture("*"), Capture("*", tokens=tokens, heads=heads)
    model(ids, tap=whole)
    model(ids, tap=part)
    assert set(part.tensors) == set(whole.tensors)
    for name, tensor in whole.tensors.items():
        expected = tensor if tensor.dim() == 3 else tensor[:, kept]
        expected = expected if name.endswith("_cache") else expected[..., rows, :]
        torch.testing.assert_close(part.tensors[name], expected, rtol=0, atol=1e-5, msg=lambda s, n=name: f"{n}: {s}")


def test_few_rows_cost_few_products() -> None:
    """One row of one head under fused attention: S products, and the whole score matrix is never made."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            largest = max(largest, out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    model, tap = small_model(ARCHES["GQA"]), Capture("*.pattern", tokens=-1, heads=4)
    with torch.no_grad(), Largest():
        model(some_tokens(1, 61), tap=tap)
    assert tap.tensors["layers.0.attention.pattern"].shape == (1, 1, 1, 61)
    assert largest < 12 * 61 * 61


@pytest.mark.parametrize("heads", [12, [0, -13]])
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_a_head_that_is_not_there_is_refused(heads: Any, attention: str) -> None:
    model = small_model(ARCHES["GQA"], attention=attention)
    with (
        capture(model, "*.pattern", heads=heads),
        pytest.raises(InputError, match=r"heads of .* must be below 12; got"),
    ):
        model(some_tokens(1, 4))


@pytest.mark.parametrize("mode", MODES)
def test_copies_go_into_buffers_that_are_used_again(mode: Any) -> None:
    model, first, second = small_model(ARCHES["GQA"]), some_tokens(2, 5), some_tokens(2, 5).flip(1)
    with mode():
        with capture(model, "*", copy=True) as got:
            model(first)
            places = {name: tensor.data_ptr() for name, tensor in got.items()}
            model(second)
            assert {name: tensor.data_ptr() for name, tensor in got.items()} == places
        with capture(model, "*") as expected:
            model(second)
        assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())
        assert not any(tensor.requires_grad for tensor in got.values())
        with capture(model, "logits", device="cpu") as kept:
            model(first)
            model(some_tokens(2, 4))  # another shape gets another buffer
    assert kept["logits"].shape == (2, 4, 97)
    kept["logits"].add_(1)  # also after inference mode it is an ordinary tensor


def test_capture_does_not_wake_what_it_does_not_want() -> None:
    tap = Capture("layers.0.attention.z")
    assert not tap.wants("layers.0.attention.scores")
    fired: list[str] = []

    class Spy(Capture):
        def __call__(self, name: str, tensor: torch.Tensor, /) -> torch.Tensor:
            fired.append(name)
            return super().__call__(name, tensor)

    small_model(ARCHES["GQA"])(some_tokens(2, 5), tap=Spy("layers.1.attention.pattern"))
    assert "layers.1.attention.scores" in fired
    assert "layers.0.attention.scores" not in fired


def test_combined_taps_take_turns() -> None:
    model, before, after = small_model(ARCHES["GQA"]), Capture("*.pattern"), Capture("*.pattern")
    double = Edit("layers.0.attention.pattern", lambda tensor: tensor * 2)
    combined = Combined(before, double, after)
    assert combined.wants("layers.1.attention.pattern")
    assert not combined.wants("layers.1.attention.scores")
    assert Combined(double, lambda name, tensor: tensor).wants("logits")
    logits = model(some_tokens(2, 5), tap=combined)
    name = "layers.0.attention.pattern"
    assert torch.equal(after.tensors[name], before.tensors[name] * 2)
    assert torch.equal(logits, model(some_tokens(2, 5), tap=double))
    assert not torch.equal(logits, model(some_tokens(2, 5)))


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_a_part_of_the_pattern_is_what_an_edit_makes_of_it(attention: str) -> None:
    """Edits before attention and edits of the pattern itself show in a recomputed row as in the whole."""
    model, ids = small_model(ARCHES["GQA"], attention=attention), some_tokens(2, 5)
    for edited in ("layers.1.attention.rot_q", "layers.1.attention.pattern"):
        name = "layers.1.attention.pattern"
        with (
            capture(model, name, tokens=3) as outer,
            edit(model, edited, scale(0.5)),
            capture(model, name, tokens=3) as inner,
        ):
            model(ids)
        with edit(model, edited, scale(0.5)), capture(model, "layers.1.attention.pattern") as whole:
            model(ids)
        row = whole["layers.1.attention.pattern"][:, :, 3:4]
        torch.testing.assert_close(inner["layers.1.attention.pattern"], row, rtol=0, atol=1e-5)
        factor = 0.5 if edited.endswith("pattern") else 1.0  # the outer one looks before the inner one edits
        torch.testing.assert_close(outer["layers.1.attention.pattern"] * factor, row, rtol=0, atol=1e-5)


def test_a_block_taps_every_pass_and_leaves_nothing_behind() -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(2, 5)
    before = dict(vars(model))
    cache = StaticKVCache(model.arch, batch=2, max_tokens=9, dtype="fp32")
    with capture(model, "layers.0.attention.k_cache", "logits") as got, torch.no_grad():
        model(some_tokens(2, 4), cache=cache)
        assert got["logits"].shape == (2, 4, 97)
        model(ids, cache=cache, logits="last")
    assert {name: tuple(tensor.shape) for name, tensor in got.items()} == {
        "layers.0.attention.k_cache": (2, 4, 9, 10),
        "logits": (2, 1, 97),
    }
    assert vars(model) == before
    model(ids)
    assert got["logits"].shape == (2, 1, 97)
    assert llamalab.capture is capture


def test_nested_blocks_and_a_tap_of_the_call_all_see_the_pass() -> None:
    model, own = small_model(ARCHES["GQA"]), Capture("embed")
    with capture(model, "embed") as outer, edit(model, "embed", scale(2.0)), capture(model, "embed") as inner:
        model(some_tokens(2, 5), tap=own)
    assert torch.equal(inner["embed"], 2 * outer["embed"])
    assert torch.equal(own.tensors["embed"], inner["embed"])


def test_a_failing_pass_takes_the_tap_off() -> None:
    model = small_model(ARCHES["GQA"])
    with pytest.raises(InputError, match="tokens must be ids"), capture(model, "embed"):
        model(some_tokens(2, 5) + 97)
    assert model.taps.tap is None


def test_blocks_may_end_in_any_order() -> None:
    """Each takes off its own tap and no other."""
    model, first, second = small_model(ARCHES["GQA"]), Capture("embed"), Capture("embed")
    outer, inner = tapped(model, first), tapped(model, second)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    model(some_tokens(2, 5))
    assert (list(first.tensors), list(second.tensors)) == ([], ["embed"])
    inner.__exit__(None, None, None)
    assert model.taps.tap is None


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be a llamalab.Transformer or a LlamaForCausalLM, .*; got Linear"):
        capture(torch.nn.Linear(2, 2), "embed").__enter__()


def test_reduce_takes_no_part() -> None:
    model = small_model(ARCHES["GQA"])
    with pytest.raises(InputError, match="reduce must be given without tokens"):
        capture(model, "embed", reduce="rms", tokens=-1).__enter__()


def test_ordinary_hooks_and_taps_work_side_by_side() -> None:
    model, seen = small_model(ARCHES["GQA"]), {}
    model.layers[1].attention.wq.register_forward_hook(lambda module, given, out: seen.update(wq=out))
    with capture(model, "layers.1.attention.q") as got:
        model(some_tokens(2, 5))
    q = got["layers.1.attention.q"]
    assert torch.equal(seen["wq"].view(2, 5, 12, 10).transpose(1, 2), q)


def test_who_looks_at_copies_waits_for_them_once_and_for_their_own_device(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    tap = Capture("embed", device="cpu")
    tap("embed", torch.ones(2))
    assert tap.tensors["embed"].shape == (2,)
    assert waited == []  # from a host nothing is on its way
    tap._behind = torch.empty(1, device="meta")  # stands for an accelerator's
    assert list(tap.tensors) == ["embed"]
    assert (waited, tap.tensors["embed"].tolist()) == ([torch.device("meta")], [1.0, 1.0])
    assert len(tap.tensors) == 1
    tap.tensors["embed"]
    assert waited == [torch.device("meta")]
