"""The loops in C++ as a library of this process: compiled once with the machine's C++ compiler, kept, loaded.

It is there on a CPU with AVX2 where a compiler is (CXX, else g++ or c++) and its OpenMP is the one that torch runs
on: a second one would bring threads of its own, which take the cores from the first. Everywhere else `library` is
None, and who multiplies has torch's products.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

_SOURCES = ("rows.cpp", "attention.cpp")
_READ = (*_SOURCES, "registers.h")
_FLAGS = ("-std=c++17", "-O3", "-mavx2", "-mfma", "-mf16c", "-fopenmp", "-shared", "-fPIC")
_CAPABLE = ("AVX2", "AVX512")  # as torch calls them; what it is told to do without is done without here too
_LONGEST_S = 120


@cache
def library() -> ctypes.CDLL | None:
    """The functions of the loops; None where they cannot be had. Compiling takes some seconds, once a machine."""
    named = (os.environ.get("CXX"), "g++", "c++")
    compiler = next((path for name in named if name and (path := shutil.which(name))), None)
    if torch.backends.cpu.get_cpu_capability() not in _CAPABLE or compiler is None:
        return None
    kept = _folder() / f"loops-{_fingerprint(compiler)}.so"
    try:
        if kept.exists():
            return _loaded(kept)
        with TemporaryDirectory(prefix="llamalab-loops-") as folder:
            made = Path(folder) / kept.name
            subprocess.run(
                [compiler, *_FLAGS, *(str(_beside(name)) for name in _SOURCES), "-o", str(made)],
                check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LONGEST_S,
            )  # fmt: skip
            return _loaded(_keep(made, kept))
    except (OSError, subprocess.SubprocessError):
        return None


def _folder() -> Path:
    """Where what was compiled is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "llamalab"


def _beside(name: str) -> Path:
    return Path(__file__).with_name(name)


def _fingerprint(compiler: str) -> str:
    """What another source, other flags or another compiler differ in."""
    told = os.stat(compiler)
    told_of = (_FLAGS, os.path.realpath(compiler), told.st_size, told.st_mtime_ns)
    whole = b"".join(_beside(name).read_bytes() for name in _READ) + repr(told_of).encode()
    return hashlib.sha256(whole).hexdigest()[:16]


def _keep(made: Path, kept: Path) -> Path:
    """The library at the place where it is kept, whole at any moment; where it was made, if nothing can be kept."""
    beside = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, beside)
        return beside.replace(kept)
    except OSError:
        return made


def _loaded(path: Path) -> ctypes.CDLL | None:
    """The library, unless it brought another OpenMP than torch's into the process."""
    before = _runtimes()
    made = ctypes.CDLL(str(path))
    return made if _runtimes() == before else None


def _runtimes() -> set[str]:
    """The files of this process that are OpenMP."""
    files = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    return {path for path in files if any(name in os.path.basename(path) for name in ("libgomp", "libomp", "libiomp"))}
