"""A calibration of small blocks: what is fitted, what is checked, that the two never meet, and what is kept."""

import json
import time

import pytest

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.calibration_files import parsed_constants
from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.rate_constants import CLASSES
from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError, InputError, UnknownNameError
from llamalab.measure.calibration import run as module
from llamalab.measure.calibration import trials
from llamalab.measure.calibration.blocks import CHECKED, FITTED, Block, BlockPass
from llamalab.measure.calibration.copies import block_bytes
from llamalab.measure.calibration.fit import Kernel
from llamalab.measure.calibration.result import Calibration, Outcome
from llamalab.measure.calibration.run import calibrate, fit_classes
from llamalab.measure.calibration.trials import trial_bytes
from llamalab.measure.timing.deadline import Deadline
from llamalab.presets import PRESETS
from llamalab.units import KeptWeights

SMALL = (
    Block("a", LlamaArch(32, 1, 4, 2, 48, 64), (BlockPass(1, 5), BlockPass(1, 1, 9), BlockPass(3, 1, 4))),
    Block("b", LlamaArch(48, 1, 6, 6, 80, 64), (BlockPass(1, 7), BlockPass(2, 1, 6))),
)
OTHERS = (Block("c", LlamaArch(64, 3, 4, 4, 96, 64), (BlockPass(1, 6), BlockPass(2, 3), BlockPass(1, 1, 5))),)


@pytest.fixture(scope="module")
def made() -> Calibration:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "effective_cache_bytes", lambda device: block_bytes(SMALL[0], "fp32") // 2 + 1)
        monkeypatch.setattr(module, "MOST_ROUNDS", 3)
        steps: list[float] = []
        calibration = calibrate(
            device="cpu",
            dtype="fp32",
            fit=SMALL,
            check=OTHERS,
            copies_bytes=0,
            progress=lambda _, done: steps.append(done),
        )  # fmt: skip
        assert steps == sorted(steps)
        assert calibration.rounds == 3
        assert not calibration.left_out
        return calibration


def test_every_class_of_the_plain_model_is_fitted(made: Calibration) -> None:
    tables = [
        forward_ops(
            block.arch, PassShape(new_tokens=shape.new, context_tokens=shape.past + shape.new, batch=shape.batch)
        )
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
    assert changed.error("prefill") == pytest.approx(0.1)
    assert changed.error("decode") == pytest.approx(0.5)


def test_what_is_kept_can_be_read_back(made: Calibration) -> None:
    data = json.loads(made.json)
    constants = parsed_constants(data, "here", "fp32")
    assert constants.rates == made.rates
    error = max(made.error("prefill") or 0.0, made.error("decode") or 0.0)
    assert constants.spread == pytest.approx(max(2 * error, 0.5, made.spread))  # three rounds alone make it poor
    assert (data["device"], data["title"], data["memory_bytes"]) == ("cpu", made.title, made.memory_bytes)
    assert [block["arch"]["dim"] for block in data["fitted_on"]] == [block.arch.dim for block in SMALL]
    assert len(data["validation"]["points"]) == len(made.outcomes)
    assert "/" not in made.title


def test_nothing_that_is_checked_was_fitted() -> None:
    def products(blocks: tuple[Block, ...]) -> set[tuple[int, int]]:
        archs = [block.arch for block in blocks]
        return {(out, arch.dim) for arch in archs for out in (arch.dim, arch.ffn_dim, arch.kv_dim)}

    def passes(blocks: tuple[Block, ...]) -> set[BlockPass]:
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
    ops = forward_ops(SMALL[0].arch, PassShape(new_tokens=5)) + forward_ops(
        SMALL[0].arch, PassShape(new_tokens=1, context_tokens=4)
    )
    fits = fit_classes(Kernel(op, 1e-6 * (1 + index)) for index, op in enumerate(ops))
    assert fits["gemm"].rates[:2] == fits["gemm_row"].rates[:2]
    assert fits["attention_prefill"].rates[:2] == fits["attention_decode"].rates[:2]
    assert fits["elementwise_rope"].rates.peak_flops_per_s is None


def test_products_of_a_quantised_weight_are_classes_of_their_own() -> None:
    kept = KeptWeights("int8", kernel_rows=4)
    passes = ((1, 1), (1, 3), (6, 1), (9, 1))  # new tokens, batch
    tables = [
        model_ops(SMALL[0].arch, PassShape(new_tokens=new, context_tokens=9, batch=batch), kept)
        for new, batch in passes
    ]
    modes = [{op.mode for op in table if op.kind == "gemm" and op.name != "output"} for table in tables]
    assert modes == [{"row"}, {"few"}, {"widened"}, {"widened"}]
    fits = fit_classes(Kernel(op, 1e-6 * (1 + index)) for table in tables for index, op in enumerate(table))
    assert {"gemm_row", "gemm_few", "gemm_widened"} < fits.keys()
    assert fits["gemm"].kernels == fits["gemm_few"].kernels + fits["gemm_widened"].kernels
    plain = fit_classes(Kernel(op, 1e-6) for op in forward_ops(SMALL[0].arch, PassShape(new_tokens=5)))
    assert {"gemm_few", "gemm_widened"}.isdisjoint(plain)


def test_a_calibration_of_quantised_weights_says_so_and_knows_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "effective_cache_bytes", lambda _: 0)
    monkeypatch.setattr(module, "MOST_ROUNDS", 1)
    made = calibrate(device="cpu", dtype="fp32", fit=SMALL, check=OTHERS, weight_dtype="q8_0", kernel_rows=2)
    assert not CLASSES - made.fits.keys()
    assert json.loads(made.json)["weight_dtype"] == made.weight_dtype == "q8_0"
    with pytest.raises(UnknownNameError, match="weight dtype"):
        calibrate(device="cpu", dtype="fp32", weight_dtype="int3")


