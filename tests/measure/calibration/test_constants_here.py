"""Constants where none are named: those kept for this device, or a calibration as short as the model is small."""

import json
from typing import Any

import pytest
import torch

from llamalab.errors import DoesNotFitError
from llamalab.measure.calibration import constants_here as module
from llamalab.measure.calibration.blocks import CHECKED, FITTED

CPU = torch.device("cpu")


class Made:
    json = json.dumps({"made": 1})


@pytest.mark.parametrize(
    ("weight_bytes", "fitted", "checked"), [(2**30, FITTED, CHECKED[:1]), (2**30 - 1, FITTED[:2], module._SMALL_CHECK)]
)
def test_a_small_model_is_calibrated_for_in_less_time(
    monkeypatch: pytest.MonkeyPatch, weight_bytes: int, fitted: object, checked: object
) -> None:
    asked: dict[str, Any] = {}

    def calibrate(**options: object) -> Made:
        asked.update(options)
        return Made()

    monkeypatch.setattr(module, "calibrate", calibrate)
    made = module.short_calibration(CPU, "fp32", weight_bytes=weight_bytes, progress=lambda *_: None)
    assert made == {"made": 1}
    assert (asked["fit"], asked["check"], asked["dtype"], asked["device"]) == (fitted, checked, "fp32", "cpu")
    assert (asked["budget_s"] == 12.0) == (weight_bytes == 2**30)


def test_there_is_none_where_memory_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def calibrate(**_: object) -> None:
        raise DoesNotFitError("a calibration needs more")

    monkeypatch.setattr(module, "calibrate", calibrate)
    assert module.short_calibration(CPU, "bf16", weight_bytes=1, progress=lambda *_: None) is None
