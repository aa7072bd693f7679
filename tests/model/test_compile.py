"""llamalab.compile: faster, and nothing else changes. Inductor runs where there is a C++ compiler."""

import shutil
from collections.abc import Iterator

import pytest
import torch

import llamalab
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.edits import ablate
from llamalab.instrument.taps import capture, edit
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.compiled import warm_up
from tests.model.families import FAMILIES
from tests.model.shrunk import ARCHES, small_model, some_tokens

ARCH = ARCHES["GQA"]
SHALLOW = ARCH.replace(n_layers=1)  # compiling is slow
inductor = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
# Of torch's own: its compiler imports a module that uses a deprecated part of torch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"),
    pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators"),
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def chunked_pass(model: Transformer, sizes: tuple[int, ...]) -> torch.Tensor:
    """Logits of chunks through a cache, one behind the other."""
    cache = StaticKVCache(model.arch, batch=3, max_tokens=sum(sizes), dtype="fp32")
    tokens_BT = some_tokens(3, sum(sizes))
    return torch.cat([model(chunk, cache=cache) for chunk in tokens_BT.split(sizes, dim=1)], dim=1)


def test_scope_none_needs_no_compiler() -> None:
    plain, ready = small_model(ARCH), llamalab.compile(small_model(ARCH), scope="none")
    assert ready.backend.name == "chunked"
    torch.testing.assert_close(chunked_pass(ready, (5, 1, 1)), chunked_pass(plain, (5, 1, 1)), rtol=0, atol=1e-5)
    assert not any(layer._compiled_call_impl for layer in ready.layers)


def test_a_backend_that_was_chosen_stays() -> None:
    assert llamalab.compile(small_model(ARCH, attention="naive"), scope="none").backend.name == "naive"


@inductor
@pytest.mark.slow
@pytest.mark.parametrize("scope", ["block", "step"])
def test_a_compiled_model_computes_what_the_plain_one_computes(scope: str) -> None:
    plain, fast = small_model(SHALLOW), llamalab.compile(small_model(SHALLOW), scope=scope)
    torch.testing.assert_close(chunked_pass(fast, (5, 1, 1, 1)), chunked_pass(plain, (5, 1, 1, 1)), rtol=0, atol=1e-5)


EVERYTHING = FAMILIES["qwen3, biased"].replace(
    n_layers=2, window=7, full_layers=(1,), ffn_bias=True, rope_scaling=FAMILIES["llama-3.1"].rope_scaling
)
OTHERS = {"all at once": EVERYTHING, "longrope": FAMILIES["phi-4-mini"].replace(n_layers=1)}


BELOW_AND_BEYOND = (5, 1, 6, 1, 1, 9, 1)  # across the end of a window, and of the context that RoPE was first made for


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("backend", [None, "eager"])
def test_other_families_compute_the_same_chunk_by_chunk_when_compiled(kind: str, backend: str | None) -> None:
    """The graphs as they are traced; what Inductor makes of one costs up to half a minute."""
    plain, fast = small_model(OTHERS[kind]), llamalab.compile(small_model(OTHERS[kind]), scope="none")
    for layer in fast.layers if backend else ():
        layer.compile(backend=backend)
    expected = chunked_pass(plain, BELOW_AND_BEYOND)
    torch.testing.assert_close(chunked_pass(fast, BELOW_AND_BEYOND), expected, rtol=0, atol=1e-5)


@inductor
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scope", "sizes"),
    [("all at once", "block", (14, 1)), ("longrope", "block", (22, 1)), ("all at once", "step", (14, 1))],
)
def test_other_families_compute_the_same_under_inductor(kind: str, scope: str, sizes: tuple[int, ...]) -> None:
    """A prompt past the window or past the first context, and a step; each further size compiles anew."""
    plain, fast = small_model(OTHERS[kind]), llamalab.compile(small_model(OTHERS[kind]), scope=scope)
    torch.testing.assert_close(chunked_pass(fast, sizes), chunked_pass(plain, sizes), rtol=0, atol=1e-5)


def test_a_full_window_shares_its_graphs_at_all_positions() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    model = small_model(FAMILIES["mistral, window shorter than the text"])
    for layer in model.layers:
        layer.compile(backend=counter)
    cache = StaticKVCache(model.arch, batch=3, max_tokens=60, dtype="fp32")
    for size in (6, 1, 1, 1, 1, 1, 1):
        model(some_tokens(3, size), cache=cache)
    graphs = counter.frame_count
    for _ in range(6):
        model(some_tokens(3, 1), cache=cache)
    assert counter.frame_count == graphs


@inductor
@pytest.mark.slow
def test_late_taps_and_edits_fire_under_inductor() -> None:
    plain, fast = small_model(SHALLOW), llamalab.compile(small_model(SHALLOW))
    fast(some_tokens(3, 5))
    with capture(plain, "layers.0.attention.rot_q", "layers.*.ffn_out") as expected:
        plain(some_tokens(3, 5))
    with capture(fast, "layers.0.attention.rot_q", "layers.*.ffn_out") as got:
        fast(some_tokens(3, 5))
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-5)
    with edit(fast, "layers.0.attention.z", ablate(3)), edit(plain, "layers.0.attention.z", ablate(3)):
        torch.testing.assert_close(fast(some_tokens(3, 5)), plain(some_tokens(3, 5)), rtol=0, atol=1e-5)


def test_all_layers_and_positions_share_their_graphs() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    model = llamalab.compile(small_model(ARCH.replace(n_layers=5)), scope="none")
    for layer in model.layers:
        layer.compile(backend=counter)
    cache = StaticKVCache(model.arch, batch=3, max_tokens=40, dtype="fp32")
    for size, graphs in ((6, 1), (1, 2), (1, 2), (1, 2), (9, 3), (1, 3), (1, 3)):
        model(some_tokens(3, size), cache=cache)
        assert counter.frame_count == graphs


def test_warming_up_leaves_an_empty_cache_and_says_what_it_took() -> None:
    model = small_model(ARCH)
    cache = StaticKVCache(ARCH, batch=3, max_tokens=8, dtype="fp32")
    took = warm_up(model, cache, batch=3, prompt_tokens=5)
    assert cache.length == 0
    assert took.prefill_s > 0
    assert took.decode_s > 0


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be given a llamalab.Transformer; got Linear"):
        llamalab.compile(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="scope must be one of none, block, step; got 'blocks'"):
        llamalab.compile(small_model(ARCH), scope="blocks")
