"""Models of the family in transformers as they are: points, patterns under the very masks and caches, edits.

Patterns are held against two things that are not ours: `output_attentions` of eager attention, and z, which a pattern
times the values must give under any implementation.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from llamalab.errors import InputError
from llamalab.instrument.points import POINTS
from llamalab.instrument.taps import capture, edit

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
transformers = pytest.importorskip("transformers")
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 97, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("Mistral", {"sliding_window": 4, "head_dim": 16}),
    "qwen2": ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "phi3": ("Phi3", {"rope_parameters": PARTIAL}),
}
FIXED = ("attention.rot_q", "attention.scores", "attention.pattern", "resid_mid")
IDS = torch.arange(1, 8)[None]
PADDED = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
LEAST = torch.finfo(torch.float32).min


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def family_model(kind: str, attention: str = "eager") -> Any:
    name, more = FAMILIES[kind]
    config = getattr(transformers, f"{name}Config")(**SIZES | more, attn_implementation=attention)
    torch.manual_seed(3)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    for weight in model.parameters():
        weight.normal_(std=0.2)
    return model


def warm(model: Any, cache: Any) -> dict[str, Any]:
    model(torch.arange(20, 32)[None], past_key_values=cache)
    return {"past_key_values": cache}


def dynamic(model: Any) -> Any:
    return transformers.DynamicCache(config=model.config)


def static(model: Any) -> Any:
    return transformers.StaticCache(config=model.config, max_cache_len=32)


def own_mask() -> Tensor:
    """A 4-D mask with holes, and a bias of its own at what is seen."""
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)
    hidden[3:, 1:3] = True
    return torch.linspace(-1, 1, 49).view(1, 1, 7, 7).masked_fill(hidden, LEAST)


CALLS: dict[str, Callable[[Any], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "plain": lambda model: ((IDS,), {}),
    "left padding by keyword": lambda model: ((IDS,), {"attention_mask": PADDED}),
    "left padding by position": lambda model: ((IDS, PADDED), {}),
    "right padding": lambda model: ((IDS,), {"attention_mask": PADDED.flip(1)}),
    "packed": lambda model: ((IDS,), {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3]])}),
    "4-D mask": lambda model: ((IDS,), {"attention_mask": own_mask()}),
    "static": lambda model: ((IDS,), {"past_key_values": static(model)}),
    "static, chunk": lambda model: ((IDS,), warm(model, static(model))),
    "static, step": lambda model: ((IDS[:, :1],), warm(model, static(model))),
    "dynamic, chunk": lambda model: ((IDS,), warm(model, dynamic(model))),
    "dynamic, step": lambda model: ((IDS[:, :1],), warm(model, dynamic(model))),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_patterns_are_those_that_the_model_used(kind: str, call: str) -> None:
    model, name = family_model(kind), "layers.{}.attention.{}"
    given, options = CALLS[call](model)
    theirs = model(*given, **options, output_attentions=True).attentions
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        given, options = CALLS[call](model)
        with capture(model, "*") as got, capture(model, "*.pattern", tokens=[0, -1], heads=[2, 5]) as rows:
            model(*given, **options)
        for layer, expected in enumerate(theirs):
            pattern = got[name.format(layer, "pattern")]
            seen = (got[name.format(layer, "scores")] > -torch.inf).any(-1)
            close(pattern[seen], expected[seen])  # what a query that sees nothing does differs between the two
            values = got[name.format(layer, "v_cache")].repeat_interleave(2, dim=1)
            close(pattern @ values, got[name.format(layer, "z")])
            close(rows[name.format(layer, "pattern")], pattern[:, [2, 5]][:, :, [0, -1]])
            if attention == "eager":
                close(pattern, expected)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", FAMILIES)
def test_looking_changes_nothing_and_an_edit_that_changes_nothing_neither(kind: str) -> None:
    """Also there and back between the orders of heads, and through the fused products of Phi-3."""
    model = family_model(kind, "sdpa")
    expected = model(IDS).logits
    with capture(model, "*"):
        assert torch.equal(model(IDS).logits, expected)
    for point in POINTS:
        if not point.name.endswith(FIXED):
            with edit(model, point.name, torch.clone):
                assert torch.equal(model(IDS).logits, expected), point.name


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_edit_reaches_the_logits(kind: str) -> None:
    model = family_model(kind)
    before = model(IDS).logits
    with capture(model, "layers.0.*", "embed", "final_norm", "logits") as fired:
        model(IDS)
    for name in fired:
        if not name.endswith(FIXED):
            with edit(model, name, lambda x: x * torch.linspace(0.5, 1.5, x.shape[-1])):
                assert (model(IDS).logits - before).abs().max() > 1e-3, name


@pytest.mark.parametrize("kind", FAMILIES)
def test_rotated_heads_are_those_that_go_into_the_cache(kind: str) -> None:
    """Scores are products of rot_q and k_cache, both in our order."""
    model = family_model(kind)
    with capture(model, "layers.1.attention.*") as got:
        model(IDS)
    q, k = got["layers.1.attention.rot_q"], got["layers.1.attention.k_cache"].repeat_interleave(2, dim=1)
    products, scores = q @ k.mT * q.shape[-1] ** -0.5, got["layers.1.attention.scores"]
    seen = scores > -torch.inf
    close(products[seen], scores[seen])
    close(got["layers.1.attention.rot_k"], got["layers.1.attention.k_cache"])


def test_the_first_position_is_not_turned() -> None:
    """q and rot_q have the same order of pairs: RoPE leaves position 0 as it is, with part of a head turned too."""
    model = family_model("phi3")
    with capture(model, "*.q", "*.k", "*.rot_q", "*.rot_k") as got:
        model(IDS)
    for head in "qk":
        plain, turned = got[f"layers.0.attention.{head}"], got[f"layers.0.attention.rot_{head}"]
        close(turned[:, :, 0], plain[:, :, 0])
        close(turned[..., 4:], plain[..., 4:])
        close(turned[..., :4].unflatten(-1, (2, 2)).norm(dim=-1), plain[..., :4].unflatten(-1, (2, 2)).norm(dim=-1))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_statistics_leave_padding_out_of_patterns(attention: str) -> None:
    model = family_model("llama", attention)
    with capture(model, "*.pattern", reduce="entropy") as padded:
        model(IDS, attention_mask=PADDED)
    with capture(model, "*.pattern", reduce="entropy") as alone:
        model(IDS[:, 3:])
    for name, entropy in alone.items():
        close(padded[name], entropy)


def test_what_cannot_be_told_is_refused() -> None:
    model = family_model("llama")
    model.config._attn_implementation = "flash_attention_2"
    with capture(model, "*.pattern"), pytest.raises(InputError, match="must come from eager or sdpa attention"):
        model.model.layers[0].self_attn(
            torch.zeros(1, 3, 64), position_embeddings=(torch.ones(1, 3, 8), torch.zeros(1, 3, 8)), attention_mask=None
        )
    model = family_model("llama", "eager").train()
    model.model.layers[0].self_attn.attention_dropout = 0.5
    with capture(model, "*.pattern"), pytest.raises(InputError, match="without attention dropout"):
        model(IDS)


def test_other_models_are_refused_by_name() -> None:
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9)
    with (
        pytest.raises(InputError, match=r"mistral, ministral, .*; got GPT2LMHeadModel of model_type 'gpt2'"),
        capture(transformers.GPT2LMHeadModel(config), "embed"),
    ):
        pass
