"""The fastest product of each shape: chosen by what is measured, kept, and run. No test measures: times are given."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.measure.roofs import shape_products as lab
from llamalab.measure.roofs.shape_products import chosen, kept_products, path_of, products_here, products_like
from llamalab.model.wide import ShapeProduct

CPU = torch.device("cpu")
ARCH = LlamaArch(2048, 1, 16, 16, 2048, 2048)
SHAPE = (2048, 2048)
ONE = {"order": "plain", "wide_rows": None, "streamed_rows": 0}


def seconds(**share: float) -> lab.SecondsOfWay:
    """Times in proportion to the rows, of a way by its name; what a widened weight costs before its rows is `widen`."""

    def of(way: str, rows: int) -> float:
        order, _, wide = way.partition(", ")
        return rows * share["fp32"] + share["widen"] if wide else rows * share[order]

    return of


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"packed": 1.0, "plain": 1.4, "fp32": 2.0, "widen": 10.0}, ShapeProduct("packed", None)),
        ({"packed": 1.0, "plain": 1.4, "fp32": 0.5, "widen": 10.0}, ShapeProduct("packed", 32)),
        ({"packed": 1.0, "plain": 1.4, "fp32": 0.5, "widen": 50.0}, ShapeProduct("packed", 128)),
        ({"packed": 1.0, "plain": 1.4, "fp32": 0.5, "widen": 200.0}, ShapeProduct("packed", 512)),
        ({"packed": 1.0, "plain": 1.4, "fp32": 0.5, "widen": 300.0}, ShapeProduct("packed", None)),
        ({"packed": 1.4, "plain": 1.0, "fp32": 2.0, "widen": 10.0}, ShapeProduct("plain", None)),
        ({"packed": 100.0, "plain": 90.0, "fp32": 1.0, "widen": 10.0}, ShapeProduct("plain", 32)),
        ({"packed": 1.0, "plain": 0.99, "fp32": 2.0, "widen": 10.0}, ShapeProduct("packed", None)),
    ],
)
def test_the_fastest_by_rows_is_chosen(times: dict[str, float], expected: ShapeProduct) -> None:
    assert chosen(["packed", "plain"], "bf16", seconds(**times)) == expected


@pytest.mark.parametrize(
    ("row", "each", "expected"),
    [
        (0.5, 0.5, ShapeProduct("plain", 128, 64)),
        (0.5, 2.0, ShapeProduct("plain", 128, 1)),  # several rows cost more than by torch
        (0.5, 1.05, ShapeProduct("plain", 128, 4)),
        (0.99, 0.5, ShapeProduct("packed", 128)),
    ],
)
def test_few_rows_are_streamed_where_one_is_faster(row: float, each: float, expected: ShapeProduct) -> None:
    by_torch = seconds(packed=1.0, plain=1.0, fp32=0.2, widen=40.0)

    def of(way: str, rows: int) -> float:
        return row + each * (rows - 1) if way == "streamed" else by_torch(way, rows)

    assert chosen(["packed", "plain", "streamed"], "bf16", of) == expected


def test_what_is_in_fp32_is_not_widened() -> None:
    times = {"packed": 1.0, "plain": 1.4, "fp32": 0.1, "widen": 0.0}
    assert chosen(["packed", "plain"], "fp32", seconds(**times)) == ShapeProduct("packed", None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[lab.WeightShape]:
    """A machine whose fp32 products are fast, with an empty folder of its own; the shapes that are tried on it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    tried: list[lab.WeightShape] = []

    def timed(shape: lab.WeightShape, *_: object) -> lab.SecondsOfWay:
        tried.append(shape)
        return seconds(packed=1.0, plain=1.0, fp32=0.2, widen=40.0)

    monkeypatch.setattr(lab, "_timed", timed)
    monkeypatch.setattr(lab, "orders", lambda dtype, inner: ["packed", "plain"])
    return tried


def test_a_shape_is_tried_once_and_kept(asked: list[lab.WeightShape], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {SHAPE: ShapeProduct("packed", 128)}
    assert products_here(CPU, "bf16", ARCH) == products_here(CPU, "bf16", ARCH) == expected
    assert asked == [SHAPE]
    products_here(CPU, "bf16", ARCH.replace(ffn_dim=4096))
    assert asked[1:] == [(2048, 4096), (4096, 2048)]
    assert kept_products(CPU, "fp16") == {}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)  # another machine
    assert kept_products(CPU, "bf16") == {}


def test_other_models_take_the_nearest_shape_that_is_known(asked: list[lab.WeightShape]) -> None:
    other = ARCH.replace(dim=4096, ffn_dim=4096)
    assert products_like(CPU, "bf16", other) == {}
    products_here(CPU, "bf16", ARCH)
    assert products_like(CPU, "bf16", other) == {(4096, 4096): ShapeProduct("packed", 128)} | {
        (2048, 4096): ShapeProduct("packed", 128)
    }
    assert asked == [SHAPE]


def test_small_matrices_quantised_ones_and_accelerators_are_not_tried(asked: list[lab.WeightShape]) -> None:
    assert products_here(CPU, "bf16", ARCH.replace(dim=256, ffn_dim=512)) == {}
    assert products_here(CPU, "bf16", ARCH, "int8") == {}
    assert products_here(torch.device("cuda"), "bf16", ARCH) == {}
    assert asked == []


@pytest.mark.parametrize("spoil", [{"shapes": {"2048": {}}}, {"shapes": []}, {"kind": "other"}, {"threads": "2"},
                                   {"shapes": {"2048x2048": ONE | {"order": "turned"}}},
                                   {"shapes": {"2048x2048": ONE | {"wide_rows": -1}}},
                                   {"shapes": {"2048x2048": ONE | {"streamed_rows": None}}},
                                   {"shapes": {"2048x2048": {"order": "plain", "wide_rows": None}}}])  # fmt: skip
def test_a_spoilt_file_is_measured_anew(asked: list[lab.WeightShape], spoil: dict[str, object]) -> None:
    products_here(CPU, "bf16", ARCH)
    path = path_of("bf16")
    path.write_text(json.dumps(json.loads(path.read_text()) | spoil))
    assert kept_products(CPU, "bf16") == {}


def test_what_would_take_long_is_told_by_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def timed(work: Callable[[], torch.Tensor], *_: object) -> list[float]:
        ran.append(len(work()))
        return [0.2 * ran[-1] / 32]

    monkeypatch.setattr(lab, "time_one", timed)
    of = lab._timed((64, 32), CPU, "fp32", None)  # type: ignore[arg-type]
    assert [of("plain", rows) for rows in (1, 512, 128)] == pytest.approx([0.2 / 32, 3.2, 0.8])
    assert ran == [1, 32, 128]
