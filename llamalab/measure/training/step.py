"""Time and memory of a training step: both predicted, and the peak memory measured."""

from typing import NamedTuple

import torch

from llamalab.analytic.fine_tuning import tuning_memory, tuning_work
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.training_time import step_time
from llamalab.analytic.tuning import Tuning
from llamalab.arch import LlamaArch
from llamalab.comparison.basis import roof_fault
from llamalab.errors import UnavailableError
from llamalab.measure.device.machine import measure_peak
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.quick import quick_gemm
from llamalab.measure.training.rates import training_rates
from llamalab.train.trainer import Trainer, TrainingPlan


class StepForecast(NamedTuple):
    """The prediction of a step. Time is None with the `reason`; so is the product peak that MFU refers to."""

    flops: int
    predicted_memory_bytes: int
    peak_flops_per_s: float | None
    predicted_step_s: float | None
    predicted_forward_s: float | None
    predicted_backward_s: float | None
    predicted_update_s: float | None
    reason: str | None

    def mfu(self, step_s: float) -> float | None:
        """The share of the peak of products that a step of so many seconds reached; None where there is no peak."""
        return self.flops / step_s / self.peak_flops_per_s if self.peak_flops_per_s else None


def expected_step(machine: Machine, arch: LlamaArch, plan: TrainingPlan) -> StepForecast:
    """Count a step's FLOPs and bytes, and predict its time from rates that are measured now."""
    step, shape = tuning(arch, plan, machine.dtype), PassShape(plan.seq, batch=plan.batch, dtype=machine.dtype)
    counted = tuning_work(step).flops, tuning_memory(step).total_bytes
    roof = quick_gemm(machine, arch)
    peak = None if roof_fault("gemm", machine.dtype, roof) else roof.per_second
    try:
        rates = training_rates(machine, arch, shape)
    except UnavailableError as error:
        return StepForecast(*counted, peak, *(None, None, None, None), reason=str(error))
    time = step_time(arch, rates, shape, accumulate=plan.accumulate)
    return StepForecast(*counted, peak, time.total_s, *time, reason=None)


def tuning(arch: LlamaArch, plan: TrainingPlan, dtype: str) -> Tuning:
    """A step of llamalab.train in the terms of the calculators."""
    precision = "fp32" if dtype == "fp32" else "masters"
    return Tuning(
        arch, plan.seq, plan.batch, precision=precision, implementation="llamalab", accumulate=plan.accumulate
    )


def held_bytes(trainer: Trainer, place: torch.device) -> int | None:
    """Bytes of weights and optimiser, and peak bytes added by the passes of a step; None where they are not counted.

    No step is taken: gradients of the next one are computed and dropped.
    """

    def passes() -> None:
        trainer.pass_gradients()
        trainer.optimizer.zero_grad(set_to_none=True)

    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    held = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in (*trainer.model.parameters(), *trainer.masters.named.values(), *states)
        if isinstance(one, torch.Tensor)
    }
    peak = measure_peak(passes, place).peak_bytes
    return None if peak is None else sum(held.values()) + peak
