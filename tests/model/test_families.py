"""Other families than Llama 2 against transformers: logits, inner tensors, caches, windows, stretched RoPE."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.arch import ON_DISK
from llamalab.arch.runnable import RUNS
from llamalab.instrument.points import points_of
from llamalab.instrument.taps import Capture
from llamalab.model import DynamicKVCache, StaticKVCache
from tests.model.families import FAMILIES, ORIGINAL, hf_twin
from tests.model.shrunk import small_model, some_tokens

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
BACKENDS = ("naive", "chunked", "tiled", "sdpa", "streamed", "mixed", "math", "flash")
PARTS = [14, 9, 1, 1, 6, 1, 1]  # of a text of 33 tokens: a prompt, chunks and steps, across every window
WINDOWED = [name for name, arch in FAMILIES.items() if arch.window is not None]


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def theirs_in_parts(twin: Any, tokens_BT: Tensor) -> Tensor:
    from transformers import DynamicCache

    cache = DynamicCache(config=twin.config)
    parts = [twin(part, past_key_values=cache, use_cache=True).logits for part in tokens_BT.split(PARTS, dim=1)]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_of_a_prompt_equal_transformers(kind: str) -> None:
    model, tokens = small_model(FAMILIES[kind]), some_tokens(3, 33)
    expected = hf_twin(model)(tokens, use_cache=False).logits
    assert tokens.shape[1] > ORIGINAL
    assert expected.std() > 0.3
    for backend in BACKENDS:
        ours = small_model(FAMILIES[kind], attention=backend)
        assert_same(ours(tokens), expected)
    if FAMILIES[kind].rope_scaling is not None:
        inside = tokens[:, : ORIGINAL - 3]
        assert_same(model(inside), hf_twin(model)(inside, use_cache=False).logits)


@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_through_a_cache_equal_transformers(kind: str) -> None:
    model, tokens = small_model(FAMILIES[kind]), some_tokens(3, 33)
    expected = theirs_in_parts(hf_twin(model), tokens)
    caches = (
        StaticKVCache(model.arch, batch=3, max_tokens=40, dtype="fp32"),
        DynamicKVCache(model.arch, batch=3, dtype="fp32"),
    )
    for cache in caches:
        ours = [model(part, cache=cache) for part in tokens.split(PARTS, dim=1)]
        assert_same(torch.cat(ours, dim=1), expected)
    assert caches[0].nbytes == kv_bytes(model.arch, seq=40, batch=3, dtype="fp32")


@pytest.mark.parametrize("kind", WINDOWED)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_attends_through_a_full_window(kind: str, backend: str) -> None:
    model, tokens = small_model(FAMILIES[kind], attention=backend), some_tokens(3, 33)
    cache = StaticKVCache(model.arch, batch=3, max_tokens=33, dtype="fp32")
    ours = [model(part, cache=cache) for part in tokens.split(PARTS, dim=1)]
    assert_same(torch.cat(ours, dim=1), model(tokens))


@pytest.mark.parametrize("kind", FAMILIES)
def test_taps_fire_and_hold_what_transformers_holds(kind: str) -> None:
    model, tokens = small_model(FAMILIES[kind]), some_tokens(3, 33)
    tap, twin = Capture("*"), hf_twin(model)
    normed: dict[str, Tensor] = {}
    for layer in range(3):
        for name in ("q_norm", "k_norm"):
            if model.arch.qk_norm:
                twin.model.layers[layer].self_attn.get_submodule(name).register_forward_hook(
                    lambda _, __, out, at=f"layers.{layer}.attention.{name}": normed.__setitem__(at, out)
                )
    model(tokens, tap=tap)
    expected = twin(tokens, use_cache=False, output_hidden_states=True, output_attentions=True)
    assert {name.replace(name.split(".")[1], "*") if name.startswith("layers.") else name for name in tap.tensors} == {
        point.name for point in points_of(model.arch)
    }
    for layer in range(3):
        assert_same(tap.tensors[f"layers.{layer}.resid_pre"], expected.hidden_states[layer])
        assert_same(tap.tensors[f"layers.{layer}.attention.pattern"], expected.attentions[layer])
    assert normed.keys() == {name for name in tap.tensors if name.endswith(("q_norm", "k_norm"))}
    for name, theirs in normed.items():
        halves = tap.tensors[name]
        assert_same(torch.cat((halves[..., 0::2], halves[..., 1::2]), dim=-1), theirs.transpose(1, 2))


def test_a_tap_on_a_full_window_sees_keys_in_order() -> None:
    model, tokens = small_model(FAMILIES["mistral, window shorter than the text"]), some_tokens(2, 33)
    cache, whole, step = StaticKVCache(model.arch, batch=2, max_tokens=33, dtype="fp32"), Capture("*"), Capture("*")
    model(tokens, tap=whole)
    model(tokens[:, :32], cache=cache)
    model(tokens[:, 32:], cache=cache, tap=step)
    name = "layers.1.attention.pattern"
    assert step.tensors[name].shape[-1] == 9
    assert_same(step.tensors[name], whole.tensors[name][..., -1:, -9:])


@pytest.mark.parametrize("kind", ["llama-3.1", "longrope", "mistral, window shorter than the text", "qwen3", "biases"])
def test_rows_of_a_ragged_cache_compute_what_they_would_alone(kind: str) -> None:
    from llamalab.model import RaggedKVCache

    model, tokens = small_model(FAMILIES[kind]), some_tokens(2, 30)
    rows = [StaticKVCache(model.arch, batch=1, max_tokens=33, dtype="fp32") for _ in range(2)]
    model(tokens[:1, :25], cache=rows[0])
    model(tokens[1:, :6], cache=rows[1])
    ours = model(torch.stack((tokens[0, 25:28], tokens[1, 6:9])), cache=RaggedKVCache(rows))
    alone = [StaticKVCache(model.arch, batch=1, max_tokens=33, dtype="fp32") for _ in range(2)]
    for row, (filled, cache) in enumerate(zip((25, 6), alone, strict=True)):
        model(tokens[row : row + 1, :filled], cache=cache)
        assert_same(ours[row : row + 1], model(tokens[row : row + 1, filled : filled + 3], cache=cache))


def test_the_families_have_every_field_that_the_model_runs() -> None:
    """Each is compared with transformers here, compiled, tapped, and as a fused step: a new field joins them."""
    tried = {name for arch in FAMILIES.values() for name in arch.beyond_llama_2}
    assert set(RUNS) - set(ON_DISK) <= tried
