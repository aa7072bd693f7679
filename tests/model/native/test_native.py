"""Products of our own, where a compiler is here: right in every shape that they take, and left alone elsewhere."""

from collections.abc import Generator

import pytest
import torch
from torch import nn

from llamalab import build
from llamalab.analytic.kept_weights import WHOLE_NUMBERS, model_weight_bytes
from llamalab.arch import LlamaArch
from llamalab.model.compiled import compile
from llamalab.model.native import calls, linear
from llamalab.model.native import library as module
from llamalab.model.native.linear import STREAMED_WEIGHT, StreamedLinear, can_stream, multiply_streamed
from llamalab.model.packed import pack_weights, product_for, product_of
from llamalab.model.quantised import products
from llamalab.model.quantised.codes import Codes, coded
from llamalab.model.quantised.linear import QuantisedLinear
from llamalab.model.quantised.native_codes import NATIVE_CODES
from llamalab.model.quantised.weights import kept_of

ARCH = LlamaArch(dim=128, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=256, vocab_size=160)
EPS = torch.finfo(torch.bfloat16).eps


@pytest.fixture(scope="module")
def _compiled() -> Generator[None, None, None]:
    if module.library() is None:
        pytest.skip("there is no compiler here, or torch's threads are not libgomp's")
    remembered = (can_stream, products._computes)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(calls, "library", module.library)
        for one in remembered:
            one.cache_clear()
        yield
    for one in remembered:
        one.cache_clear()


@pytest.fixture(scope="module")
def _codes(_compiled: None) -> None:
    if not calls.takes_codes(128, 128):
        pytest.skip("this processor has no products of whole numbers (AVX-512 VNNI)")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 16, 40])
def test_a_plain_weight_of_any_height_with_any_rows(rows: int) -> None:
    for out, inner in ((1, 32), (7, 96), (130, 256)):
        weight_OI, x = random(out, inner).bfloat16(), random(2, rows, inner, seed=1).bfloat16()
        bias_O, exact = random(out, seed=2).bfloat16(), x.double() @ weight_OI.double().T
        made = multiply_streamed(x, weight_OI)
        assert made.shape == exact.shape
        torch.testing.assert_close(made.double(), exact, rtol=0, atol=float(exact.abs().max()) * EPS)
        shifted = multiply_streamed(x, weight_OI, bias_O)
        torch.testing.assert_close(shifted.double(), exact + bias_O.double(), rtol=0, atol=0.3)


@pytest.mark.usefixtures("_compiled")
def test_what_it_does_not_take_is_multiplied_by_torch() -> None:
    assert not calls.takes_bf16(random(4, 32))  # fp32
    assert not calls.takes_bf16(random(4, 64).bfloat16()[:, ::2])
    assert not can_stream(torch.float32)
    assert product_for(torch.device("cpu"), torch.float32).name != STREAMED_WEIGHT
    assert product_for(torch.device("meta"), torch.bfloat16).name != STREAMED_WEIGHT
    assert not calls.takes_codes(96, 96)
    assert not calls.takes_codes(384, 96)  # groups of no power of 2


