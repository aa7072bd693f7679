"""The inputs of a page's script: the model, and the constants of this machine and of known devices.

`templates/model.js` repeats formulas of llamalab.analytic; a test compares the two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llamalab.analytic.constants import choose
from llamalab.analytic.kept_weights import constants_of_group
from llamalab.analytic.roofline import Rates
from llamalab.arch import ON_DISK, LlamaArch
from llamalab.arch.fields import valid_kv_heads
from llamalab.comparison.basis import launch_roof, roof_fault, weights_held
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.what_if import Elsewhere, as_measured, predicted_workload
from llamalab.errors import InputError, UnavailableError
from llamalab.hardware import HardwareSpec
from llamalab.records.record import Record
from llamalab.units import DTYPES, PLAIN_DTYPES

_ROOFS = ("gemm", "attention", "stream", "copy", "cache")
WEIGHTS = ("fp8", "int8", "int4")  # besides the record's own dtype
HERE = "this machine"
SHAPE = (  # fields of a runnable architecture that the script reads
    "dim",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "rotary_dim",
    "ffn_dim",
    "vocab_size",
    "tied_embeddings",
    "qkv_bias",
    "o_bias",
    "ffn_bias",
    "qk_norm",
    "window",
    "full_layers",
)


_WITHOUT_COST = ("rope_scaling", "rotary_fraction", *ON_DISK)  # the script reads the fraction as rotary_dim


def script_knows(arch: LlamaArch) -> bool:
    """Whether the script has formulas for all fields of an architecture that change its costs."""
    return set(arch.beyond_llama_2) <= {*SHAPE, *_WITHOUT_COST}


def page_settings(comparison: Comparison, rows: Sequence[Elsewhere]) -> dict[str, Any]:
    """All inputs of the script as plain data: amounts in bytes, seconds and FLOPs."""
    arch, work, dtype = comparison.arch, predicted_workload(comparison), comparison.record.dtype
    weight, kv = comparison.record.weight_dtype or dtype, comparison.record.kv_dtype or dtype
    devices = [_device(row.spec, dtype) for row in rows if row.times]
    return {
        "arch": {name: getattr(arch, name) for name in SHAPE},
        "dtype": dtype,
        "dtypes": {one.name: [one.bits, one.group, one.scale_bits] for one in DTYPES.values()},
        "choices": {
            "weight": list(dict.fromkeys((dtype, weight, *WEIGHTS))),
            "kv": list(dict.fromkeys((dtype, kv, *(one for one in PLAIN_DTYPES if DTYPES[one].bits == 8)))),
            "kv_heads": list(valid_kv_heads(arch.n_heads))[::-1],
            "attention": ["flash", "naive"],
        },
        "start": {
            "prompt": work.prompt,
            "generate": work.generate,
            "batch": work.batch,
            "weight": weight,
            "kv": kv,
            "kv_heads": arch.n_kv_heads,
            "attention": as_measured(comparison).attention,
            "fused": False,
            "place": 0,
        },
        "places": [_here(comparison), *(one for one in devices if one)],
    }


def _here(comparison: Comparison) -> dict[str, Any]:
    """This machine: its calibrated constants or its roofs, and the width of a run's interval."""
    record, constants = comparison.record, comparison.basis.constants
    found: dict[str, Any] = {}
    for kind in _ROOFS:
        roof = record.roof(kind, record.dtype)
        found[kind] = None if roof is None or roof_fault(kind, record.dtype, roof) else roof.per_second
    launch, cache = launch_roof(record), record.roof("cache", record.dtype)
    found["launch"] = None if launch is None or roof_fault("launch", record.dtype, launch) else launch.seconds
    found["capacity_bytes"] = cache.capacity_bytes if cache and found["cache"] else None
    found["weights_held"] = weights_held(record, record.dtype)
    return {
        "name": HERE,
        "memory_bytes": record.environment.memory_bytes,
        "dtype": record.dtype,
        "rates": _plain(constants.rates) if constants else None,
        "roofs": found,
        "kept": _kept(record),
        "host": [0.0, 0.0],
        "spread": constants.spread if constants else None,
        "basis": comparison.basis.words,
    }


def _kept(record: Record) -> dict[str, Any] | None:
    """The storage of quantised weights, and the rows up to which their kernel multiplies; None where there are none."""
    kept = record.kept
    if kept is None:
        return None
    stored = DTYPES[kept.storage]
    return {
        "weight": kept.storage,
        "rows": kept.kernel_rows,
        "bits": stored.bits,
        "group": stored.group,
        "constants": constants_of_group(kept),
    }


def _device(spec: HardwareSpec, dtype: str) -> dict[str, Any] | None:
    """A device of the table with the constants that are shipped for it; None where there are none."""
    if dtype == "bf16" and spec.peak_flops_per_s.get(dtype) is None:
        dtype = "fp16"
    try:
        constants, narrow = (choose(spec, "shipped", dtype, weight) for weight in (None, "fp8"))
    except (UnavailableError, InputError):
        return None
    host = constants.host
    return {
        "name": spec.name,
        "memory_bytes": spec.memory_bytes,
        "dtype": dtype,
        "rates": _plain(constants.rates),
        "narrow": {}
        if narrow == constants
        else {name: rate for name, rate in _plain(narrow.rates).items() if name.startswith("gemm")},
        "host": [host.request_s, host.sequence_s],
        "spread": constants.spread,
        "basis": constants.basis,
    }


def _plain(rates: Mapping[str, Rates]) -> dict[str, list[float | None]]:
    return {name: list(one) for name, one in rates.items() if not name.startswith("collective")}
