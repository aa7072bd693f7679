"""The default constants of predictions for this machine.

They are those that `llamalab calibrate` stored for it, else those of a short calibration, which is even shorter for a
small model so that its report takes seconds. The file records rounds and the fitted blocks.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from llamalab.analytic import grades
from llamalab.analytic.calibration_files import default_path, parsed_constants, read_calibration
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import SMALL_MODEL_BYTES
from llamalab.errors import DoesNotFitError, LlamaLabError
from llamalab.measure.calibration.blocks import Block, BlockPass, blocks_for
from llamalab.measure.calibration.result import Calibration
from llamalab.measure.calibration.run import calibrate
from llamalab.measure.device.machine import calibration_name, device_name
from llamalab.measure.timing.deadline import Deadline, ProgressCallback
from llamalab.presets import PRESETS
from llamalab.units import KeptWeights

_BUDGET_S, _SMALL_BUDGET_S = 16.0, 3.6  # of building and rounds
_LEAST_S = 1.0
# A small model's report stays below 1 GiB in all: copies of blocks, and the cache of any pass.
_SMALL_COPIES_BYTES, _SMALL_KV_BYTES = 2**28, 2**25
_SMALL_CHECK = (Block("tiny", PRESETS["tiny"].arch, (BlockPass(1, 64), BlockPass(1, 1, 64))),)


def kept_constants(place: torch.device, dtype: str, weight_dtype: str | None = None) -> dict[str, Any] | None:
    """The constants that llamalab calibrate stored for this device and dtypes; None where there are none.

    Raises FormatError for a damaged file.
    """
    path = default_path(calibration_name(place), dtype, weight_dtype)
    if not path.exists():
        return None
    data = read_calibration(path)
    parsed_constants(data, str(path), dtype)
    return data if data.get("title") == device_name(place) else None


class ShortPlan(NamedTuple):
    """A calibration whose length suits the weights that run: blocks, bytes of their copies, and seconds."""

    fit: tuple[Block, ...]
    check: tuple[Block, ...]
    copies_bytes: int | None
    budget_s: float


def short_plan(place: torch.device, weight_bytes: int) -> ShortPlan:
    """The plan for this many bytes of weights; cheap blocks first, since flash attention is compared with naive.

    >>> short_plan(torch.device("cpu"), 2**20).budget_s < short_plan(torch.device("cpu"), 2**34).budget_s
    True
    """
    small, blocks = weight_bytes < SMALL_MODEL_BYTES, blocks_for(place)
    fit, check = (tuple(map(_light, blocks.fit[:2])), _SMALL_CHECK) if small else (blocks.fit, blocks.check[:1])
    copies_bytes, budget_s = (_SMALL_COPIES_BYTES, _SMALL_BUDGET_S) if small else (None, _BUDGET_S)
    return ShortPlan((fit[0], blocks.naive, *fit[1:]), check, copies_bytes, budget_s)


def short_calibration(
    place: torch.device,
    dtype: str,
    *,
    weight_bytes: int,
    progress: ProgressCallback,
    deadline: Deadline | None = None,
    kept: KeptWeights | None = None,
) -> dict[str, Any] | None:
    """Constants of a calibration whose length suits `weight_bytes`; None where memory is too small for it.

    The matrices of its blocks are in the storage `kept`, where they are quantised.

    Shorter still where the deadline is nearer, down to a second.
    """
    plan = short_plan(place, weight_bytes)
    left_s = plan.budget_s if deadline is None else deadline.left_s
    try:
        made = calibrate(
            device=str(place),
            dtype=dtype,
            deadline=Deadline(max(_LEAST_S, min(plan.budget_s, left_s))),
            fit=plan.fit,
            check=plan.check,
            copies_bytes=plan.copies_bytes,
            weight_dtype=kept.storage if kept else None,
            kernel_rows=kept.kernel_rows if kept else None,
            progress=progress,
        )
    except DoesNotFitError:
        return None
    read: dict[str, Any] = json.loads(made.json)
    return read


def _light(block: Block) -> Block:
    """The block without passes whose cache alone exceeds the memory of a small report."""
    sizes = {
        shape: kv_bytes(block.arch, batch=shape.batch, seq=shape.past + shape.new, dtype="bf16")
        for shape in block.shapes
    }
    return block._replace(shapes=tuple(shape for shape in block.shapes if sizes[shape] <= _SMALL_KV_BYTES))


def kept_better(path: Path, made: Calibration) -> str | None:
    """Why a calibration must not replace the one at `path`, of the same machine and dtype; None where it may."""
    try:
        kept = read_calibration(path)
        parsed_constants(kept, str(path), made.dtype)
    except LlamaLabError:  # the file is missing or of another kind
        return None
    grade = grades.read_grade(kept.get("grade"))
    longer = made.quick and not kept.get("quick", False)  # of two with the same grade the longer one is kept
    worse = not made.grade.better_than(grade) if longer else grade.better_than(made.grade)
    if kept.get("title") != made.title or not worse:
        return None
    return (
        f"the constants of {kept['made_on']} at {path}, graded {grade.name}, are kept: the new ones are graded "
        f"{made.grade.words}"
    )
