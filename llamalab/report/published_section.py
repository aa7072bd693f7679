"""The section of a page on GPUs that are not here: the op table beside kernels that others measured on them."""

from statistics import median
from typing import Any

from llamalab.analytic.kernel_times import devices_with_kernel_times
from llamalab.analytic.workload import decode_contexts, last_part
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.published_kernels import published_beside
from llamalab.comparison.what_if import forecast_on, told_run
from llamalab.hardware import HARDWARE
from llamalab.report.data_table import DataTable, error, seconds, text
from llamalab.report.layout import Fold, Section


def published_tables(comparison: Comparison) -> dict[str, DataTable]:
    """The table by its name; none where no kernel of the record's kind was published."""
    rows = [row for device in devices_with_kernel_times() for row in _rows(comparison, device)]
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
    )
    caption = "Rows of the op table beside the nearest kernel that others measured on the device"
    return {"published": DataTable("published", caption, columns, rows)} if rows else {}


def published_sections(made: dict[str, DataTable]) -> list[Section]:
    """The section, where there is such a table."""
    if "published" not in made:
        return []
    by_device: dict[str, list[float]] = {}
    for row in made["published"].rows:
        by_device.setdefault(row["device"], []).append(abs(row["error"]))
    found = [f"{device} {median(errors):.0%} of {len(errors)} rows" for device, errors in by_device.items()]
    finding = (
        "Not measured here: kernels that others published, each beside the prediction of its own shape. Median error: "
        f"{'; '.join(found)}."
    )
    fold = Fold("published-kernels", "The op table beside published kernel times", tables=(made["published"],))
    return [Section("gpus", "GPUs", "GPUs, as others measured them", finding, (), (), (fold,))]


def _rows(comparison: Comparison, device: str) -> list[dict[str, Any]]:
    work, spec = told_run(comparison), HARDWARE[device]
    found = forecast_on(comparison.arch, work, spec, comparison.stack)
    if found is None:
        return []
    run, result = found
    passes = [("prefill", result.prefill_ops, last_part(run))]
    if result.decode_ops:
        passes.append(("decode", result.decode_ops, (1, decode_contexts(run)[1][1])))
    return [
        {"device": device, **one.row(phase)}
        for phase, ops, tokens in passes
        for one in published_beside(device, comparison.arch, ops, run.shape(*tokens), result.constants.rates)
    ]
