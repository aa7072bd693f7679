"""The predicted time of a bench's tests on this machine, and the highest rates that its roofs allow.

Roofs are measured in the bench's own run, briefly. Predictions rest on the constants that llamalab calibrate stored for
this device; without any, on a short calibration. Every pass of a test is predicted separately, at its own context.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch

from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.op import Op, add_up
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.rank_costs import RankCosts
from llamalab.arch import LlamaArch
from llamalab.comparison.basis import OWN_ROOFS, basis_of, roof_fault
from llamalab.errors import InputError
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.calibration.constants_here import kept_constants, short_calibration, short_plan
from llamalab.measure.device.environment import environment
from llamalab.measure.ranks.constants import ranks_constants
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.quick import quick_roofs
from llamalab.measure.roofs.shape_products import products_here
from llamalab.measure.timing.deadline import ProgressCallback, part_of
from llamalab.parallel.team import Team
from llamalab.records.record import Record, unmeasured
from llamalab.units import KeptWeights


class WorkTotals(NamedTuple):
    """The work of a repetition: causal matrix FLOPs and bytes moved, of all its passes."""

    flops: int
    bytes: int


class Reference:
    """The machine that a model is benched on: its roofs and the basis of predictions, both from a record.

    `fault` is the reason why nothing can be predicted, if any. Raises InputError for a record of another dtype.
    """

    def __init__(
        self,
        record: Record,
        arch: LlamaArch,
        dtype: str,
        algorithm: str,
        *,
        ranks: int = 1,
        fault: str | None = None,
        kept: KeptWeights | None = None,
        kv_dtype: str | None = None,
    ) -> None:
        if record.dtype != dtype:
            raise InputError(f"a bench in {dtype} must have a reference in {dtype}; got one in {record.dtype}")
        self.record = replace(record, arch=arch.as_dict())
        self.basis, self._algorithm, self._ranks = basis_of(self.record), algorithm, ranks
        self._fault, self._kept, self._kv_dtype = fault, kept, kv_dtype
        self._costs = RankCosts.of(record.constants if ranks > 1 else None)

    def for_model(self, algorithm: str, kept: KeptWeights | None) -> "Reference":
        """The same machine for a model with another attention cost model, or another storage of weights."""
        arch, dtype = self.record.llama_arch, self.record.dtype
        return Reference(
            self.record,
            arch,
            dtype,
            algorithm,
            ranks=self._ranks,
            fault=self._fault,
            kept=kept,
            kv_dtype=self._kv_dtype,
        )

    @property
    def words(self) -> str:
        """The basis of predictions, in words."""
        return "roofs alone" if self.basis.words == OWN_ROOFS else self.basis.words

    def roof(self, kind: str) -> float | None:
        """The ceiling of a kind per second; None where it is not trusted. The stream is that of the weights' type."""
        dtype = self.record.weight_dtype or self.record.dtype if kind == "stream" else self.record.dtype
        roof = self.record.roof(kind, dtype)
        return roof.per_second if roof and roof_fault(kind, dtype, roof) is None else None

    def work(self, case: BenchCase) -> WorkTotals:
        """The work of one repetition of a test."""
        totals = [add_up(ops) for ops in self._tables(case)]
        return WorkTotals(sum(one.flops_causal for one in totals), sum(one.bytes for one in totals))

    def predicted_s(self, case: BenchCase) -> float | str:
        """Seconds of one repetition, or the reason why they are unknown."""
        if self._fault is not None:
            return self._fault
        known: dict[Op, float] = {}  # only attention differs from step to step
        rows_s, sent_s, sends = 0.0, 0.0, 0
        for ops in self._tables(case):
            for op in ops:
                if op not in known:
                    prediction = self.basis.predict(op, self.record.dtype)
                    if isinstance(prediction, str):
                        return prediction
                    known[op] = prediction.time_s
                if op.kind == "collective":
                    sent_s, sends = sent_s + op.count * known[op], sends + op.count
                else:
                    rows_s += op.count * known[op]
        own_s = self._costs.own_s(rows_s, sends)
        return own_s + self._costs.waiting_s(own_s) + sent_s

    def _tables(self, case: BenchCase) -> list[tuple[Op, ...]]:
        return [
            model_ops(
                self.record.llama_arch,
                PassShape(
                    new_tokens=new,
                    context_tokens=context,
                    batch=case.batch,
                    dtype=self.record.dtype,
                    kv_dtype=self._kv_dtype,
                    attention=self._algorithm,
                    tensor_parallel=self._ranks,
                ),
                kept=self._kept,
            )
            for new, context in case.passes
        ]


def measure_reference(
    name: str,
    arch: LlamaArch,
    machine: Machine,
    *,
    weight_bytes: int,
    team: Team | None = None,
    progress: ProgressCallback,
    roofs_known: Callable[[Record, float], None] = lambda record, calibration_s: None,
) -> Record:
    """Measure the roofs, and calibrate briefly: the fewer `weight_bytes` there are to run, the shorter.

    Of a team the constants are those of its ranks side by side.

    `progress` is called with each step and the share of the calibration that is done, `roofs_known` before that with
    the roofs and the seconds that it may take.

    Raises FormatError for a spoilt calibration.
    """
    place, dtype = machine.device, machine.dtype
    kept = None if machine.weight_dtype is None else KeptWeights(machine.weight_dtype, None, machine.kernel_rows)
    constants = kept_constants(place, dtype, machine.weight_dtype)
    if team is not None:
        constants = ranks_constants(team, dtype, weight_bytes, kept)
    progress("products of this machine", 0.0)
    products_here(place, dtype, arch, machine.weight_dtype)  # stored: calibration and tests multiply by them
    with torch.inference_mode():
        roofs = quick_roofs(machine, arch, progress=part_of(progress, 0.0, 0.0))
    record = unmeasured(name, arch, dtype, environment(place, ""), roofs, constants)
    record = replace(record, weight_dtype=machine.weight_dtype, kernel_rows=machine.kernel_rows)
    roofs_known(record, 0.0 if constants else short_plan(place, weight_bytes).budget_s)
    if constants is None:
        constants = short_calibration(
            place,
            dtype,
            weight_bytes=weight_bytes,
            kept=kept,
            progress=part_of(progress, 0.0, 1.0, "calibration, "),
        )
    return replace(record, constants=constants)
