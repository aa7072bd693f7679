"""The section on GPUs that this machine lacks: the op table beside kernels that others measured on them."""

from statistics import median
from typing import Any

from llamalab.analytic.kernel_times import devices_with_kernel_times
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.published_kernels import published_rows
from llamalab.comparison.what_if import forecast_on, predicted_workload
from llamalab.hardware import HARDWARE
from llamalab.report.data_table import DataTable, error, seconds, text
from llamalab.report.layout import Fold, Section


def published_tables(comparison: Comparison) -> dict[str, DataTable]:
    """The table by its name: of the device that was asked for, with every row of its op table, or of all devices.

    None where no kernel of the record's kind was published.
    """
    asked = comparison.hardware
    rows = [row for device in ([asked] if asked else devices_with_kernel_times()) for row in _rows(comparison, device)]
    rows = [row for row in rows if asked or row["published_s"] is not None]
    columns = (
        text("device"),
        text("phase"),
        text("op", "operation"),
        text("shape", main=False),
        seconds("time_s", "predicted"),
        text("published_shape", "nearest published"),
        seconds("published_s", "published"),
        seconds("predicted_s", "predicted there"),
        error(),
        text("basis", main=False),
        text("source", main=False),
        text("reason", "why none", main=bool(asked)),
    )
    caption = "Rows of the op table beside the nearest kernel that others measured on the device"
    return {"published": DataTable("published", caption, columns, rows)} if rows else {}


def published_sections(made: dict[str, DataTable]) -> list[Section]:
    """The section, where there is such a table."""
    if "published" not in made:
        return []
    by_device: dict[str, list[float]] = {}
    for row in made["published"].rows:
        by_device.setdefault(row["device"], []).extend([] if row["error"] is None else [abs(row["error"])])
    found = [_errors_line(device, errors) for device, errors in by_device.items()]
    finding = (
        "Not measured here: kernels that others published, each beside the prediction of its own shape. Median error: "
        f"{'; '.join(found)}."
    )
    fold = Fold("published-kernels", "The op table beside published kernel times", tables=(made["published"],))
    return [
        Section(
            anchor="gpus",
            short="GPUs",
            heading="GPUs, as others measured them",
            finding=finding,
            board=(),
            remarks=(),
            folds=(fold,),
        )
    ]


def _rows(comparison: Comparison, device: str) -> list[dict[str, Any]]:
    work, spec = predicted_workload(comparison), HARDWARE[device]
    found = forecast_on(comparison.arch, work, spec, comparison.stack)
    if found is None:
        return []
    return [{"device": device, **row} for row in published_rows(device, comparison.arch, *found)]


def _errors_line(device: str, errors: list[float]) -> str:
    return (
        f"{device} {median(errors):.0%} of {len(errors)} rows"
        if errors
        else f"none, no kernel of {device} is published"
    )
