"""The twin that taps are held against: the same model, and not one question about a tap left in it."""

import dis
import types
from typing import Any

import torch

from experiments.tap_cost import ARCH, LIMITS, conclude, measure, twin_of
from llamalab.measure.timer import Plan
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


def names_read(module: torch.nn.Module) -> set[str]:
    functions = [getattr(type(module), name, None) for name in ("forward", "_attend")]
    codes: list[Any] = [function.__code__ for function in functions if isinstance(function, types.FunctionType)]
    return {str(step.argval) for code in codes for step in dis.get_instructions(code) if step.opname.startswith("LOAD")}


def test_every_variant_is_measured_in_the_same_rounds() -> None:
    found = measure(1, Plan(0.0, 3, 3, 1))
    assert (found["seq"], found["rounds"]) == (1, 3)
    assert set(found["ratios"]) == {"twin again", *LIMITS}


def test_what_is_above_its_limit_is_named() -> None:
    ratios = {name: {"median": 1.0} for name in LIMITS} | {"unused": {"median": 1.02}}
    assert conclude([{"seq": 256, "ratios": ratios}]) == ["unused at 256 tokens: 1.02 is above 1.005"]
