"""The measured roofs of a machine with its data sheet."""

from typing import Any

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.wording import short
from llamalab.hardware import HardwareSpec, of_device
from llamalab.records.roof import Roof
from llamalab.report.data_table import (
    DataTable,
    rate,
    ratio,
    seconds,
    share,
    text,
)


def roofs(comparison: Comparison) -> DataTable:
    """The measured ceilings and their self-check, with the data sheet's rates where the device has one."""
    environment = comparison.record.environment
    spec = of_device(environment.device_name, environment.memory_bytes)
    rows = [_roof(roof, data_sheet_rate(spec, roof)) for roof in comparison.record.roofs]
    columns = (
        text("kind", "roof"),
        text("dtype"),
        rate("per_second", "FLOP or byte per second"),
        seconds("seconds", "fixed time"),
        ratio("doubling_ratio", "doubled work takes", main=False),
        text("trusted"),
        rate("data_sheet_per_second", "data sheet", main=False),
        share("data_sheet_share", "of the data sheet", main=spec is not None),
        text("shape", main=False),
        text("remark", main=False),
    )
    caption = "Roofs measured on this machine; trusted where doubled work takes 1.8x to 2.2x"
    return DataTable("roofs", caption, columns, rows)


def data_sheet_rate(spec: HardwareSpec | None, roof: Roof) -> float | None:
    """The data sheet's figure for a roof; None where the device or that figure has none."""
    if spec is None:
        return None
    if roof.kind in ("gemm", "attention"):
        return spec.peak_flops_per_s.get(roof.dtype)
    return spec.bandwidth_bytes_per_s if roof.kind in ("stream", "copy") else None


def _roof(roof: Roof, sheet: float | None) -> dict[str, Any]:
    return {
        "kind": roof.kind,
        "dtype": roof.dtype,
        "per_second": roof.per_second,
        "seconds": roof.seconds,
        "doubling_ratio": roof.doubling_ratio,
        "trusted": "yes" if roof.trusted else "no",
        "data_sheet_per_second": sheet,
        "data_sheet_share": roof.per_second / sheet if sheet and roof.per_second else None,
        "shape": roof.shape,
        "remark": f"reached by {short(roof.raised_by)}" if roof.raised_by else roof.reason,
    }
