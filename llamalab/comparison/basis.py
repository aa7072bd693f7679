"""The rates that each class of operations may reach on this machine, from the roofs of a record.

time = t0 + max(FLOPs / peak, bytes / bandwidth), with
  gemm                      GEMM roof and stream roof (weights are read once and not written)
  elementwise, gather       copy roof (as many bytes read as written)
  attention, flash          attention roof and stream roof
  attention, naive          like gemm, its softmax like elementwise (of a calibration: constants of its own)
  t0                        launch roof
Bytes that stay in the last-level cache move at the cache roof instead: activations that fit in it
(the operation before has just written them), and weights where the whole model fits in it.
An absent or untrusted roof gives no rates, only the reason; no default replaces it.

Where the machine was calibrated, its constants give the time, and the bound is at the better of both roofs.
"""

from collections.abc import Iterable
from dataclasses import replace

from llamalab.analytic.calibration_files import parsed_constants
from llamalab.analytic.kept_weights import model_weight_bytes
from llamalab.analytic.op import ROOFS, Op
from llamalab.analytic.rate_constants import Constants
from llamalab.analytic.roofline import Prediction, Rates, known_rates, predict_op
from llamalab.arch import LlamaArch
from llamalab.errors import UnknownNameError
from llamalab.records.record import Record
from llamalab.records.roof import Roof
from llamalab.startup.hints import NamedTuple

OWN_ROOFS = "this record's own roofs"


class RecordBasis(NamedTuple):
    """The basis of a record's predictions: constants calibrated on its machine, else its own roofs."""

    record: Record
    constants: Constants | None

    @property
    def words(self) -> str:
        """The basis in a few words."""
        if self.constants is None:
            return OWN_ROOFS
        lacking = self.constants.lacking
        beside = f"; {', '.join(lacking)} from roofs alone, as the calibration has no kernel of it" if lacking else ""
        return f"constants {self.constants.basis}{beside}"

    def calibrated(self, op: Op) -> Rates | None:
        """The constants that predict an op; None where only roofs are known."""
        if self.constants is None:
            return None
        if op.is_naive_step:  # constants of the fused kernel do not apply to it
            return self.constants.rates.get(op.rate_class)
        return known_rates(op, self.constants.rates)

    def predict(self, op: Op, dtype: str) -> Prediction | str:
        """The time of one occurrence of an op, or the reason why it is unknown."""
        rates = rates_of(self.record, op, dtype)
        bound = rates if isinstance(rates, str) else predict_op(op, rates)
        own = self.calibrated(op) if dtype == self.record.dtype else None
        if own is None:
            return bound
        calibrated = predict_op(op, own)
        if isinstance(bound, str):  # constants stay valid without a trusted roof
            return calibrated
        # The higher of two ceilings is the more reliable one: the record's own may be from a busy machine.
        return calibrated._replace(bound_s=min(calibrated.bound_s, bound.bound_s))

    def pass_s(self, ops: Iterable[Op], dtype: str) -> float | None:
        """Seconds of all occurrences of the operations of a pass; None where one of them has no prediction."""
        total_s = 0.0
        for op in ops:
            prediction = self.predict(op, dtype)
            if isinstance(prediction, str):
                return None
            total_s += op.count * prediction.time_s
        return total_s

    def of(self, arch: LlamaArch) -> "RecordBasis":
        """The same machine with another model, run whole; whether its weights stay in a cache is decided anew."""
        return self._replace(record=replace(self.record, arch=arch.as_dict(), passes=[]))

    def interval(self, op: Op, prediction: Prediction) -> tuple[float, float] | None:
        """Low and high end of an op's predicted time; None where the basis has none."""
        if self.constants is None or self.calibrated(op) is None:
            return None
        low, high = self.constants.interval_of(op, prediction.time_s, prediction.bound_s)
        return None if high is None else (low, high)

    def outside(self, op: Op) -> bool:
        """Whether an op is far smaller or larger than all kernels that its constants were fitted on."""
        return self.calibrated(op) is not None and self.constants is not None and self.constants.distance(op) > 1


