"""The twin that taps are held against: the same model, and not one question about a tap left in it."""

import dis
import types
from typing import Any

import pytest
import torch

from experiments.common.tap_twin import twin_of, untapped
from experiments.tap_cost import ARCH, LIMITS, conclude, measure, predict, ratios_in_words, recompute
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.measure.timing.timer import Plan
from llamalab.model import build


def test_the_twin_computes_the_same_and_shares_the_weights() -> None:
    model = build(ARCH.replace(n_layers=2), dtype="fp32")
    twin, tokens = twin_of(model), torch.arange(9)[None]
    assert torch.equal(twin(tokens), model(tokens))
    assert twin.layers[1].attention.wq.weight is model.layers[1].attention.wq.weight
    assert type(model).__name__ == type(twin).__name__
    assert type(model) is not type(twin)


def test_no_code_of_the_twin_reads_a_tap() -> None:
    """And the model's own does, so that this could fail."""
    model = build(ARCH.replace(n_layers=1), dtype="fp32")
    assert any("tap" in names_read(module) for module in model.modules())
    assert not any("tap" in names_read(module) for module in twin_of(model).modules())


def test_what_is_left_is_the_code_that_a_model_without_taps_would_have() -> None:
    def plain(self: Any, x: Any, tap: Any = None) -> Any:
        h = self.norm(x)
        return h

    def tapped(self: Any, x: Any, tap: Any = None) -> Any:
        h = self.norm(x)
        h = h if tap is None else tap("norm", h)
        return h

    assert untapped(tapped).__code__.co_code == plain.__code__.co_code


def names_read(module: torch.nn.Module) -> set[str]:
    functions = [getattr(type(module), name, None) for name in ("forward", "_attend")]
    codes: list[Any] = [function.__code__ for function in functions if isinstance(function, types.FunctionType)]
    return {str(step.argval) for code in codes for step in dis.get_instructions(code) if step.opname.startswith("LOAD")}


def test_all_modules_of_a_kind_share_one_class_as_in_the_model() -> None:
    """A class apiece would run other code in each layer: such a twin is 1 % slower than it should be."""
    twin = twin_of(build(ARCH.replace(n_layers=3), dtype="fp32"))
    assert len({type(layer) for layer in twin.layers}) == 1
    assert len({type(layer.attention) for layer in twin.layers}) == 1


def test_every_variant_is_measured_beside_the_twin() -> None:
    found = measure(1, Plan(0.0, 3, 3, 1))
    assert (found["seq"], found["rounds"]) == (1, 3)
    assert set(found["ratios"]) == {"twin again", *LIMITS}


def test_recomputing_is_counted_by_the_cost_table() -> None:
    """One row of one head at 256 keys of 64: 2 * 64 * 256 of the product and 3 * 256 of the softmax a layer."""
    row = predict(AttentionShape(1, 1, 256, 1, 1, 64, "fp32", "fp32"), 8, 1e9, 1e12)
    assert (row["flops"], row["kept_bytes"]) == (8 * (2 * 64 * 256 + 3 * 256), 8 * 256 * 4)
    assert row["least_s"] == pytest.approx(row["flops"] / 1e9)


def test_what_is_recomputed_is_held_and_priced() -> None:
    one, whole = recompute([48], Plan(0.0, 3, 3, 1))
    assert (one["asked"], whole["asked"]) == ("last row of one head", "whole pattern")
    assert whole["predicted"]["kept_bytes"] == 8 * 48 * one["predicted"]["kept_bytes"] == 8 * 8 * 48 * 48 * 4
    # The last layer's pattern is held at the end, the others' from their layer on.
    assert whole["predicted"]["kept_bytes"] * 7 // 8 <= whole["added_peak_bytes"] < 2 * whole["predicted"]["kept_bytes"]
    assert one["added_peak_bytes"] < whole["added_peak_bytes"] // 8


def test_what_is_above_its_limit_is_named() -> None:
    ratios = {name: {"median": 1.0} for name in LIMITS} | {"unused": {"median": 1.02}}
    assert conclude([{"seq": 256, "ratios": ratios}]) == ["unused at 256 tokens: 1.02 is above 1.005"]
    said = ratios_in_words([{"seq": 256, "rounds": 9, "ratios": ratios}])
    assert said.startswith(
        "Time over that of a twin without taps. At 256 tokens, over 9 rounds: unused 1.020, captured"
    )
    assert said.endswith("unused at 256 tokens: 1.02 is above 1.005.")
