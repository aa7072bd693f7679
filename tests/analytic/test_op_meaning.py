"""Where an operation belongs is on its row: every row has it, and one that lacks it stops what asks."""

import pytest

from llamalab.analytic.activations import live_steps
from llamalab.analytic.op import PARTS, ROOFS, STEPS, Op, placed, rows_named
from llamalab.analytic.op_rows import LAYER, OpRows
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.packed_weights import unpacked_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch.fields import ARCH_FLAGS
from llamalab.arch.runnable import RUNS, model_refusal
from llamalab.comparison.basis import basis_of
from llamalab.comparison.passes import Phase
from llamalab.errors import UnknownNameError
from llamalab.instrument.points import BLOCK, POINTS, inside_points, op_of, points_of
from llamalab.measure.device.base import AllocatorEvent
from llamalab.measure.profile.allocations import memory_profile
from llamalab.measure.timing.profiler_ranges import Span
from llamalab.model import Transformer
from llamalab.presets import PRESETS
from tests.report.sample import sample_record

OPTIONAL = {point.needs: True for point in POINTS if point.needs}  # fields that bring an operation along


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("attention", ["flash", "naive"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_row_of_every_model_says_where_it_belongs(preset: str, attention: str, fused: bool) -> None:
    arch = PRESETS[preset].arch
    ops = forward_ops(arch, PassShape(new_tokens=3, attention=attention, fused=fused, weight_dtype="fp8"))
    assert [part for part in PARTS if part in {op.part for op in ops}] == list(PARTS)
    assert [op.part for op in ops] == sorted((op.part for op in ops), key=PARTS.index)
    assert {op.roof for op in ops} <= set(ROOFS)
    assert {op.step for op in ops} <= set(STEPS)
    assert all((op.roof == "gemm") >= (op.kind == "gemm") for op in ops)
    assert all((op.section == "block") == op.name.startswith(LAYER) for op in ops)
    assert {op.roof for op in ops if op.kind == "attention"} == (
        {"attention"} if attention == "flash" else {"gemm", "copy"}
    )


@pytest.mark.parametrize("preset", ["7b", "qwen3-8b"])
def test_the_steps_are_those_by_which_memory_is_predicted(preset: str) -> None:
    arch = PRESETS[preset].arch
    steps = dict.fromkeys(op.step for op in forward_ops(arch, PassShape(new_tokens=9)) if op.step)
    assert list(steps) == [live.step for live in live_steps(arch, PassShape(new_tokens=9))]


def test_an_unpacked_weight_belongs_where_its_product_does() -> None:
    arch = PRESETS["7b"].arch

    table = forward_ops(arch, PassShape(new_tokens=9, weight_dtype="int4"))
    ops = unpacked_ops(table, rows=9, dtype="bf16", unpack_rows=1, head_bytes=None)
    by_name = {op.name: op for op in ops}
    unpacked = [op for op in ops if op.name.endswith(".unpack")]
    assert len(unpacked) == 7
    for op in unpacked:
        product = by_name[op.name.removesuffix(".unpack")]
        assert (op.part, op.step, op.roof) == (product.part, product.step, "copy")


@pytest.mark.parametrize(("part", "step", "roof", "lacks"), [
    ("", "rope", "copy", "part"), ("attention", "mixing", "copy", "step"), ("attention", "rope", "", "roof of fake"),
])  # fmt: skip
def test_a_row_without_its_place_is_not_taken(part: str, step: str, roof: str, lacks: str) -> None:
    with pytest.raises(UnknownNameError, match=f"{lacks} must be one of"):
        placed(part, step, Op("fake", "elementwise", 1, read_bytes=8, roof=roof))


def test_an_operation_that_is_placed_is_known_to_all_that_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new row in the table: prediction, its block, and memory take it without a change of theirs."""
    plain = OpRows.head_norms

    def with_fake(self: OpRows) -> tuple[Op, ...]:
        return (*plain(self), self.elementwise(LAYER + "attention.fake", 5, 10**6, 10**6))

    record = sample_record()
    before = Phase(record, record.passes[0], basis_of(record))
    monkeypatch.setattr(OpRows, "head_norms", with_fake)
    after = Phase(record, record.passes[0], basis_of(record))
    (row,) = [one for one in after.rows if one.op.name.endswith(".fake")]
    assert row.predicted_s is not None
    assert row.reason == "not measured: the op-by-op pass has no such row"
    blocks = [next(predicted for name, predicted, _ in one.parts if name == "block") for one in (before, after)]
    assert blocks[1] - blocks[0] == pytest.approx(row.predicted_s)
    found = memory_profile(
        [AllocatorEvent(1, 7, 64), AllocatorEvent(8, 7, -64)], [Span("layers.0.attention.fake", 0, 9)],
        method="test", weight_bytes=1, kv_bytes=1, predicted={}, ops=after.ops,
    )  # fmt: skip
    assert [(one.step, one.measured_bytes) for one in found.steps] == [("head norms", 64)]


def test_an_operation_that_runs_but_has_no_row_is_told_by_name() -> None:
    table = {op.name: op for op in forward_ops(PRESETS["7b"].arch, PassShape(new_tokens=3))}
    with pytest.raises(UnknownNameError, match=r"got 'layers\.\*\.attention\.fake'"):
        rows_named("layers.*.attention.rope+fake", table)


def test_a_row_without_a_roof_is_not_predicted_at_a_guess() -> None:
    record = sample_record()
    with pytest.raises(UnknownNameError, match="roof of fake must be one of"):
        basis_of(record).predict(Op("fake", "elementwise", 1, read_bytes=8), record.dtype)


@pytest.mark.parametrize("algorithm", ["flash", "naive"])
def test_the_points_inside_attention_are_those_of_its_rows(algorithm: str) -> None:
    rows = dict.fromkeys(row for point in inside_points() if (row := op_of(point.name, algorithm=algorithm)))
    ops = forward_ops(PRESETS["7b"].arch, PassShape(new_tokens=3, attention=algorithm))
    assert list(rows) == [op.name for op in ops if op.part == "attention" and op.step in ("rope", "attention")]
    assert [point.name.rpartition(".")[2] for point in (BLOCK[0], BLOCK[-1], POINTS[-1])] == [
        "resid_pre", "resid_post", "logits",
    ]  # fmt: skip


@pytest.mark.parametrize("algorithm", ["flash", "naive"])
def test_every_row_that_runs_has_its_point(algorithm: str) -> None:
    """A row that was forgotten in the points, or a point without its row."""
    ops = forward_ops(PRESETS["7b"].arch.replace(**OPTIONAL), PassShape(new_tokens=3, attention=algorithm))
    seen = [row for point in POINTS if (row := op_of(point.name, algorithm=algorithm))]
    assert list(dict.fromkeys(seen)) == [op.name for op in ops]


@pytest.mark.parametrize("flag", [flag for flag in ARCH_FLAGS if flag in RUNS or flag == "tied_embeddings"])
def test_what_a_flag_brings_is_in_every_account(flag: str) -> None:
    """The operations, the points and the weights of a model that differs by one flag."""
    small = PRESETS["stories260k"].arch
    arch = small.replace(**{flag: not getattr(small, flag)})
    ops = forward_ops(arch, PassShape(new_tokens=3, attention="naive"))
    seen = [row for point in points_of(arch) if (row := op_of(point.name, algorithm="naive"))]
    assert list(dict.fromkeys(seen)) == [op.name for op in ops]
    model = Transformer(arch, dtype="fp32", device="meta")
    assert parameter_count(arch) == sum(weight.numel() for weight in model.parameters())


def test_a_flag_that_no_one_runs_is_refused_by_its_name() -> None:
    """What is forgotten in runnable.py is refused, not run wrongly."""

    class Grown(type(PRESETS["7b"].arch)):  # type: ignore[misc]
        beyond_llama_2 = ("embedding_norm",)

    arch = Grown(*PRESETS["7b"].arch[:6])
    assert model_refusal(arch) == (
        "the built-in model runs dense Llamas; it has no embedding_norm; use the calculators"
    )
