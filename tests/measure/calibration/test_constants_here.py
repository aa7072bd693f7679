"""Constants where none are named: those kept for this device, or a calibration as short as the model is small."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.analytic.calibration_files import constants_to_json
from llamalab.analytic.grades import Grade
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates
from llamalab.errors import DoesNotFitError
from llamalab.measure.calibration import constants_here as module
from llamalab.measure.calibration.blocks import CHECKED, FITTED, NAIVE
from llamalab.measure.calibration.result import Calibration
from llamalab.measure.timing.deadline import Deadline

CPU = torch.device("cpu")


# Twelve sequences of 1,501 tokens keep 141 MiB, seven of 601 keep 33: too much beside a small report's other memory.
LIGHT = (FITTED[0], NAIVE, FITTED[1]._replace(shapes=FITTED[1].shapes[:-2]))


class Made:
    json = json.dumps({"made": 1})


@pytest.mark.parametrize(
    ("weight_bytes", "fitted", "checked"),
    [(2**30, (FITTED[0], NAIVE, *FITTED[1:]), CHECKED[:1]), (2**30 - 1, LIGHT, module._SMALL_CHECK)],
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
    assert (asked["deadline"].seconds == 16.0) == (weight_bytes == 2**30)
    near = Deadline(1.2, now=lambda: 0.0)
    module.short_calibration(CPU, "fp32", weight_bytes=weight_bytes, progress=lambda *_: None, deadline=near)
    assert asked["deadline"].seconds == 1.2


def test_there_is_none_where_memory_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def calibrate(**_: object) -> None:
        raise DoesNotFitError("a calibration needs more")

    monkeypatch.setattr(module, "calibrate", calibrate)
    assert module.short_calibration(CPU, "bf16", weight_bytes=1, progress=lambda *_: None) is None


GRADES = [Grade("poor", ("3 rounds",)), Grade("fair", ("5 rounds",)), Grade("good")]


def kept(path: Path, grade: Grade | None, title: str = "A CPU") -> Path:
    more = {} if grade is None else {"grade": grade.json}
    rates = dict.fromkeys(CLASSES, Rates(1e12, 1e10))
    validation = {"prefill_error": 0.1, "decode_error": 0.1}
    path.write_text(
        constants_to_json("cpu", "bf16", "2026-01-02", rates, validation, title=title, memory_bytes=1, **more)
    )
    return path


def made(grade: Grade) -> Calibration:
    return Calibration("cpu", "A CPU", 1, "bf16", "2026-01-03", {}, (), (), 9, 1.0, None, grade, 0.1)


def test_a_worse_calibration_does_not_replace_a_better_one(tmp_path: Path) -> None:
    path = tmp_path / "cpu-bf16.json"
    assert module.kept_better(path, made(GRADES[0])) is None  # there is none
    for there, old in enumerate(GRADES):
        for here, new in enumerate(GRADES):
            assert (module.kept_better(kept(path, old), made(new)) is None) == (here >= there)
    said = module.kept_better(kept(path, GRADES[2]), made(GRADES[0]))
    assert said is not None
    assert "graded good, are kept: the new ones are graded poor: 3 rounds" in said


def test_an_old_file_is_ungraded_which_a_poor_one_does_not_replace(tmp_path: Path) -> None:
    path = kept(tmp_path / "cpu-bf16.json", None)
    assert [module.kept_better(path, made(grade)) is None for grade in GRADES] == [False, True, True]


def test_what_another_machine_or_nobody_can_use_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cpu-bf16.json"
    assert module.kept_better(kept(path, GRADES[2], title="Another CPU"), made(GRADES[0])) is None
    path.write_text("{")
    assert module.kept_better(path, made(GRADES[0])) is None
