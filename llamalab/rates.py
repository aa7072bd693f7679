"""What may each class of operations reach on this machine? Its rates, from the roofs of a record.

time = t0 + max(FLOPs / peak, bytes / bandwidth), with
  gemm                      GEMM roof and stream roof (weights are read once and not written)
  elementwise, gather       copy roof (as many bytes read as written)
  attention, flash          attention roof and stream roof
  attention, naive          like gemm, its softmax like elementwise
  t0                        launch roof
Bytes that stay in the last-level cache move at the cache roof instead: activations that fit in it
(the operation before has just written them), and weights where the whole model fits in it.
An absent or untrusted roof gives no rates but the reason; it is never guessed.
"""

from llamalab.analytic.ops import Op
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.roofline import Rates
from llamalab.records import Record, Roof


def rates_of(record: Record, op: Op, dtype: str) -> Rates | str:
    """What the record's roofs let an op reach, or why that is not known."""
    peak_kind, bandwidth_kind = _roof_kinds(op)
    if _stays_in_cache(record, op, dtype):
        bandwidth_kind = "cache"
    bandwidth, launch = record.roof(bandwidth_kind, dtype), launch_roof(record)
    peak = record.roof(peak_kind, dtype) if peak_kind else None
    wanted = [(peak_kind, peak)] if peak_kind else []
    for kind, roof in (*wanted, (bandwidth_kind, bandwidth), ("launch", launch)):
        if fault := roof_fault(kind, dtype, roof):
            return fault
    assert bandwidth is not None
    assert launch is not None
    return Rates(peak.per_second if peak else None, bandwidth.per_second or 0.0, launch.seconds or 0.0)


def launch_roof(record: Record) -> Roof | None:
    """The fixed time of a call; it hardly depends on the element type, so any dtype's will do."""
    return next((roof for roof in record.roofs if roof.kind == "launch"), None)


def roof_fault(kind: str, dtype: str, roof: Roof | None) -> str | None:
    """Why a roof cannot carry a prediction; None where it can."""
    if roof is None:
        return f"not predicted: there is no {kind} roof for {dtype}"
    if not roof.trusted:
        return f"not predicted: the {kind} roof for {dtype} is not trusted ({roof.reason or 'no reason recorded'})"
    known = roof.seconds if kind == "launch" else roof.per_second
    return None if known else f"not predicted: the {kind} roof for {dtype} has no value ({roof.reason or 'no reason'})"


def _roof_kinds(op: Op) -> tuple[str | None, str]:
    step = op.name.rpartition(".")[2]
    if step == "flash":
        return "attention", "stream"
    if op.kind == "gemm" or step in ("scores", "values"):
        return "gemm", "stream"
    return None, "copy"


def _stays_in_cache(record: Record, op: Op, dtype: str) -> bool:
    cache = record.roof("cache", dtype)
    if cache is None or cache.capacity_bytes is None or roof_fault("cache", dtype, cache):
        return False
    # Weights and cached keys come round once per pass; activations were written a moment ago.
    once_per_pass = op.kind in ("gemm", "attention")
    needed = weight_bytes(record.llama_arch, dtype) if once_per_pass else op.bytes
    return needed <= cache.capacity_bytes
