"""A calibration of small blocks: what is fitted, what is checked, that the two never meet, and what is kept."""

import json

import pytest
import torch

from llamalab.analytic.constants import CLASSES, constants_of
from llamalab.analytic.ops import forward_ops
from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError, InputError
from llamalab.measure.calibration import run as module
from llamalab.measure.calibration.blocks import CHECKED, FITTED, Block, Shape
from llamalab.measure.calibration.fit import Kernel
from llamalab.measure.calibration.run import Calibration, Outcome, calibrate, fit_classes
from llamalab.presets import PRESETS

SMALL = (
    Block("a", LlamaArch(32, 1, 4, 2, 48, 64), (Shape(1, 5), Shape(1, 1, 9), Shape(3, 1, 4))),
    Block("b", LlamaArch(48, 1, 6, 6, 80, 64), (Shape(1, 7), Shape(2, 1, 6))),
)
OTHERS = (Block("c", LlamaArch(64, 3, 4, 4, 96, 64), (Shape(1, 6), Shape(2, 3), Shape(1, 1, 5))),)


@pytest.fixture(scope="module")
def made() -> Calibration:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "cache_bytes", lambda device: module._block_bytes(SMALL[0], "fp32"))
        steps: list[float] = []
        calibration = calibrate(
            device="cpu",
            dtype="fp32",
            budget_s=1e-9,
            fit=SMALL,
            check=OTHERS,
            progress=lambda _, done: steps.append(done),
        )  # fmt: skip
        assert steps == sorted(steps)
        assert calibration.rounds == module.FEWEST_ROUNDS
        return calibration


def test_every_class_of_the_plain_model_is_fitted(made: Calibration) -> None:
    tables = [
        forward_ops(block.arch, new_tokens=shape.new, context_tokens=shape.past + shape.new, batch=shape.batch)
        for block in SMALL
        for shape in block.shapes
    ]
    ops = [op for table in tables for op in table]
    assert made.fits.keys() == {op.rate_class for op in ops}
    assert made.fits.keys() > CLASSES
    in_cache = [op for table in tables[:3] for op in table if op.kind == "gemm"]  # their weights are in no memory roof
    assert sum(fit.kernels for fit in made.fits.values()) == len(ops) - len(in_cache)


def test_what_is_checked_is_the_whole_model(made: Calibration) -> None:
    assert [(one.model, one.shape) for one in made.outcomes] == [("c", shape) for shape in OTHERS[0].shapes]
    assert all(one.predicted_s > 0 and one.measured_s > 0 for one in made.outcomes)
    assert [one.shape.phase for one in made.outcomes] == ["prefill", "prefill", "decode"]


def test_the_errors_are_those_of_the_checked_passes(made: Calibration) -> None:
    outcomes = tuple(Outcome("c", shape, 1.1, 1.0) for shape in OTHERS[0].shapes[:2])
    outcomes += (Outcome("c", OTHERS[0].shapes[2], 0.5, 1.0),)
    changed = made._replace(outcomes=outcomes)
    assert (changed.error("prefill"), changed.error("decode")) == (pytest.approx(0.1), pytest.approx(0.5))


def test_what_is_kept_can_be_read_back(made: Calibration) -> None:
    data = json.loads(made.json)
    constants = constants_of(data, "here", "fp32")
    assert constants.rates == made.rates
    assert constants.spread == pytest.approx(2 * max(made.error("prefill"), made.error("decode")))
    assert (data["device"], data["title"], data["memory_bytes"]) == ("cpu", made.title, made.memory_bytes)
    assert [block["arch"]["dim"] for block in data["fitted_on"]] == [block.arch.dim for block in SMALL]
    assert len(data["validation"]["points"]) == len(made.outcomes)
    assert "/" not in made.title


def test_nothing_that_is_checked_was_fitted() -> None:
    def products(blocks: tuple[Block, ...]) -> set[tuple[int, int]]:
        archs = [block.arch for block in blocks]
        return {(out, arch.dim) for arch in archs for out in (arch.dim, arch.ffn_dim, arch.kv_dim)}

    def passes(blocks: tuple[Block, ...]) -> set[Shape]:
        return {shape for block in blocks for shape in block.shapes}

    assert products(FITTED).isdisjoint(products(CHECKED))
    assert passes(FITTED).isdisjoint(passes(CHECKED))
    assert {shape.new for shape in passes(FITTED)} & {shape.new for shape in passes(CHECKED)} == {1}
    assert {block.arch for block in CHECKED} == {PRESETS["7b"].arch, PRESETS["13b"].arch}
    assert all(
        any(shape.phase == phase for shape in block.shapes) for block in CHECKED for phase in ("prefill", "decode")
    )


def test_the_token_counts_are_awkward_and_one_is_among_them() -> None:
    counts = {shape.new for block in FITTED for shape in block.shapes}
    assert 1 in counts
    assert len([count for count in counts if count & (count - 1)]) >= 8  # no powers of two
    assert {block.arch.n_kv_heads == block.arch.n_heads for block in FITTED} == {True, False}


def test_classes_of_a_kind_share_its_roofs() -> None:
    ops = forward_ops(SMALL[0].arch, new_tokens=5) + forward_ops(SMALL[0].arch, new_tokens=1, context_tokens=4)
    fits = fit_classes(Kernel(op, 1e-6 * (1 + index)) for index, op in enumerate(ops))
    assert fits["gemm"].rates[:2] == fits["gemm_row"].rates[:2]
    assert fits["attention_prefill"].rates[:2] == fits["attention_decode"].rates[:2]
    assert fits["elementwise_rope"].rates.peak_flops_per_s is None


def test_what_does_not_fit_is_left_out_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = torch.device("cpu")
    sizes = [module._block_bytes(block, "bf16") for block in (*FITTED, *CHECKED)]
    monkeypatch.setattr(module, "available_bytes", lambda _: 2 * (sum(sizes) - 1))
    assert module._checked_here(place, "bf16", FITTED, CHECKED) == CHECKED[:1]
    monkeypatch.setattr(module, "available_bytes", lambda _: 2 * sum(sizes[:2]))
    with pytest.raises(DoesNotFitError, match="half of the free memory"):
        calibrate(device="cpu")


def test_a_dtype_without_activations_is_refused_before_work() -> None:
    with pytest.raises(InputError):
        calibrate(device="cpu", dtype="int8")
