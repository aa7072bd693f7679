"""Packed weights: the same products, the same names, and no second copy."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from llamalab import build
from llamalab.errors import UnavailableError
from llamalab.model import onednn
from llamalab.model.onednn import can_pack, pack
from llamalab.model.packed import PackedLinear, pack_weights, product_for, product_of
from tests.model.shrunk import ARCHES, small_model, some_tokens

needs_packing = pytest.mark.skipif(not can_pack(torch.float32), reason="this torch or CPU packs no weights")


@needs_packing
@pytest.mark.parametrize("dtype", [kind for kind in (torch.float32, torch.bfloat16, torch.float16) if can_pack(kind)])
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


@pytest.fixture
def tried_anew() -> Iterator[None]:
    """No answer of another test, and none for the next."""
    onednn._packs.cache_clear()
    yield
    onednn._packs.cache_clear()


def refuse(*_: object) -> None:
    raise RuntimeError("mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx512bw")


@pytest.mark.usefixtures("tried_anew")
@pytest.mark.parametrize("broken", [
    {"pack": refuse},
    {"multiply_packed": refuse},
    {"multiply_packed": lambda x, w: torch.zeros(x.shape[0], w.shape[0])},  # runs, and is wrong
    {"multiply_packed": lambda x, w: x @ w.to_dense().T if len(x) > 1 else refuse()},  # several rows alone
])  # fmt: skip
def test_what_cannot_be_packed_here_stays_plain(monkeypatch: pytest.MonkeyPatch, broken: dict[str, object]) -> None:
    plain, other = small_model(ARCHES["GQA"]), small_model(ARCHES["GQA"])
    for name, function in broken.items():
        monkeypatch.setattr(onednn, name, function)
    assert not can_pack(torch.float32)
    assert product_for(torch.device("cpu"), torch.float32).name == "plain"
    pack_weights(other)
    assert product_of(other) == "plain"
    with torch.no_grad():
        assert torch.equal(other(some_tokens(2, 5)), plain(some_tokens(2, 5)))


def test_without_onednn_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not can_pack(torch.float32)
    model = small_model(ARCHES["MHA"])
    pack_weights(model)
    assert product_of(model) == "plain"
    assert model(some_tokens(1, 3)).isfinite().all()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not can_pack(torch.float32)


def test_integers_are_not_packed_and_other_devices_multiply_plainly() -> None:
    assert not can_pack(torch.int8)
    assert product_for(torch.device("meta"), torch.float32).name == "plain"


MODEL_RUN = """
import sys, torch, llamalab
from llamalab.model.packed import product_of
for scope in ("none", "block"):
    model = llamalab.compile(llamalab.build("stories260k", dtype=sys.argv[1]), scope=scope)
    with torch.inference_mode():
        assert model(torch.tensor([[1, 2, 3]])).float().isfinite().all()
    if len(sys.argv) < 3:
        break
print(product_of(model))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86")
@pytest.mark.parametrize(
    ("isa", "dtype"), [("SSE41", "bf16"), ("AVX2", "bf16"), ("AVX2", "fp16"), ("AVX512_CORE", "fp16")]
)
def test_a_model_runs_whatever_the_instruction_set(isa: str, dtype: str) -> None:
    weaker = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", MODEL_RUN, dtype], env=weaker, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("packed", "plain")
