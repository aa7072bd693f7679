"""The Transformer of 2017 against torch.nn.Transformer: outputs with its weights, parameters, counted FLOPs."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llamalab.analytic.op import add_up
from llamalab.classic.costs import classic_ops, classic_params
from llamalab.classic.shape import ClassicArch
from llamalab.classic.torch_weights import from_torch
from llamalab.classic.transformer import ClassicTransformer
from llamalab.errors import FormatError, InputError

ARCHS = (
    ClassicArch(16, 4, 40, 2, 3, 11, 13, attention_bias=True, final_norms=True),
    ClassicArch(24, 2, 32, 1, 1, 9, 9, attention_bias=True, final_norms=True, norm_eps=1e-3, shared_embeddings=True),
)


def torchs(arch: ClassicArch) -> nn.Transformer:
    torch.manual_seed(1)
    return nn.Transformer(
        arch.dim, arch.n_heads, arch.n_encoder_layers, arch.n_decoder_layers, arch.ffn_dim, dropout=0.0,
        layer_norm_eps=arch.norm_eps, batch_first=True,
    )  # fmt: skip


def ours(arch: ClassicArch, theirs: nn.Transformer) -> ClassicTransformer:
    model = ClassicTransformer(arch, dropout=0.0)
    missing, unexpected = model.load_state_dict(from_torch(theirs.state_dict()), strict=False)
    assert all(name.endswith("embedding.weight") for name in missing)
    assert unexpected == []
    return model


def counted(call: Iterator[None] | object, *args: Tensor) -> int:
    # The counter does not know PyTorch's fused attention for CPUs; its math kernel are plain products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call(*args)  # type: ignore[operator]
    return int(counter.get_total_flops())


@pytest.mark.parametrize("arch", ARCHS)
def test_with_torchs_weights_it_says_what_torch_says(arch: ClassicArch) -> None:
    theirs = torchs(arch)
    model = ours(arch, theirs)
    source_BS, target_BT = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]]), torch.tensor([[1, 5, 6], [1, 3, 0]])
    got: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor) -> Tensor:
        got[name] = tensor
        return tensor

    model(source_BS, target_BT, tap=keep)
    # A row of padding's output is nobody's: torch and we need not agree on it.
    expected_BTD = theirs(
        got["encoder.embed"], got["decoder.embed"], tgt_mask=~torch.ones(3, 3, dtype=torch.bool).tril(),
        src_key_padding_mask=source_BS == 0, memory_key_padding_mask=source_BS == 0,
        tgt_key_padding_mask=target_BT == 0,
    )  # fmt: skip
    real = target_BT != 0
    torch.testing.assert_close(got["decoder.final_norm"][real], expected_BTD[real], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_parameters_are_torchs(arch: ClassicArch) -> None:
    params, model = classic_params(arch), ClassicTransformer(arch)
    assert sum(params.values()) == sum(weight.numel() for weight in model.parameters())
    assert sum(params.values()) - params["embeddings"] == sum(one.numel() for one in torchs(arch).parameters())


@pytest.mark.parametrize(
    "arch",
    [
        *ARCHS,
        ClassicArch(16, 4, 40, 2, 3, 11, 13),
        ClassicArch(16, 4, 40, 0, 3, 11, 13, final_norms=True),
        ClassicArch(16, 4, 40, 2, 0, 11, 13, attention_bias=True),
        ClassicArch(16, 4, 40, 3, 0, 13, 13, shared_embeddings=True),
    ],
)
def test_parameters_and_flops_are_those_of_the_model_that_runs(arch: ClassicArch) -> None:
    model = ClassicTransformer(arch)
    assert sum(classic_params(arch).values()) == sum(weight.numel() for weight in model.parameters())
    source_BS = torch.randint(3, 9, (2, 7)) if arch.n_encoder_layers else None
    target_BT = torch.randint(3, 9, (2, 5)) if arch.n_decoder_layers else None
    rows = classic_ops(
        arch, batch=2, source_tokens=7 if source_BS is not None else 0, target_tokens=5 if target_BT is not None else 0
    )
    assert add_up(rows).flops_full == counted(model, source_BS, target_BT)  # type: ignore[arg-type]


def test_flops_of_the_blocks_are_torchs() -> None:
    arch = ARCHS[0]
    rows = [op for op in classic_ops(arch, source_tokens=7, target_tokens=5, batch=2) if op.name != "output"]
    source_BSD, target_BTD = torch.randn(2, 7, arch.dim), torch.randn(2, 5, arch.dim)
    assert add_up(rows).flops_full == counted(torchs(arch), source_BSD, target_BTD)


def test_weights_of_another_model_are_refused() -> None:
    for name in ("layers.0.wq", "encoder.layers.0.norm9.weight", "encoder.layers.0.multihead.weight"):
        with pytest.raises(FormatError, match=r"must be those of torch\.nn\.Transformer"):
            from_torch({name: torch.zeros(3)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_encoder_layers": 0, "n_decoder_layers": 0}, "an encoder or a decoder"),
        ({"dim": 15}, "multiple of n_heads"),
        ({"dim": 3, "n_heads": 1}, "must be even"),
        ({"shared_embeddings": True}, "one vocabulary"),
        ({"ffn_dim": 0}, "ffn_dim of ClassicArch"),
        ({"n_decoder_layers": -1}, "n_decoder_layers of ClassicArch"),
    ],
)
def test_shapes_that_cannot_be_are_refused(change: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ARCHS[0].replace(**change)


@pytest.mark.parametrize(
    ("layers", "source", "target"), [((1, 1), True, False), ((1, 0), True, True), ((0, 1), True, True)]
)
def test_tokens_must_be_those_of_its_stacks(layers: tuple[int, int], source: bool, target: bool) -> None:
    model = ClassicTransformer(ClassicArch(8, 2, 16, *layers, 9, 9))
    tokens_BT = torch.ones(1, 2, dtype=torch.long)
    with pytest.raises(InputError, match="exactly where the model has that stack"):
        model(tokens_BT if source else None, tokens_BT if target else None)
