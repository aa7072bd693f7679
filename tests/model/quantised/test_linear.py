"""Quantised layers: the product of the codes, whichever kernel runs; exact memory; a state dict as of any model."""

import pytest
import torch
from torch import nn

from llamalab import build, compile
from llamalab.analytic.kept_weights import kept_bytes, model_weight_bytes
from llamalab.arch import LlamaArch
from llamalab.errors import UnknownNameError
from llamalab.model.quantised import int8_rows, kleidi, nibbles, plain, products
from llamalab.model.quantised.codes import Codes, coded
from llamalab.model.quantised.kernel import Spot
from llamalab.model.quantised.linear import QuantisedLinear
from llamalab.model.quantised.weights import kept_of, quantise_weights, quantised_layers
from llamalab.units import QUANTISED, KeptWeights, group_in_row
from tests.model.shrunk import ARCHES, small_model, some_tokens

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SHAPES = [(128, 256), (80, 64), (172, 64), (48, 172), (7, 32)]  # whole blocks of rows, some rows over, no whole vectors
GROUPED = ARCHES["GQA"].replace(dim=96)
WIDE = LlamaArch(dim=64, n_layers=3, n_heads=4, n_kv_heads=2, ffn_dim=172, vocab_size=80)


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(shape[0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("storage", QUANTISED)
@pytest.mark.parametrize("only_plain", [False, True])
def test_the_product_is_that_of_the_codes(
    storage: str, dtype: str, only_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if only_plain:
        monkeypatch.setattr(products, "WEIGHT_KERNELS", (plain.WIDENED,))
    for shape in SHAPES:
        if group_in_row(storage, shape[1]) is None:
            continue
        codes = coded(values(*shape), storage)
        layer = QuantisedLinear.of(codes, storage, DTYPES[dtype])
        exact_OI = codes.widened(torch.float64)
        for rows in ((1,), (3, 1), (2, 40)):
            x = values(*rows, shape[1]).to(DTYPES[dtype])
            exact = x.double() @ exact_OI.T
            assert layer(x).shape == exact.shape
            error = (layer(x).double() - exact).abs().max()
            assert error <= 16 * exact.abs().max() * torch.finfo(DTYPES[dtype]).eps, (shape, rows, layer.kernel.name)


@pytest.mark.parametrize("bits", [4, 8])
def test_offsets_of_formats_with_zero_points_are_added(bits: int) -> None:
    codes = coded(values(64, 128), "q4_0" if bits == 4 else "q8_0")
    shifted = codes._replace(offsets=values(*codes.scales.shape))
    layer = QuantisedLinear.of(shifted, "q4_0", torch.float32)
    for rows in (1, 40):
        x = values(rows, 128)
        wanted = x.double() @ shifted.widened(torch.float64).T
        assert (layer(x).double() - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("storage", QUANTISED)
def test_bytes_are_those_of_the_formula(storage: str, dtype: str) -> None:
    model = compile(build(WIDE, dtype=dtype), scope="none", weight_dtype=storage)
    held = sum(weight.nbytes for weight in model.parameters())
    assert held == model_weight_bytes(WIDE, dtype, kept_of(model)) < model_weight_bytes(WIDE, dtype)
    for layer in quantised_layers(model):
        kept = KeptWeights(storage, layer.kernel.name)
        held = sum(part.nbytes for part in layer.parts)
        assert held == kept_bytes(layer.out_features, layer.in_features, dtype, kept)


@pytest.mark.parametrize("storage", QUANTISED)
def test_many_rows_and_one_by_one_give_the_same_logits(storage: str) -> None:
    model = small_model(GROUPED)
    quantise_weights(model, storage, kernel_rows=4)
    tokens = some_tokens(2, 9)
    with torch.no_grad():
        many = model(tokens)
        for layer in quantised_layers(model):
            layer.kernel_rows = 1 << 20
        torch.testing.assert_close(many, model(tokens), rtol=0, atol=1e-4)


def test_the_state_dict_is_that_of_a_plain_model_and_loads_again() -> None:
    plain_model, model = small_model(GROUPED), small_model(GROUPED)
    quantise_weights(model, "int8")
    state = model.state_dict()
    assert {name: weight.shape for name, weight in state.items()} == {
        name: weight.shape for name, weight in plain_model.state_dict().items()
    }
    other = small_model(GROUPED)
    quantise_weights(other, "int8")
    other.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(other(some_tokens(1, 5)), model(some_tokens(1, 5)), rtol=0, atol=1e-4)


def test_a_weight_that_layers_share_is_coded_once() -> None:
    model = build(ARCHES["MHA"].replace(n_layers=5), dtype="bf16", tie_blocks=2)
    quantise_weights(model, "int8")
    blocks = [layer.attention.wq.parts[0].data_ptr() for layer in model.layers]
    assert blocks == [blocks[0], blocks[1], blocks[0], blocks[1], blocks[0]]


def test_biases_stay_and_are_added() -> None:
    holder = nn.Sequential(nn.Linear(64, 32))
    x = values(3, 64)
    with torch.no_grad():
        wide = holder(x)
        quantise_weights(holder, "int8")
        assert type(holder[0]) is QuantisedLinear
        assert (holder(x) - wide).abs().max() < 0.02 * wide.abs().max()


def test_another_storage_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="int8"):
        quantise_weights(small_model(ARCHES["MHA"]), "int7")


def test_a_kernel_that_is_wrong_or_absent_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    spot = Spot(torch.device("cpu"), torch.float32, 8, 96, 64, 64)

    def wrong(x_MI: torch.Tensor, parts: tuple[torch.Tensor, ...], group: int) -> torch.Tensor:
        return x_MI @ parts[0].float().T

    def absent(*_: object) -> torch.Tensor:
        raise NotImplementedError

    for multiply in (wrong, absent):
        bad = int8_rows.INT8_ROWS._replace(multiply=multiply, takes=lambda spot: True)
        monkeypatch.setattr(products, "WEIGHT_KERNELS", (bad, plain.WIDENED))
        assert products.kernel_for(spot) is plain.WIDENED


def test_where_no_order_of_nibbles_is_known_codes_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nibbles, "block_rows", lambda: None)
    layer = QuantisedLinear.of(coded(values(64, 64), "q4_0"), "q4_0", torch.float32)
    assert layer.kernel in (plain.WIDENED, kleidi.KLEIDI)


def test_the_reference_of_kleidi_multiplies_what_was_arranged_for_it() -> None:
    codes = Codes(4, torch.randint(-8, 8, (16, 64), dtype=torch.int8), torch.rand(16, 2) + 0.5)
    try:
        parts = kleidi.KLEIDI.arrange(codes, torch.float32)
    except (RuntimeError, AttributeError):
        pytest.skip("this torch has no such operation")
    x = values(3, 64)
    wanted = x.double() @ codes.widened(torch.float64).T
    assert (kleidi.KLEIDI.multiply(x, parts, 32).double() - wanted).abs().max() <= 0.03 * wanted.abs().max()
