"""The reference of a bench made here: a short measurement of roofs and constants, or why there is none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from llamalab.errors import LlamaLabError
from llamalab.measure.bench.pace import Pace
from llamalab.measure.bench.reference import Reference, measure_reference
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.bench.settings import BenchSettings
from llamalab.measure.device.environment import environment
from llamalab.measure.device.machine import (
    clock_for,
    release_memory,
)
from llamalab.measure.roofs.machine import Machine
from llamalab.plain_text import sentence
from llamalab.records.record import Record, unmeasured


def reference_here(bench: BenchSettings, cases: Sequence[BenchCase], pace: Pace) -> Reference:
    """Roofs and constants of this machine; where they cannot be measured, the reason instead of every prediction.

    `pace` gets the predicted times of `cases` as soon as the roofs are known.
    """

    def expect(record: Record, calibration_s: float) -> None:
        roofs = reference_from(bench, record)
        pace.expect([roofs.predicted_s(case) for case in cases], calibration_s)

    machine = Machine(
        bench.place, clock_for(bench.place), bench.dtype, weight_dtype=bench.weight_dtype, kernel_rows=bench.kernel_rows
    )
    try:
        with torch_threads(bench.threads):
            record = measure_reference(
                bench.name,
                bench.arch,
                machine,
                weight_bytes=bench.depth.held_weight_bytes(bench.dtype, bench.kept),
                team=bench.team,
                progress=pace.before,
                roofs_known=expect,
            )
        return reference_from(bench, record)
    except (LlamaLabError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:  # no prediction
        release_memory(bench.place)
        record = unmeasured(bench.name, bench.arch, bench.dtype, environment(bench.place, ""), [])
        reason = sentence(str(error), 200) or type(error).__name__
        return reference_from(bench, record, f"not predicted: {reason}")


def reference_from(bench: BenchSettings, record: Record, fault: str | None = None) -> Reference:
    """Predictions for the tests of a bench from a record's roofs and constants; `fault` says why there are none."""
    return Reference(
        record,
        bench.arch,
        bench.dtype,
        bench.backend.algorithm,
        ranks=bench.ranks,
        fault=fault,
        kept=bench.kept,
        kv_dtype=bench.kv_dtype,
    )


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Sets the number of the CPU's threads for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
