"""Taps that keep and replace tensors: which points they choose, and what they do there."""

import pytest
import torch

import llamalab
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.points import POINTS
from llamalab.instrument.taps import Capture, Combined, Edit, capture
from llamalab.model import StaticKVCache
from tests.model.shrunk import ARCHES, small_model, some_tokens


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
    model, tap, every = small_model(ARCHES["GQA"]), Capture(*patterns), {}
    model(some_tokens(2, 5), tap=lambda name, tensor: every.setdefault(name, tensor))
    model(some_tokens(2, 5), tap=tap)
    assert list(tap.tensors) == chosen
    assert all(torch.equal(tensor, every[name]) for name, tensor in tap.tensors.items())


@pytest.mark.parametrize("point", [point.name for point in POINTS])
def test_every_point_is_a_pattern(point: str) -> None:
    assert Capture(point).wants(point.replace("*", "17"))
    assert Capture(point.replace("*", "17")).wants(point.replace("*", "17"))


@pytest.mark.parametrize("pattern", ["layers.3.attention.query", "attention.q", "", "layers.1000.resid_pre"])
def test_a_pattern_that_can_match_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(UnknownNameError, match=r"a point must be one of embed, .* or a pattern that matches one"):
        Capture(pattern)


def test_no_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="at least one pattern; got none"):
        Capture()


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


def test_capture_in_one_call() -> None:
    model = small_model(ARCHES["GQA"])
    cache = StaticKVCache(model.arch, batch=2, max_tokens=9, dtype="fp32")
    capture(model, some_tokens(2, 4), "logits", cache=cache)
    kept = capture(model, some_tokens(2, 5), "layers.0.attention.k_cache", "logits", cache=cache, logits="last")
    assert {name: tuple(tensor.shape) for name, tensor in kept.items()} == {
        "layers.0.attention.k_cache": (2, 4, 9, 10),
        "logits": (2, 1, 97),
    }
    assert not kept["logits"].requires_grad
    assert llamalab.capture is capture