@pytest.mark.usefixtures("_codes")
@pytest.mark.parametrize(("bits", "group"), [(8, 0), (8, 32), (8, 64), (8, 128), (4, 32), (4, 64), (4, 128), (4, 256)])
def test_codes_in_every_group_with_and_without_offsets(bits: int, group: int) -> None:
    out, inner, half = 67, 512, 1 << (bits - 1)
    group = group or inner
    noise = torch.Generator().manual_seed(bits + group)
    stored = torch.randint(-half, half, (out, inner), generator=noise, dtype=torch.int8)
    scales = (torch.rand(out, inner // group, generator=noise) / half).bfloat16().float()
    x = random(3, inner, seed=3).bfloat16()
    x[:, 5] *= 300  # one input far above all others
    for offsets in (None, (random(*scales.shape, seed=4) / half).bfloat16().float()):
        codes = Codes(bits, stored, scales, offsets)
        parts = NATIVE_CODES.arrange(codes, torch.bfloat16)
        exact = x.double() @ codes.widened(torch.float64).T
        made = NATIVE_CODES.multiply(x, parts, group).double()
        torch.testing.assert_close(made, exact, rtol=0, atol=float(exact.abs().max()) * EPS)
        assert NATIVE_CODES.widen is not None
        widened, wanted = NATIVE_CODES.widen(parts, group, torch.bfloat16), codes.widened(torch.float32)
        torch.testing.assert_close(widened.float(), wanted, rtol=2 * EPS, atol=0.02)


@pytest.mark.usefixtures("_codes")
def test_activations_are_finer_than_their_own_type() -> None:
    """A block of one large input among small ones: each small one must still count to within its own rounding."""
    x = torch.full((1, 128), 1e-3).bfloat16()
    x[0, 0] = 3.0
    codes = coded(torch.ones(16, 128), "int8")
    exact = x.double() @ codes.widened(torch.float64).T
    made = NATIVE_CODES.multiply(x, NATIVE_CODES.arrange(codes, torch.bfloat16), 128).double()
    torch.testing.assert_close(made, exact, rtol=EPS, atol=0)
    zeros = NATIVE_CODES.multiply(torch.zeros(1, 128).bfloat16(), NATIVE_CODES.arrange(codes, torch.bfloat16), 128)
    assert not zeros.any()


@pytest.mark.usefixtures("_codes")
@pytest.mark.parametrize("storage", ["int8", "int4", "q8_0", "q4_0"])
def test_a_model_takes_them_and_its_bytes_are_counted(storage: str) -> None:
    plain = build(ARCH, dtype="bf16", seed=1)
    tokens_BT = torch.arange(10).view(2, 5)
    with torch.inference_mode():
        wide = plain(tokens_BT)
        model = compile(plain, scope="none", weight_dtype=storage)
        kept = kept_of(model)
        assert kept is not None
        assert kept.product == WHOLE_NUMBERS
        assert sum(one.nbytes for one in model.parameters()) == model_weight_bytes(ARCH, "bf16", kept)
        error = (model(tokens_BT) - wide).abs().max() / wide.abs().max()
        assert error < (0.05 if storage in ("int8", "q8_0") else 0.5)
        few, many = model(tokens_BT), model(tokens_BT.repeat(8, 1))[:2]  # by the kernel, and by the widened weight
        torch.testing.assert_close(few, many, rtol=0, atol=float(wide.abs().max()) * 0.05)


@pytest.mark.usefixtures("_compiled")
def test_a_model_of_plain_weights_streams_them_where_they_are() -> None:
    model = build(ARCH, dtype="bf16", seed=1)
    tokens_B1, places = torch.tensor([[3], [4]]), {name: one.data_ptr() for name, one in model.named_parameters()}
    with torch.inference_mode():
        before, state = model(tokens_B1), model.state_dict()
        hooked: list[str] = []
        model.output.register_forward_hook(lambda *_: hooked.append("output"))
        pack_weights(model)
        assert product_of(model) == STREAMED_WEIGHT
        assert all(isinstance(one, StreamedLinear) for one in model.modules() if isinstance(one, nn.Linear))
        assert {name: one.data_ptr() for name, one in model.named_parameters()} == places
        assert model.state_dict().keys() == state.keys()
        torch.testing.assert_close(model(tokens_B1), before, rtol=0, atol=float(before.abs().max()) * 0.03)
    assert hooked == ["output"]


def test_without_a_compiler_nothing_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "library", lambda: None)
    assert calls.bf16_rows() == 0
    assert not calls.takes_codes(128, 128)
    assert not linear.can_stream.__wrapped__(torch.bfloat16)
    layer = QuantisedLinear.of(coded(random(16, 128), "int8"), "int8", torch.bfloat16)
    assert layer.kernel is not NATIVE_CODES
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert module.library.__wrapped__() is None
    monkeypatch.setattr(module, "_thread_runtimes", lambda: {"gomp", "iomp5"})
    assert module.library.__wrapped__() is None
