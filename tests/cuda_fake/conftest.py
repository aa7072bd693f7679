"""A GPU that is not there: the guard that lets tensors be on it, and the device with its clock."""

import ctypes
import gc
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from llamalab.measure.attention import unit_costs
from llamalab.measure.calibration import run as calibration
from llamalab.measure.device import energy
from llamalab.measure.report import run
from llamalab.measure.roofs import best, moves, probes
from llamalab.measure.timing.timer import Plan
from tests.cuda_fake.gpu import Gpu
from tests.cuda_fake.torch_cuda import installed
from tests.fakes import everywhere

FEW = Plan(0.0, 2, 2, 1, 0.0)
COMPILERS = ("c++", "g++", "clang++")


@pytest.fixture(scope="session", autouse=True)
def _small_heap() -> Iterator[None]:
    """What was imported is not looked through by every collection: there are many here."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A device guard for "cuda", built by the compiler at hand and loaded."""
    if torch.cuda.is_available():
        pytest.skip("an NVIDIA GPU is here: the tests marked cuda run on it")
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip(f"no C++ compiler ({', '.join(COMPILERS)}) to build the guard of a device that is not there")
    root, library = Path(torch.__file__).parent, tmp_path_factory.mktemp("guard") / "guard.so"
    source, abi = Path(__file__).with_name("guard.cpp"), int(torch._C._GLIBCXX_USE_CXX11_ABI)
    command = [compiler, "-shared", "-fPIC", "-std=c++17", f"-D_GLIBCXX_USE_CXX11_ABI={abi}",
               f"-I{root / 'include'}", str(source), "-o", str(library), f"-L{root / 'lib'}", "-lc10"]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated times repeat: two samples are as good as forty."""
    for plan in (best.SURVEY, best.FINAL, unit_costs._PLAN):
        everywhere(monkeypatch, plan, FEW)
    few = {role: scale._replace(pass_plan=FEW, attention_plan=FEW) for role, scale in run.SCALES.items()}
    monkeypatch.setattr(run, "SCALES", few)
    monkeypatch.setattr(calibration, "MOST_ROUNDS", 3)
    monkeypatch.setattr(probes, "_LAUNCHES", 100)
    monkeypatch.setattr(moves, "_DEVICE_MOVES", 40)
    monkeypatch.setattr(energy, "LEAST_S", 0.01)


@pytest.fixture
def traced_gpu(guard: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """The same for compilers: no operation takes time."""
    with installed(monkeypatch, Gpu(), kernels=False) as device:
        yield device


@pytest.fixture
def gpu(guard: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A simulated GPU, with everything of it that llamalab asks for."""
    with installed(monkeypatch, Gpu()) as device:
        yield device