def basis_of(record: Record) -> RecordBasis:
    """The basis of a record. Raises FormatError for invalid constants."""
    if record.constants is None:
        return RecordBasis(record, None)
    return RecordBasis(record, parsed_constants(record.constants, "the record's constants", record.dtype))


def rates_of(record: Record, op: Op, dtype: str) -> Rates | str:
    """The rates of an op under the record's roofs, or the reason why they are unknown."""
    if op.kind == "collective":
        return "not predicted: the links between ranks were not measured"
    peak_kind, bandwidth_kind = roof_kinds(record, op, dtype)
    bandwidth = record.roof(bandwidth_kind, bandwidth_dtype(record, op, bandwidth_kind, dtype))
    launch = launch_roof(record)
    peak = record.roof(peak_kind, dtype) if peak_kind else None
    wanted = [(peak_kind, peak)] if peak_kind else []
    for kind, roof in (*wanted, (bandwidth_kind, bandwidth), ("launch", launch)):
        if fault := roof_fault(kind, dtype, roof):
            return fault
    assert bandwidth is not None
    assert launch is not None
    return Rates(peak.per_second if peak else None, bandwidth.per_second or 0.0, launch.seconds or 0.0)


def launch_roof(record: Record) -> Roof | None:
    """The fixed time of a call, which hardly depends on the dtype, so that any dtype's roof is used."""
    return next((roof for roof in record.roofs if roof.kind == "launch"), None)


def roof_fault(kind: str, dtype: str, roof: Roof | None) -> str | None:
    """Why a roof is not used for predictions; None where it is."""
    if roof is None:
        return f"not predicted: there is no {kind} roof for {dtype}"
    if not roof.trusted:
        return f"not predicted: the {kind} roof for {dtype} is not trusted ({roof.reason or 'no reason recorded'})"
    known = roof.seconds if kind == "launch" else roof.per_second
    return None if known else f"not predicted: the {kind} roof for {dtype} has no value ({roof.reason or 'no reason'})"


def roof_kinds(record: Record, op: Op, dtype: str) -> tuple[str | None, str]:
    """The kinds of roofs of an op: of its arithmetic, None where that never limits it, and of its bytes."""
    peak, bandwidth = _usual_kinds(op)
    if op.kind in ("gemm", "attention"):  # weights and cached keys are read once per pass
        return peak, "cache" if weights_held(record, dtype) else bandwidth
    return peak, "cache" if _held(record, op.bytes, dtype) else bandwidth


def weight_roof_kind(record: Record, dtype: str) -> str:
    """The roof of a pass that reads all weights: memory's, or the cache's where they stay in it."""
    return "cache" if weights_held(record, dtype) else "stream"


def weight_roof_dtype(record: Record, dtype: str) -> str:
    """The dtype of the roof of `weight_roof_kind`: quantised weights have a stream roof of their own."""
    return record.weight_dtype or dtype if weight_roof_kind(record, dtype) == "stream" else dtype


def bandwidth_dtype(record: Record, op: Op, kind: str, dtype: str) -> str:
    """The dtype of an op's byte roof: that of quantised weights for products that stream them."""
    return record.weight_dtype or dtype if op.kind == "gemm" and kind == "stream" else dtype


def weights_held(record: Record, dtype: str) -> bool:
    """Whether all weights that ran stay in the last-level cache."""
    return _held(record, weights_that_ran(record), dtype)


def weights_that_ran(record: Record) -> int:
    """Bytes of the weights that the passes of a record read: those of the blocks that ran."""
    layers = max((run.layers_measured for run in record.passes), default=record.llama_arch.n_layers)
    return model_weight_bytes(record.llama_arch.replace(n_layers=layers), record.dtype, record.kept)


def _usual_kinds(op: Op) -> tuple[str | None, str]:
    if op.roof not in ROOFS:
        raise UnknownNameError(f"roof of {op.name}", op.roof, ROOFS)
    return (None, "copy") if op.roof == "copy" else (op.roof, "stream")


def _held(record: Record, needed_bytes: int, dtype: str) -> bool:
    """Whether so many bytes, read or written just before, are still in the cache."""
    cache = record.roof("cache", dtype)
    if cache is None or cache.capacity_bytes is None or roof_fault("cache", dtype, cache):
        return False
    return needed_bytes <= cache.capacity_bytes
