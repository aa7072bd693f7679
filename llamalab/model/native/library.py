"""The library of products.c, compiled for this machine at its first use and kept beside its calibrations."""

import contextlib
import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from llamalab.analytic.constants import folder

_SOURCE = Path(__file__).with_name("products.c")
# No option here lets the linker change how the process rounds or flushes numbers, as -ffast-math would.
_OPTIONS = (
    "-std=gnu11",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-shared",
    "-fPIC",
)
_COMPILERS = ("cc", "gcc")
_LIMIT_S = 60
_RUNTIMES = re.compile(r"/lib(gomp|iomp5|omp)[-.\w]*\.so")


@cache
def library() -> ctypes.CDLL | None:
    """The library; None where there is no compiler, or the threads of its loops would not be torch's own.

    Torch must be loaded. A process keeps what it found.
    """
    if sys.platform != "linux" or _thread_runtimes() != {"gomp"}:
        return None
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return None
    try:
        made = ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None
    return made if _thread_runtimes() == {"gomp"} else None


def _compiled(compiler: str) -> Path:
    """The library's file, compiled unless this source, compiler and processor have one already."""
    source = _SOURCE.read_bytes()
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=_LIMIT_S, check=True).stdout
    key = hashlib.sha256(b"\0".join((source, version, " ".join(_OPTIONS).encode(), _processor()))).hexdigest()[:16]
    path = folder() / f"products-{key}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
        command = [compiler, *_OPTIONS, "-o", made, str(_SOURCE), "-lm"]
        subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=True)
        os.replace(made, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)
    return path


def _processor() -> bytes:
    """What the code is compiled for: a folder may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {flags}".encode()


def _thread_runtimes() -> set[str]:
    """The OpenMP libraries that are loaded: two of them would each keep threads of their own."""
    try:
        return set(_RUNTIMES.findall(Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return set()
