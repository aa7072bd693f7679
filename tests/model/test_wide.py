"""Products in fp32 from so many rows on: the same values, hooks and state, in a packed model and in a plain one."""

import pytest
import torch

from llamalab.model import packed
from llamalab.model import wide as wide_products
from llamalab.model.onednn import can_pack
from llamalab.model.packed import PackedLinear, pack_weights, product_of
from llamalab.model.wide import PlainLinear, ShapeProduct
from tests.model.shrunk import ARCHES, small_model, some_tokens

ARCH = ARCHES["GQA"].replace(n_layers=2)


def shapes(product: ShapeProduct) -> dict[tuple[int, int], ShapeProduct]:
    layers = (module for module in small_model(ARCH).modules() if isinstance(module, torch.nn.Linear))
    return {(layer.out_features, layer.in_features): product for layer in layers}


@pytest.mark.parametrize("order", ["packed", "plain"])
def test_many_rows_are_multiplied_wide_and_few_are_not(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, wide = small_model(ARCH), small_model(ARCH)
    pack_weights(wide, shapes(ShapeProduct(order, 6)))
    kind = PackedLinear if order == "packed" and can_pack(torch.float32) else PlainLinear
    assert sum(type(module) is kind for module in wide.modules()) == 2 * 7 + 1
    assert product_of(wide).endswith(", fp32 from 6 rows")
    asked = []
    module = packed if kind is PackedLinear else wide_products
    made = module.multiply_wide
    monkeypatch.setattr(module, "multiply_wide", lambda x, *rest: (asked.append(x.shape), made(x, *rest))[1])
    for batch, tokens in ((1, 7), (3, 2), (1, 5), (1, 1)):
        asked.clear()
        with torch.no_grad():
            torch.testing.assert_close(
                wide(some_tokens(batch, tokens)), plain(some_tokens(batch, tokens)), rtol=0, atol=1e-5
            )
        assert bool(asked) == (batch * tokens >= 6)
    for name, weight in plain.state_dict().items():
        assert torch.equal(wide.state_dict()[name], weight)


def test_a_bf16_product_is_more_exact_wide_and_in_bf16_again() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(96, 48).to(torch.bfloat16)
    x = torch.randn(9, 96, generator=generator).to(torch.bfloat16)
    with torch.no_grad():
        made = PlainLinear(layer, ShapeProduct("plain", 4))(x)
        exact = x.double() @ layer.weight.double().T + layer.bias.double()
    assert made.dtype == torch.bfloat16
    assert (made.double() - exact).abs().max() <= exact.abs().max() * 2**-8


def test_plain_where_it_was_measured_to_be_faster_stays_torchs_own() -> None:
    model = small_model(ARCH)
    pack_weights(model, shapes(ShapeProduct("plain", None)))
    assert product_of(model) == "plain"
    assert all(type(module) is not PackedLinear for module in model.modules())
