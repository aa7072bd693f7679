"""Installed and optional packages, as checks of `llamalab doctor`."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from llamalab.extras import EXTRAS
from llamalab.plain_text import in_one_line
from llamalab.startup.hints import NamedTuple

IMPORTED_AS = {"nvidia-ml-py": "pynvml"}  # modules whose name differs from that of their distribution
OLDEST_PYTHON = (3, 11)
PIP = "python -m pip install"
_TORCH_FOR_CPU = f"{PIP} torch --index-url https://download.pytorch.org/whl/cpu"


class Check(NamedTuple):
    """One line: status is ok, warn (works, with less) or missing (needed)."""

    what: str
    status: str
    found: str
    mend: str | None = None


def check_python() -> Check:
    """Whether this Python is new enough."""
    found = f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()})"
    if sys.version_info >= OLDEST_PYTHON:
        return Check("python", "ok", found)
    return Check("python", "missing", found, "install Python 3.11 or newer and make the virtual environment anew")


def needed_packages() -> dict[str, str]:
    """Distribution and the oldest version that will do, as the package's own metadata declare them; no extras.

    None where llamalab runs from a folder and is not installed.
    """
    try:
        declared = requires("llamalab") or []
    except PackageNotFoundError:
        return {}
    found = (re.fullmatch(r"([\w.-]+)\s*>=\s*([\w.]+)", one) for one in declared if ";" not in one)
    return {one[1]: one[2] for one in found if one}


def check_packages() -> Iterator[Check]:
    """Every package that llamalab needs: present, new enough, and one that can be imported."""
    if not needed_packages():
        yield Check("llamalab", "warn", "runs from a folder and is not installed: its needs are not known", f"{PIP} .")
    for name, oldest in needed_packages().items():
        found = installed_version(name)
        if found is None:
            yield Check(name, "missing", "not installed", _mend(name, oldest))
        elif _release(found) < _release(oldest):
            yield Check(name, "missing", f"{found}, older than {oldest}", _mend(name, oldest))
        elif fault := _import_fault(name):
            yield Check(name, "missing", f"{found}, which cannot be imported: {fault}", _mend(name, oldest, again=True))
        else:
            yield Check(name, "ok", found)


def _import_fault(name: str) -> str | None:
    """The exception of importing a package; None where it succeeds. A broken installation still has a version."""
    from importlib import import_module

    try:
        import_module(IMPORTED_AS.get(name, name))
    except Exception as error:  # a package can raise any exception at import
        return in_one_line(f"{type(error).__name__}: {error}")[:200]
    return None


def _mend(name: str, oldest: str, *, again: bool = False) -> str:
    if name == "torch" and not has_nvidia_driver():
        # The default build brings gigabytes of CUDA libraries.
        return _TORCH_FOR_CPU.replace(" torch", " --force-reinstall torch") if again else _TORCH_FOR_CPU
    return f'{PIP} {"--force-reinstall" if again else "--upgrade"} "{name}>={oldest}"'


def check_tensorboard() -> Check | None:
    """TensorBoard is an extra; an old one breaks under a new setuptools (no pkg_resources)."""
    found = installed_version("tensorboard")
    if found is None or _release(found) >= (2, 21):
        return None
    return Check("tensorboard", "warn", f"{found}, older than 2.21", f'{PIP} --upgrade "tensorboard>=2.21"')


def check_extras() -> Iterator[Check]:
    """A line for each extra: installed, or what it would add."""
    from importlib.util import find_spec

    for extra in EXTRAS:
        absent = [name for name in extra.modules if find_spec(name) is None]
        if absent:
            yield Check(f"extra {extra.name}", "ok", f"not installed; would add {extra.adds}", extra.command)
        else:
            yield Check(f"extra {extra.name}", "ok", extra.adds)


def has_nvidia_driver() -> bool:
    """Whether the kernel module of an NVIDIA driver is loaded."""
    return os.path.exists("/proc/driver/nvidia/version")


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _release(text: str) -> tuple[int, ...]:
    """The numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()
