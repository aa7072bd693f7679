"""`llamalab doctor`: installed and missing packages, with the command that installs each.

Exit code 3 where a requirement of the model, the measurements or the report is missing. A GPU is optional.
"""

import argparse
import os
import platform
import re
from collections.abc import Iterable, Iterator

from llamalab.cli.arguments import add_format
from llamalab.cli.delivery import give
from llamalab.cli.installed import (
    PIP,
    Check,
    check_extras,
    check_packages,
    check_python,
    check_tensorboard,
    has_nvidia_driver,
    installed_version,
)
from llamalab.cli.output import Answer, Column, Table, counted, note
from llamalab.formatting import format_bytes, format_si
from llamalab.hardware import of_device
from llamalab.plain_text import sentence
from llamalab.startup.hints import TYPE_CHECKING, Any
from llamalab.version import __version__

if TYPE_CHECKING:
    from llamalab.measure.roofs.dtype_rates import ProductRate

SUMMARY = "what is installed, what is missing and the command that mends it"
EXAMPLES = ("llamalab doctor", "llamalab doctor --format json")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab doctor`."""
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print every check; exit code 3 where something needed is missing."""
    checks = [
        check_python(),
        *check_packages(),
        check_tensorboard(),
        *check_extras(),
        *_torch_devices(),
        *_products(),
        *_shapes(),
        _nvml(),
        _cpu(),
    ]
    rows = [check._asdict() for check in checks if check is not None]
    missing = [row["what"] for row in rows if row["status"] == "missing"]
    columns = (*(Column(key, key) for key in ("status", "what", "found")), Column("mend", "mend", rank=1))
    data: dict[str, Any] = {"llamalab": __version__, "ok": not missing, "checks": rows}
    give(Answer(data, _lead(rows), (Table(columns, rows),)), args)
    if missing:
        note(f"needed and missing or too old: {', '.join(missing)}; the commands above mend it")
    return 3 if missing else 0


def _lead(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Whether anything is wrong, and what mends it."""
    wrong = [row for row in rows if row["status"] != "ok"]
    missing = sum(row["status"] == "missing" for row in wrong)
    said = f"{missing} of what is needed missing" if missing else "all that is needed is there"
    warned = f", {counted(len(wrong) - missing, 'warning')}" if len(wrong) > missing else ""
    mends = (f"  {row['what']}: {row['found']}" + (f"; {row['mend']}" if row["mend"] else "") for row in wrong)
    return f"llamalab {__version__}: {said}{warned}", *mends


def _torch_devices() -> Iterable[Check]:
    """The devices that torch can use. Empty where torch is absent, which another line reports."""
    try:
        import torch
    except Exception:  # the lines on packages report the cause
        return []
    if torch.cuda.is_available():
        found = range(torch.cuda.device_count())
        return [check for index in found for check in (_cuda(torch, index), _graphs(torch, index)) if check]
    if has_nvidia_driver():
        built = torch.version.cuda or "no CUDA"
        mend = f"{PIP} --upgrade --force-reinstall torch"
        return [Check("cuda", "warn", f"an NVIDIA driver, but torch (built for {built}) sees no device", mend)]
    return [Check("cuda", "ok", "no NVIDIA device; reports measure the CPU")]


def _products() -> Iterator[Check]:
    """How weights are multiplied on the CPU in each element type, and whether fp32 would be faster."""
    if installed_version("torch") is None:  # another line reports it
        return
    try:
        from llamalab.measure.roofs.dtype_rates import cpu_product_rates

        rates = cpu_product_rates()
    except Exception as error:  # any exception of a broken torch
        yield Check("products", "warn", f"not tried: {sentence(str(error), 200)}")
        return
    for dtype, rate in rates.items():
        if rate.flops_per_s >= rates["fp32"].flops_per_s:
            yield Check(f"product {dtype}", "ok", _product(rate))
        else:
            mend = "--dtype fp32 reads prompts faster, of twice the bytes"
            yield Check(f"product {dtype}", "warn", f"{_product(rate)}, slower than fp32", mend)


def _shapes() -> Iterator[Check]:
    """Which product was measured to be the fastest for each shape of weights, by dtype."""
    if installed_version("torch") is None:
        return
    try:
        import torch

        from llamalab.measure.roofs.shape_products import kept_products

        known = {dtype: kept_products(torch.device("cpu"), dtype) for dtype in ("fp32", "bf16", "fp16")}
    except Exception:  # any exception of a broken torch; the line on products reports it
        return
    for dtype, shapes in known.items():
        if shapes:
            products = ", ".join(f"{out} x {inner} {one.words}" for (out, inner), one in shapes.items())
            yield Check(f"fastest {dtype}", "ok", f"measured: {products}")
    if not any(known.values()):
        yield Check("fastest", "ok", "not measured yet: bench, profile and report try the products of each shape once")


def _product(rate: "ProductRate") -> str:
    return f"{rate.product} weights, {format_si(rate.flops_per_s, 'FLOP/s')}"


def _cuda(torch: Any, index: int) -> Check:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    spec = of_device(properties.name, total)
    sheet = f"data sheet {spec.name}" if spec else "no data sheet in llamalab hardware"
    found = f"{properties.name}, {format_bytes(free)} free of {format_bytes(total)}, CUDA {torch.version.cuda}, {sheet}"
    return Check(f"cuda:{index}", "ok", found)


def _graphs(torch: Any, index: int) -> Check | None:
    """A warning for a device that records no CUDA graphs; decoding and short measurements work without them."""
    from llamalab.model.cuda_graph import capture_refusal

    try:
        refusal = capture_refusal(torch.device("cuda", index))
    except Exception as error:  # any exception: the device may be full or broken
        refusal = sentence(str(error), 200)
    mend = "nothing is needed: steps and short calls are launched one by one, which is slower"
    return None if refusal is None else Check(f"graphs:{index}", "warn", f"none are recorded: {refusal}", mend)


def _nvml() -> Check:
    """Clocks, power and temperature come from NVML, the driver's library."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return Check("nvml", "warn", "nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
        driver = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        if has_nvidia_driver():
            return Check("nvml", "warn", f"{error}", "reinstall the NVIDIA driver with its libnvidia-ml library")
        return Check("nvml", "ok", "no NVIDIA driver; none is needed on a CPU")
    return Check("nvml", "ok", f"driver {driver}")


def _cpu() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _memory_bytes()
    known = f", {format_bytes(memory)} of memory" if memory else ""
    return Check("cpu", "ok", f"{_cpu_name()}, {cores} cores to use{known}")


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            named = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
