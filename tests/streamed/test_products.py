"""Streamed products: right in every type, shape and number of rows, in the trial and in a model; absent in silence."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from llamalab.model.packed import pack_weights, product_of
from llamalab.model.quantised import streamed_codes
from llamalab.model.quantised.codes import Codes, coded
from llamalab.model.quantised.streamed_codes import STREAMED_CODES
from llamalab.model.wide import PlainLinear, ShapeProduct
from llamalab.streamed import library as lib
from llamalab.streamed import products
from llamalab.streamed.products import can_stream, multiply_plain

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
needs_loops = pytest.mark.skipif(
    lib.library() is None, reason="no AVX2, no C++ compiler, or another OpenMP than torch's"
)


needs_blocks = pytest.mark.skipif(lib.library() is None or not lib.has_vnni(), reason="no loops for AVX-512 VNNI here")


@pytest.fixture
def row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops for AVX2, wherever this runs."""
    monkeypatch.setattr(streamed_codes, "has_vnni", lambda: False)


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@needs_loops
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(1, 32), (3, 96), (64, 256), (130, 1056)])
@pytest.mark.parametrize("rows", [(1,), (2, 3), (1, 1, 17)])
def test_a_plain_weight_is_multiplied_in_fp32(dtype: str, shape: tuple[int, int], rows: tuple[int, ...]) -> None:
    kind = KINDS[dtype]
    weight_OI, x = values(*shape).to(kind), values(*rows, shape[1]).to(kind)
    made, exact = multiply_plain(x, weight_OI), x.double() @ weight_OI.double().T
    assert made.dtype == kind
    assert made.shape == exact.shape
    # fp32 adds up to 1056 products; then one rounding to the type.
    assert (made.double() - exact).abs().max() <= exact.abs().max() * (torch.finfo(kind).eps / 2 + 2e-6)


@needs_loops
@pytest.mark.usefixtures("row_by_row")
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("storage", ["int8", "int4", "q8_0", "q4_0"])
@pytest.mark.parametrize("shape", [(1, 32), (5, 384), (67, 1408), (9, 11008)])
def test_codes_are_multiplied_as_finely_as_15_bits(storage: str, dtype: str, shape: tuple[int, int]) -> None:
    multiplies_finely(storage, KINDS[dtype], shape)


@needs_blocks
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("storage", ["int8", "int4", "q8_0", "q4_0"])
@pytest.mark.parametrize("shape", [(16, 32), (48, 384), (1072, 1408), (32, 11008)])
def test_so_are_codes_in_blocks(storage: str, dtype: str, shape: tuple[int, int]) -> None:
    multiplies_finely(storage, KINDS[dtype], shape)


def multiplies_finely(storage: str, kind: torch.dtype, shape: tuple[int, int]) -> None:
    codes = coded(values(*shape), storage)
    parts = STREAMED_CODES.arrange(codes, kind)
    as_kept = codes._replace(scales=codes.scales.to(kind).float()).widened(torch.float64)
    for rows in (1, 7):
        x = values(rows, shape[1]).to(kind)
        x[:, 7] *= 300  # one feature far beyond the others spoils its own run alone
        wide, exact = x.double(), x.double() @ as_kept.T
        # Each product may be off by half a unit of x; rounding to the type comes on top.
        unit = wide.view(rows, -1, 32).abs().amax(-1).mean() / 32512 if codes.group == 32 else wide.abs().max() / 32512
        bound = unit * as_kept.abs().sum(1).max() / 2 + exact.abs() * torch.finfo(kind).eps
        assert ((STREAMED_CODES.multiply(x, parts, codes.group).double() - exact).abs() <= bound).all()
    assert STREAMED_CODES.widen is not None
    widened = STREAMED_CODES.widen(parts, codes.group, torch.float32).double()
    assert (widened - as_kept).abs().max() <= 1e-6 * as_kept.abs().max()


