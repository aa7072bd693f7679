"""What Llama 2 replaced, as the experiments build it, against torch's and transformers' own."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from experiments.common.variants import FeedForwardVariant, with_feed_forward, with_layer_norm, with_post_norm
from experiments.feed_forward import KINDS, presets, shown_presets
from experiments.gqa_uptraining import pooled
from experiments.norms import entropy_of_tokens
from llamalab import LlamaArch, build
from llamalab.presets import PRESETS
from llamalab.train.token_stream import TokenStream

ARCH = LlamaArch(32, 2, 4, 4, 48, 40)
TOKENS_BT = torch.tensor([[3, 5, 7, 9, 2, 4], [1, 8, 6, 6, 0, 3]])


def test_post_norm_is_torchs_encoder_layer() -> None:
    """With LayerNorm, ReLU and no rotation nothing of Llama is left but the names."""
    torch.manual_seed(0)
    model = with_feed_forward(with_layer_norm(build(ARCH, dtype="fp32")), activation="relu", gated=False, ffn_dim=128)
    block = with_post_norm(model).layers[0]
    nn.init.normal_(block.attention_norm.weight, 1.0, 0.1)
    theirs = nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, layer_norm_eps=ARCH.norm_eps, batch_first=True)
    attention, wide = block.attention, block.feed_forward
    state = {
        "self_attn.in_proj_weight": torch.cat([attention.wq.weight, attention.wk.weight, attention.wv.weight]),
        "self_attn.out_proj.weight": attention.wo.weight,
        "linear1.weight": wide.w1.weight, "linear2.weight": wide.w2.weight,
        "norm1.weight": block.attention_norm.weight, "norm2.weight": block.ffn_norm.weight,
    }  # fmt: skip
    biases = {name: torch.zeros_like(one) for name, one in theirs.state_dict().items() if name not in state}
    theirs.load_state_dict(state | biases)
    x_BTD = torch.randn(2, 6, 32)
    mask_TT = nn.Transformer.generate_square_subsequent_mask(6)
    unturned_TP = torch.ones(6, ARCH.head_dim // 2, dtype=torch.complex64)
    torch.testing.assert_close(block(x_BTD, unturned_TP), theirs(x_BTD, src_mask=mask_TT, is_causal=True))


def test_post_norm_model_has_no_norm_at_its_end() -> None:
    model = with_post_norm(build(ARCH, dtype="fp32"))
    assert model(TOKENS_BT).shape == (2, 6, 40)
    assert sum(one.numel() for one in model.parameters()) == sum(
        one.numel() for one in build(ARCH, dtype="fp32").parameters()
    )


@pytest.mark.reference
@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.gated])
def test_gated_feed_forwards_are_those_of_transformers(kind: str) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    torch.manual_seed(0)
    ours = FeedForwardVariant(24, 64, KINDS[kind].activation, gated=True)
    config = LlamaConfig(hidden_size=24, intermediate_size=64, hidden_act=KINDS[kind].activation, num_attention_heads=2)
    theirs = LlamaMLP(config)
    names = {"gate_proj.weight": ours.w1, "up_proj.weight": ours.w3, "down_proj.weight": ours.w2}
    theirs.load_state_dict({name: module.weight for name, module in names.items() if module is not None})
    x_BTD = torch.randn(2, 5, 24)
    torch.testing.assert_close(ours(x_BTD), theirs(x_BTD))


def test_glu_is_torchs_glu() -> None:
    ours = FeedForwardVariant(24, 64, "sigmoid", gated=True)
    assert ours.w3 is not None
    x_BTD = torch.randn(2, 5, 24)
    torch.testing.assert_close(ours.inner(x_BTD), functional.glu(torch.cat((ours.w3(x_BTD), ours.w1(x_BTD)), dim=-1)))


@pytest.mark.parametrize(("kind", "module"), [("ReLU", nn.ReLU()), ("GELU", nn.GELU()), ("SiLU", nn.SiLU())])
def test_plain_feed_forwards_are_torchs(kind: str, module: nn.Module) -> None:
    ours = FeedForwardVariant(24, 96, KINDS[kind].activation, gated=False)
    x_BTD = torch.randn(2, 5, 24)
    torch.testing.assert_close(ours(x_BTD), nn.Sequential(ours.w1, module, ours.w2)(x_BTD))


@pytest.mark.parametrize("heads", [1, 2])
def test_pooled_heads_are_the_mean_that_every_head_of_a_group_would_have(heads: int) -> None:
    """The MHA model whose heads are all set to their group's mean says the same as the smaller one."""
    model = build(ARCH, dtype="fp32", seed=3)
    fewer = pooled(model, heads)
    with torch.no_grad():
        for layer in model.layers:
            for weight in (layer.attention.wk.weight, layer.attention.wv.weight):
                groups = weight.unflatten(0, (heads, 4 // heads, ARCH.head_dim))
                weight.copy_(groups.mean(1, keepdim=True).expand_as(groups).flatten(0, 2))
    torch.testing.assert_close(fewer(TOKENS_BT), model(TOKENS_BT))
    assert fewer.layers[0].attention.wk.weight.shape == (heads * ARCH.head_dim, 32)


def test_pooled_by_the_first_takes_the_first_of_each_group() -> None:
    model = build(ARCH, dtype="fp32", seed=3)
    rows = model.layers[0].attention.wk.weight.unflatten(0, (4, ARCH.head_dim))
    found = pooled(model, 2, "first").layers[0].attention.wk.weight.unflatten(0, (2, ARCH.head_dim))
    assert torch.equal(found, rows[[0, 2]])


def test_every_known_model_is_held_to_the_rule_of_widths(capsys: pytest.CaptureFixture[str]) -> None:
    table = {row["model"]: row for row in presets()}
    assert set(table) == set(PRESETS)
    assert (table["7b"]["multiple_of"], table["7b"]["factor"]) == (256, 1.0)
    assert (table["70b"]["multiple_of"], table["70b"]["factor"]) == (4096, 1.3)
    shown_presets(list(table.values()))
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in PRESETS)
    assert "10,922.7  11,008   2.69  256\n" in printed


def test_entropy_of_tokens_is_what_frequencies_alone_come_to() -> None:
    ids_N = torch.tensor([0, 0, 0, 1] * 50)
    expected = -(0.75 * torch.tensor(0.75).log() + 0.25 * torch.tensor(0.25).log())
    assert entropy_of_tokens(TokenStream(ids_N, ids_N)) == pytest.approx(float(expected), abs=0.02)
