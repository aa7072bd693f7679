import pytest
import torch

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.measure.timing import op_clock
from llamalab.measure.timing.op_clock import OpClock, cost_rows, model_part_of
from llamalab.model import StaticKVCache, build
from tests.measure.fakes import FakeClock

ARCH = LlamaArch(48, 3, 6, 2, 40, 19)


def walk(tap, clock, points):
    """Pass the points, each after so many seconds."""
    tap.start()
    for name, seconds in points:
        clock.advance(seconds)
        tap(name, torch.empty(0))


def test_an_interval_belongs_to_the_op_whose_point_ends_it():
    clock = FakeClock()
    tap = OpClock(clock, cost_rows("naive"))
    walk(tap, clock, [("embed", 1.0), ("layers.0.resid_pre", 8.0), ("layers.0.attn_norm", 2.0), ("logits", 4.0)])
    assert tap.read() == [{"tok_embeddings": 1.0, "layers.*.attention_norm": 2.0, "output": 4.0}]


def test_blocks_add_up_and_passes_do_not():
    clock = FakeClock()
    tap = OpClock(clock, model_part_of)
    for factor in (1.0, 10.0):
        blocks = [("layers.0.resid_post", 2.0 * factor), ("layers.1.resid_post", 4.0 * factor)]
        walk(tap, clock, [("embed", 0.5 * factor), ("layers.0.resid_pre", 0.5 * factor), *blocks, ("logits", factor)])
        clock.advance(1000.0)  # between two passes: nobody's time
    assert tap.read() == [
        {"embedding": 1.0, "block": 6.0, "head": 1.0},
        {"embedding": 10.0, "block": 60.0, "head": 10.0},
    ]


def test_reading_forgets():
    clock = FakeClock()
    tap = OpClock(clock, model_part_of)
    walk(tap, clock, [("logits", 1.0)])
    tap.read()
    walk(tap, clock, [("logits", 3.0)])
    assert tap.read() == [{"head": 3.0}]


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_it_sees_every_row_of_the_cost_table_and_changes_nothing(attention):
    model = build(ARCH, dtype="fp32", attention=attention)
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    tap = OpClock(FakeClock(), cost_rows(model.backend.algorithm))
    plain = model(tokens, cache=StaticKVCache(ARCH, batch=1, max_tokens=5, dtype="fp32"), logits="last")
    tap.start()
    cache = StaticKVCache(ARCH, batch=1, max_tokens=5, dtype="fp32")
    assert torch.equal(model(tokens, cache=cache, tap=tap, logits="last"), plain)
    expected = {op.name for op in forward_ops(ARCH, PassShape(new_tokens=5, attention=model.backend.algorithm))}
    assert tap.read()[0].keys() == expected


def test_flash_stays_on():
    tap = OpClock(FakeClock(), cost_rows("flash"))
    assert not tap.wants("layers.0.attention.scores")
    assert not tap.wants("layers.0.attention.pattern")
    assert tap.wants("layers.0.attention.z")


def test_settling_reads_before_marks_run_out_and_loses_no_pass(monkeypatch) -> None:
    monkeypatch.setattr(op_clock, "MARKS_OF_A_PASS", 3)
    clock = FakeClock()
    tap, most = OpClock(clock, model_part_of), 0
    for number in range(5):
        tap.settle()
        walk(tap, clock, [("layers.0.resid_post", 1.0 + number), ("logits", 2.0)])
        most = max(most, len(clock._marks))
    assert most <= 6
    assert [rows["block"] for rows in tap.read()] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert tap.read() == []
