"""The constants that predictions for this machine rest on when nobody names any.

On what `llamalab calibrate` kept for it; else on a short calibration, which for a small model is shorter still, as a
report of it is to be there in seconds. How short it was stands in its file: rounds, and the blocks it was fitted on.
"""

import json
from typing import Any

import torch

from llamalab.analytic.constants import constants_of, default_path, read_calibration
from llamalab.errors import DoesNotFitError
from llamalab.measure.calibration.blocks import Block, Shape, blocks_for
from llamalab.measure.calibration.run import Progress, calibrate
from llamalab.measure.device.machine import calibration_name, device_name
from llamalab.presets import PRESETS

SMALL_BYTES = 2**30  # of weights that run


_BUDGET_S, _SMALL_BUDGET_S = 12.0, 1.5
_SMALL_CHECK = (Block("tiny", PRESETS["tiny"].arch, (Shape(1, 64), Shape(1, 1, 64))),)


def kept_constants(place: torch.device, dtype: str) -> dict[str, Any] | None:
    """What llamalab calibrate kept for this very device and dtype, None where it was not run on it.

    Raises FormatError for a spoilt file.
    """
    path = default_path(calibration_name(place), dtype)
    if not path.exists():
        return None
    data = read_calibration(path)
    constants_of(data, str(path), dtype)
    return data if data.get("title") == device_name(place) else None


def short_calibration(
    place: torch.device, dtype: str, *, weight_bytes: int, progress: Progress
) -> dict[str, Any] | None:
    """What a calibration short enough for `weight_bytes` would leave; None where memory is too small for it."""
    small, blocks = weight_bytes < SMALL_BYTES, blocks_for(place.type)
    try:
        made = calibrate(
            device=str(place), dtype=dtype, budget_s=_SMALL_BUDGET_S if small else _BUDGET_S,
            fit=blocks.fit[:2] if small else blocks.fit, check=_SMALL_CHECK if small else blocks.check[:1],
            progress=progress,
        )  # fmt: skip
    except DoesNotFitError:
        return None
    read: dict[str, Any] = json.loads(made.json)
    return read
