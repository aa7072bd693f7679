"""The C++ loops as a shared library: compiled once with the machine's C++ compiler, stored, loaded.

It is available on a CPU with AVX2 with a compiler (CXX, else g++ or c++) whose OpenMP runtime is that of torch: a
second runtime would start threads of its own, which compete for the cores. Elsewhere `library` is None, and products
are torch's.
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

_SOURCES = ("rows.cpp", "blocks.cpp", "attention.cpp")
_READ = (*_SOURCES, "registers.h", "rounded.h")
_FLAGS = ("-std=c++17", "-O3", "-mavx2", "-mfma", "-mf16c", "-fopenmp", "-shared", "-fPIC")
_VNNI_FLAGS = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni")
# torch's CPU capability; a lower setting in the environment disables the loops, or those for AVX-512, too
_CAPABLE = ("AVX2", "AVX512")
_LONGEST_S = 120


@cache
def library() -> ctypes.CDLL | None:
    """The functions of the library; None where it is unavailable. Compiling takes some seconds, once a machine."""
    named = (os.environ.get("CXX"), "g++", "c++")
    compiler = next((path for name in named if name and (path := shutil.which(name))), None)
    if torch.backends.cpu.get_cpu_capability() not in _CAPABLE or compiler is None:
        return None
    flags = (*_FLAGS, *_VNNI_FLAGS) if has_vnni() else _FLAGS
    kept = _folder() / f"loops-{_fingerprint(compiler, flags)}.so"
    try:
        if kept.exists():
            return _loaded(kept)
        with TemporaryDirectory(prefix="llamalab-loops-") as folder:
            made = Path(folder) / kept.name
            subprocess.run(
                [compiler, *flags, *(str(_beside(name)) for name in _SOURCES), "-o", str(made)],
                check=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=_LONGEST_S,
            )
            return _loaded(_keep(made, kept))
    except (OSError, subprocess.SubprocessError):
        return None


def has_vnni() -> bool:
    """Whether the CPU has the instructions of blocks.cpp, and torch may use them."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_vnni_supported()


def _folder() -> Path:
    """The folder of compiled libraries."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "llamalab"


def _beside(name: str) -> Path:
    return Path(__file__).with_name(name)


def _fingerprint(compiler: str, flags: tuple[str, ...]) -> str:
    """A hash of source, flags and compiler."""
    status = os.stat(compiler)
    identity = (flags, os.path.realpath(compiler), status.st_size, status.st_mtime_ns)
    whole = b"".join(_beside(name).read_bytes() for name in _READ) + repr(identity).encode()
    return hashlib.sha256(whole).hexdigest()[:16]


def _keep(made: Path, kept: Path) -> Path:
    """Move the library to its folder atomically; its temporary place where that fails."""
    beside = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, beside)
        return beside.replace(kept)
    except OSError:
        return made


def _loaded(path: Path) -> ctypes.CDLL | None:
    """The loaded library, unless it brought a second OpenMP runtime into the process."""
    before = _runtimes()
    made = ctypes.CDLL(str(path))
    return made if _runtimes() == before else None


def _runtimes() -> set[str]:
    """The OpenMP libraries loaded in this process."""
    files = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    return {path for path in files if any(name in os.path.basename(path) for name in ("libgomp", "libomp", "libiomp"))}