def test_what_does_not_fit_is_left_out_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [trial_bytes(block, "bf16") for block in (*FITTED, *CHECKED)]
    chosen = module._fitting(sum(sizes) - 1, "bf16", FITTED, CHECKED)
    assert (chosen.fit, chosen.check) == (FITTED, CHECKED[:1])
    assert chosen.left_out == ("13b: what it may take of the free memory does not hold it",)
    assert module._fitting(sum(sizes[:2]), "bf16", FITTED, CHECKED)[:2] == (FITTED[:2], ())
    monkeypatch.setattr(module, "available_bytes", lambda _: 2 * sizes[0] - 1)
    with pytest.raises(DoesNotFitError, match="of the free memory and may take"):
        calibrate(device="cpu")


def test_a_block_needs_its_weights_its_caches_and_the_largest_activations() -> None:
    arch = LlamaArch(dim=512, n_layers=1, n_heads=8, n_kv_heads=4, ffn_dim=1376, vocab_size=8192)
    block = Block("small", arch, (BlockPass(1, 24), BlockPass(3, 1, 130)))
    weights = 2 * 8192 * 512 + 2 * 512 * 512 + 2 * 512 * 256 + 3 * 512 * 1376 + 3 * 512
    caches = 2 * 4 * 64 * (24 + 3 * 131)
    activations = peak_activation_bytes(arch, PassShape(new_tokens=24)).bytes
    assert trial_bytes(block, "bf16") == 2 * weights + 2 * caches + activations
    naive = block._replace(shapes=(BlockPass(1, 1000),), attention="naive")
    assert trial_bytes(naive, "bf16") - 2 * weights > 8 * 1000**2 * 2  # its scores


@pytest.mark.parametrize("cache_bytes", [0, 2**20, 2**28, 2**40])
def test_products_come_from_memory_whatever_cache_is_reported(
    monkeypatch: pytest.MonkeyPatch, cache_bytes: int
) -> None:
    small = block_bytes(SMALL[0], "fp32")
    monkeypatch.setattr(module, "effective_cache_bytes", lambda _: cache_bytes)
    monkeypatch.setattr(module, "probe_budget_bytes", lambda _: 200 * small)
    monkeypatch.setattr(module, "MOST_ROUNDS", 2)
    made = calibrate(device="cpu", dtype="fp32", fit=SMALL, check=OTHERS)
    held = cache_bytes > 2**20  # no memory for so many copies
    assert ("gemm" in made.fits) is not held
    assert made.grade.name == "poor"  # two rounds
    assert any("no kernel of gemm" in reason for reason in made.grade.reasons) is held
    data = json.loads(made.json)
    constants = parsed_constants(data, "here", "fp32")
    assert constants.lacking == (("gemm",) if held else ())
    assert constants.basis.endswith(f"({made.grade.words})")
    if held:  # nothing can be predicted whole, so nothing was checked
        assert (made.outcomes, made.error("prefill"), data["validation"]["decode_error"]) == ((), None, None)
        assert constants.spread == max(1.0, made.spread)  # on a busy machine rounds may be further apart


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "effective_cache_bytes", lambda _: 0)


@pytest.mark.usefixtures("no_cache")
def test_a_slow_machine_is_done_in_time_with_fewer_passes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1, 10**9))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 2_000_000 * next(ticks))  # each look at the clock takes 2 ms
    quick = calibrate(device="cpu", dtype="fp32", fit=SMALL, check=OTHERS, deadline=Deadline(60.0))
    slow = calibrate(device="cpu", dtype="fp32", fit=SMALL, check=OTHERS, deadline=Deadline(0.6))
    assert (quick.rounds, quick.left_out) == (module.MOST_ROUNDS, ())
    assert slow.took_s < 0.75
    assert 1 <= slow.rounds < quick.rounds
    assert slow.left_out
    assert all("no time" in reason for reason in slow.left_out)
    assert slow.grade.name == "poor"
    spread = parsed_constants(json.loads(slow.json), "here", "fp32").spread
    assert spread is not None
    assert spread >= 0.5


@pytest.mark.usefixtures("no_cache")
def test_a_prompt_and_a_step_run_when_the_time_is_over_before_them() -> None:
    """Both phases have constants then, which are poor and say so."""
    made = calibrate(device="cpu", dtype="fp32", fit=SMALL, check=OTHERS, deadline=Deadline(0.0))
    assert made.rounds == 1
    assert made.rates.keys() >= CLASSES
    assert made.grade.name == "poor"
    assert len(made.left_out) == len(SMALL[0].shapes) - 2 + len(SMALL[1:]) + len(OTHERS)


@pytest.mark.parametrize(("time_s", "best_s"), [(10.0, 0.01), (0.2, 0.3)])
def test_one_disturbed_run_foretells_no_other(monkeypatch: pytest.MonkeyPatch, time_s: float, best_s: float) -> None:
    clock, took = [0.0], iter((0.3, 0.01, 0.02))
    monkeypatch.setattr(trials, "now_s", lambda: clock[0])

    class Disturbed:
        def run(self) -> None:
            clock[0] += next(took)

    deadline = Deadline(time_s, now=lambda: clock[0])
    assert trials._best_s(Disturbed(), deadline, trials.ENOUGH_ROUNDS) == pytest.approx(best_s)  # type: ignore[arg-type]


def test_a_dtype_without_activations_is_refused_before_work() -> None:
    with pytest.raises(InputError):
        calibrate(device="cpu", dtype="int8")
