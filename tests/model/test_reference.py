"""Logits and inner tensors against transformers, whole tensors, through the q/k permutation."""

from collections.abc import Iterator

import pytest
import torch

from llamalab.instrument.taps import Capture
from llamalab.model import StaticKVCache
from tests.model.hf_reference import hf_model
from tests.model.shrunk import ARCHES, small_model, some_tokens

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
ARCHES_AND_TIED = ARCHES | {"tied": ARCHES["GQA"].replace(tied_embeddings=True)}


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize("kind", ARCHES_AND_TIED)
def test_logits_equal_transformers(kind: str, attention: str) -> None:
    model = small_model(ARCHES_AND_TIED[kind], attention=attention)
    tokens = some_tokens(3, 19)
    expected = hf_model(model)(tokens).logits
    assert expected.std() > 0.5
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize("kind", ARCHES)
def test_logits_through_the_cache_equal_transformers(kind: str, attention: str) -> None:
    model = small_model(ARCHES[kind], attention=attention)
    tokens = some_tokens(3, 17)
    cache = StaticKVCache(model.arch, batch=3, max_tokens=17, dtype="fp32")
    parts = [model(part, cache=cache) for part in tokens.split([10, 4, 1, 1, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), hf_model(model)(tokens).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ARCHES)
def test_without_the_permutation_logits_differ(kind: str) -> None:
    model = small_model(ARCHES[kind])
    tokens = some_tokens(3, 19)
    assert (model(tokens) - hf_model(model, permute=False)(tokens).logits).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ARCHES)
def test_residual_stream_and_patterns_equal_transformers(kind: str) -> None:
    model = small_model(ARCHES[kind])
    tokens = some_tokens(3, 19)
    tap = Capture("*")
    model(tokens, tap=tap)
    expected = hf_model(model)(tokens, output_hidden_states=True, output_attentions=True)
    for layer in range(model.arch.n_layers):
        ours = tap.tensors[f"layers.{layer}.resid_pre"], tap.tensors[f"layers.{layer}.attention.pattern"]
        theirs = expected.hidden_states[layer], expected.attentions[layer]
        for tensor, reference in zip(ours, theirs, strict=True):
            torch.testing.assert_close(tensor, reference, rtol=0, atol=1e-5)
    torch.testing.assert_close(tap.tensors["final_norm"], expected.hidden_states[-1], rtol=0, atol=1e-5)
