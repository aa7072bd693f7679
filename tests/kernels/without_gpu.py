"""Triton's compiler for a GPU that is not here, started by the launches of the package itself.

A launch inside `compiling_for` compiles what it would have launched, in every config that an autotuner would try, and
launches nothing. So the constants, types and options under test are those that the package launches with. Tensors may
be on "meta": only their types, shapes and strides are read.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

# Of CUDA's documentation, "Compute Capabilities": shared memory that one block may have, in bytes.
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
REGISTERS_PER_SM = 65_536


@dataclass(frozen=True)
class Compiled:
    """One kernel in one config for one GPU, and what the assembler says of it."""

    capability: int
    name: str
    config: dict[str, Any]
    shared_bytes: int
    registers: int
    stack_bytes: int
    local_bytes: int
    threads: int
    ptx: str

    def count(self, instruction: str) -> int:
        """How often an instruction stands in the code; a regular expression."""
        return len(re.findall(instruction, self.ptx))

    @property
    def label(self) -> str:
        return f"{self.name} sm_{self.capability} {self.config}"


class _AbsentGPU:
    """What Triton asks of a driver before it compiles."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        return self._target.arch  # Triton keeps what it compiled by device: one for each kind

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return divmod(self._target.arch, 10)


@contextmanager
def compiling_for(capability: int) -> Iterator[list[Compiled]]:
    """Launches inside the block are compiled for sm_`capability`, each of them an entry of the list."""
    made: list[Compiled] = []
    run = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        made.append(_read(kernel, capability, options))

    def every_config(self: Autotuner, *args: Any, **options: Any) -> None:
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        for config in self.prune_configs(options):
            if config.pre_hook:
                config.pre_hook(self.nargs | options | config.all_kwargs())
            self.fn.run(*args, **options, **config.all_kwargs())

    before = driver._active
    driver.set_active(_AbsentGPU(capability))
    try:
        with mock.patch.object(JITFunction, "run", compile_only), mock.patch.object(Autotuner, "run", every_config):
            yield made
    finally:
        driver._active = before


def _read(kernel: Any, capability: int, options: dict[str, Any]) -> Compiled:
    said = _resources(kernel.asm["cubin"])
    warps = kernel.metadata.num_warps
    return Compiled(
        capability=capability,
        name=kernel.metadata.name,
        config={name: value for name, value in options.items() if isinstance(value, int | str)},
        shared_bytes=kernel.metadata.shared,
        registers=said["REG"],
        stack_bytes=said["STACK"],
        local_bytes=said["LOCAL"],
        threads=32 * warps,
        ptx=kernel.asm["ptx"],
    )


def _resources(cubin: bytes) -> dict[str, int]:
    """What cuobjdump says of a kernel: REG, STACK, SHARED, LOCAL."""
    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", said)}
