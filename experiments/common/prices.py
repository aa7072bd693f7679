"""What passes should take on this machine, by constants of its own: those kept, or a calibration of seconds."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.op import Op
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.comparison.basis import basis_of
from llamalab.errors import UnavailableError
from llamalab.measure.bench.reference import measure_reference
from llamalab.measure.device.machine import clock_for
from llamalab.measure.roofs.machine import Machine
from llamalab.model.fastest import fastest_backend
from llamalab.records.record import Record


def measured_machine(arch: LlamaArch, dtype: str, device: str = "cpu") -> Record:
    """The roofs and constants of this machine for models of about this size."""
    place = torch.device(device)
    machine = Machine(place, clock_for(place), dtype)
    size = weight_bytes(arch, dtype)
    return measure_reference("model", arch, machine, weight_bytes=size, progress=lambda label, done: None)


class Prices:
    """Seconds of passes of one architecture on a machine that `measured_machine` measured."""

    def __init__(self, machine: Record, arch: LlamaArch) -> None:
        self.arch, self.dtype = arch, machine.dtype
        self._basis = basis_of(replace(machine, arch=arch.as_dict()))
        place = torch.device("cpu" if machine.environment.device == "cpu" else "cuda")
        self._algorithm = fastest_backend(place, Machine(place, clock_for(place), self.dtype).torch_dtype).algorithm

    def pass_s(self, new: int, context: int | Sequence[int], *, batch: int = 1, logits: str = "last") -> float:
        """A pass of `new` tokens of each sequence, which then have `context` tokens in view."""
        return self._sum(self._ops(new, context, batch, logits))

    def row_by_row_s(self, contexts: Sequence[int]) -> float:
        """A step of sequences whose attention is a call for each of them, all else one for all."""
        shared = (op for op in self._ops(1, contexts, len(contexts), "last") if op.kind != "attention")
        return self._sum(shared) + sum(
            self._sum(op for op in self._ops(1, context, 1, "last") if op.kind == "attention") for context in contexts
        )

    def copy_s(self, moved_bytes: int, calls: int) -> float:
        """So many bytes read and as many written by calls of a copy."""
        each = Op(
            "copy",
            "elementwise",
            calls,
            read_bytes=moved_bytes // calls,
            written_bytes=moved_bytes // calls,
            roof="copy",
            part="attention",
        )
        return self._sum([each])

    def _ops(self, new: int, context: int | Sequence[int], batch: int, logits: str) -> tuple[Op, ...]:
        return model_ops(
            self.arch,
            PassShape(
                new_tokens=new,
                context_tokens=context,
                batch=batch,
                dtype=self.dtype,
                attention=self._algorithm,
                logits=logits,
            ),
        )

    def _sum(self, ops: Iterable[Op]) -> float:
        return sum(op.count * self._op_s(op) for op in ops)

    def _op_s(self, op: Op) -> float:
        found = self._basis.predict(op, self.dtype)
        if isinstance(found, str):
            raise UnavailableError(f"a pass must be predictable to be held against what is measured; {found}")
        return found.time_s
