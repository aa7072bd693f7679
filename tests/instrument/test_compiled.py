"""Taps and hooks of a compiled model: they fire, in a graph without breaks, or they raise; never neither."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from llamalab.instrument.edits import ablate
from llamalab.instrument.reduce import Reduce
from llamalab.instrument.taps import Capture, capture, edit
from llamalab.model import Transformer
from tests.model.shrunk import ARCHES, small_model, some_tokens

Compiled = tuple[Transformer, Callable[..., torch.Tensor], CompileCounter]
ARCH = ARCHES["GQA"].replace(n_layers=1)  # tracing is slow
WAYS = ["torch.compile(model)", "model.compile()", "block.compile()"]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Each test as in a process of its own, with torch's own default about hooks."""
    torch._dynamo.reset()
    torch._dynamo.config.skip_nnmodule_hook_guards = True
    with torch.no_grad():
        yield
    torch._dynamo.config.skip_nnmodule_hook_guards = True
    torch._dynamo.reset()


def compiled(way: str, *, attention: str = "sdpa") -> Compiled:
    """A small model that has been compiled and called; what to call; and how often it was traced."""
    model, counter = small_model(ARCH, attention=attention), CompileCounter()
    call: Callable[..., torch.Tensor] = model
    if way == "torch.compile(model)":
        call = torch.compile(model, backend=counter, fullgraph=True)
    elif way == "model.compile()":
        model.compile(backend=counter, fullgraph=True)
    else:
        for block in model.layers:
            block.compile(backend=counter, fullgraph=True)
    call(some_tokens(2, 5))
    assert counter.frame_count > 0
    return model, call, counter


@pytest.mark.parametrize("way", WAYS)
def test_a_late_tap_fires(way: str) -> None:
    model, call, _ = compiled(way)
    plain = small_model(ARCH)
    with capture(plain, "*") as expected:
        plain(some_tokens(2, 5))
    with capture(model, "*") as got:
        call(some_tokens(2, 5))
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-5)
    got.clear()
    call(some_tokens(2, 5))
    assert not got  # and when the block is over, it does not


@pytest.mark.parametrize("way", WAYS)
def test_a_late_edit_fires(way: str) -> None:
    model, call, _ = compiled(way)
    before = call(some_tokens(2, 5))
    with edit(model, "layers.0.attention.z", ablate(3)):
        edited = call(some_tokens(2, 5))
    assert (edited - before).abs().max() > 1e-3
    torch.testing.assert_close(call(some_tokens(2, 5)), before)


def test_the_compiled_model_itself_can_be_tapped() -> None:
    _, call, _ = compiled("torch.compile(model)")
    assert isinstance(call, nn.Module)
    with capture(call, "layers.0.resid_post") as got:
        call(some_tokens(2, 5))
    assert got["layers.0.resid_post"].shape == (2, 5, 120)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("path", "earlier"), [("layers.0.attention.wq", 0), ("layers.0.attention.wq", 1), ("norm", 0)])
def test_a_late_hook_fires_and_when_removed_no_more(way: str, path: str, earlier: int) -> None:
    """Without our guard most of these are lost without a word."""
    fired: list[str] = []
    model = small_model(ARCH)
    for _ in range(earlier):
        model.get_submodule(path).register_forward_hook(lambda *_: None)
    call: Any = torch.compile(model, backend="eager", fullgraph=True) if way == WAYS[0] else model
    if way == WAYS[1]:
        model.compile(backend="eager", fullgraph=True)
    elif way == WAYS[2]:
        for block in model.layers:
            block.compile(backend="eager", fullgraph=True)
    call(some_tokens(2, 5))
    handle = model.get_submodule(path).register_forward_hook(lambda *_: fired.append(path))
    call(some_tokens(2, 5))
    assert fired == [path]
    handle.remove()
    call(some_tokens(2, 5))
    assert fired == [path]


TAPS: dict[str, Callable[[Transformer], Any]] = {
    "capture": lambda model: Capture("*", n_layers=1),
    "rows of the pattern": lambda model: Capture("*.pattern", tokens=-1, heads=[1, 5], n_layers=1),
    "copies": lambda model: Capture("*.resid_post", copy=True, n_layers=1),
    "rms": lambda model: Reduce("*", kind="rms", model=model),
    "histogram": lambda model: Reduce("*.resid_post", kind="histogram", model=model),
    "entropy": lambda model: Reduce("*.pattern", kind="entropy", model=model),
}


@pytest.mark.parametrize("kind", TAPS)
def test_a_static_set_of_taps_breaks_no_graph(kind: str) -> None:
    model, counter = small_model(ARCH), CompileCounter()
    eager, tap = TAPS[kind](model), TAPS[kind](model)
    call = torch.compile(model, backend=counter, fullgraph=True)
    for _ in range(4):
        logits = call(some_tokens(2, 5), tap=tap)
        torch.testing.assert_close(logits, model(some_tokens(2, 5), tap=eager))
    # Once, and once more for buffers and results that the first pass made.
    assert counter.frame_count <= 2
    found, expected = (dict(one.tensors if isinstance(one, Capture) else one) for one in (tap, eager))
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=lambda text, n=name: f"{n}: {text}")


def test_dynamo_explains_that_there_is_no_break() -> None:
    model, tap = small_model(ARCH), Capture("*", n_layers=1)
    explained = torch._dynamo.explain(model)(some_tokens(2, 5), tap=tap)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


@pytest.mark.parametrize("way", WAYS)
def test_a_model_compiled_inside_the_block_forgets_the_tap_after_it(way: str) -> None:
    model, ids = small_model(ARCH), some_tokens(2, 5)
    before = model(ids)
    with edit(model, "layers.0.attention.z", ablate(3)), capture(model, "logits") as got:
        edited = model(ids)
        call: Any = torch.compile(model, backend="eager", fullgraph=True) if way == WAYS[0] else model
        if way == WAYS[1]:
            model.compile(backend="eager", fullgraph=True)
        elif way == WAYS[2]:
            for block in model.layers:
                block.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(call(ids), edited)
    got.clear()
    torch.testing.assert_close(call(ids), before)
    assert not got