@needs_blocks
@pytest.mark.parametrize("bits", [8, 4])
def test_extreme_codes_and_activations_do_not_overflow(bits: int) -> None:
    """A run of the largest products of one sign: 32 bits hold their sum."""
    most = 1 << (bits - 1)
    for code in (-most, most - 1):
        codes = Codes(bits, torch.full((16, 1024), code, dtype=torch.int8), torch.ones(16, 1))
        parts = STREAMED_CODES.arrange(codes, torch.bfloat16)
        for sign in (1, -1):
            x = torch.full((1, 1024), float(sign), dtype=torch.bfloat16)
            made = STREAMED_CODES.multiply(x, parts, codes.group)
            torch.testing.assert_close(made, torch.full_like(made, float(sign * code * 1024)), rtol=2**-8, atol=0)


@needs_loops
@pytest.mark.parametrize("rows", [4, 16])
def test_what_is_no_number_stays_none_in_its_row_alone(rows: int) -> None:
    codes = coded(values(rows, 64), "int8")
    parts = STREAMED_CODES.arrange(codes, torch.bfloat16)
    x = values(3, 64).bfloat16()
    x[0, 3], x[1, 60] = float("nan"), float("-inf")
    made = STREAMED_CODES.multiply(x, parts, codes.group)
    assert made[:2].isnan().all()
    assert made[2].isfinite().all()
    assert not multiply_plain(x, values(4, 64).bfloat16())[:2].isfinite().any()


@needs_loops
def test_a_layer_streams_few_rows_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = nn.Sequential(nn.Linear(64, 48)).bfloat16()
    plain = nn.Linear(64, 48).bfloat16()
    plain.load_state_dict(holder[0].state_dict())
    pack_weights(holder, {(48, 64): ShapeProduct("plain", 9, 4)})
    assert isinstance(holder[0], PlainLinear)
    assert product_of(holder) == "plain, streamed to 4 rows, fp32 from 9 rows"
    assert set(holder.state_dict()) == {"0.weight", "0.bias"}
    asked: list[int] = []
    monkeypatch.setattr(
        "llamalab.model.wide.multiply_plain", lambda x, w: (asked.append(len(x)), multiply_plain(x, w))[1]
    )
    with torch.no_grad():
        for rows in (1, 4, 5, 12):
            x = values(rows, 64).bfloat16()
            torch.testing.assert_close(holder(x), plain(x), rtol=2e-2, atol=2e-2)
    assert asked == [1, 4]


@needs_loops
def test_compilers_take_it_as_one_operation() -> None:
    weight = values(48, 64).bfloat16()
    x = values(2, 64).bfloat16()
    compiled = torch.compile(lambda x: multiply_plain(x, weight), fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), multiply_plain(x, weight))
    torch.library.opcheck(torch.ops.llamalab_streamed.plain, (x, weight), test_utils=("test_schema", "test_faketensor"))


@pytest.fixture
def asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of compiled libraries, and no answer of another test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lib.library.cache_clear()
    products._streams.cache_clear()
    yield tmp_path / "llamalab"
    lib.library.cache_clear()
    products._streams.cache_clear()


@pytest.mark.parametrize("lacking", ["compiler", "instructions", "sense", "OpenMP of torch"])
def test_without_what_it_takes_torch_multiplies(
    lacking: str, asked_anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking == "compiler":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    elif lacking == "instructions":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    elif lacking == "sense":
        monkeypatch.setenv("CXX", "false")
    else:
        runtimes = iter([{"/torch/libiomp5.so"}, {"/torch/libiomp5.so", "/usr/lib/libgomp.so.1"}])
        monkeypatch.setattr(lib, "_runtimes", lambda: next(runtimes))
    assert not can_stream(torch.bfloat16, 4096)
    holder = nn.Sequential(nn.Linear(64, 48)).bfloat16()
    pack_weights(holder, {(48, 64): ShapeProduct("plain", None, 4)})
    assert product_of(holder) == "plain"
    assert holder(values(2, 64).bfloat16()).shape == (2, 48)


@needs_loops
def test_it_is_compiled_once_and_kept_for_other_processes(asked_anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lib.library() is not None
    (kept,) = asked_anew.iterdir()
    lib.library.cache_clear()
    monkeypatch.setattr(lib.subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert lib.library() is not None
    assert list(asked_anew.iterdir()) == [kept]


@needs_loops
def test_a_folder_that_cannot_be_written_costs_a_compilation_alone(
    asked_anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_anew.write_text("a file where a folder should be")
    assert lib.library() is not None
