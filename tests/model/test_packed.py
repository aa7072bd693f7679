"""Packed weights: the same products, the same names, and no second copy."""

import pytest
import torch

from llamalab import build
from llamalab.errors import UnavailableError
from llamalab.model.packed import PackedLinear, pack, pack_weights
from tests.model.shrunk import ARCHES, small_model, some_tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [(1, 1), (1, 7), (3, 130)])
def test_the_product_is_that_of_the_plain_weight(dtype: torch.dtype, rows: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight_OI = torch.randn(96, 72, generator=generator).to(dtype)
    x = torch.randn(*rows, 72, generator=generator).to(dtype)
    exact = x.double() @ weight_OI.double().T
    error = (PackedLinear(pack(weight_OI))(x).double() - exact).abs().max()
    assert error <= 4 * exact.abs().max() * torch.finfo(dtype).eps


def test_a_packed_model_computes_what_the_plain_one_computes() -> None:
    plain, packed = small_model(ARCHES["GQA"]), small_model(ARCHES["GQA"])
    pack_weights(packed)
    with torch.no_grad():
        torch.testing.assert_close(packed(some_tokens(3, 7)), plain(some_tokens(3, 7)), rtol=0, atol=1e-5)


def test_parameters_and_state_dict_keep_names_shapes_and_values() -> None:
    plain, packed = small_model(ARCHES["MHA"]), small_model(ARCHES["MHA"])
    pack_weights(packed)
    assert {name: weight.shape for name, weight in packed.named_parameters()} == {
        name: weight.shape for name, weight in plain.named_parameters()
    }
    assert sum(weight.nbytes for weight in packed.parameters()) == sum(weight.nbytes for weight in plain.parameters())
    for name, weight in plain.state_dict().items():
        assert torch.equal(packed.state_dict()[name], weight)


def test_other_weights_can_be_loaded_into_it() -> None:
    packed, other = small_model(ARCHES["MQA"]), build(ARCHES["MQA"], dtype="fp32", seed=5)
    pack_weights(packed)
    packed.load_state_dict(other.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(packed(some_tokens(1, 5)), other(some_tokens(1, 5)), rtol=0, atol=1e-5)


def test_a_weight_that_layers_share_is_packed_once() -> None:
    tied = build(ARCHES["MHA"].replace(n_layers=5), dtype="bf16", tie_blocks=2)
    pack_weights(tied)
    weights = [layer.attention.wq.weight for layer in tied.layers]
    assert weights[0] is weights[2] is weights[4]
    assert weights[1] is weights[3]
    assert weights[0] is not weights[1]


def test_weights_elsewhere_are_refused() -> None:
    with pytest.raises(UnavailableError, match="weights can be packed on a CPU only; these are on meta"):
        pack_weights(build(ARCHES["MHA"], device="meta"))
