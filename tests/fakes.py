"""Machines that are not here: their cache, their memory, their clock, and tensors that take no memory.

    monkeypatch -> FakeMachine(cache_bytes=260 * MiB, free_bytes=GiB // 2).install(monkeypatch)
    with no_memory() as asked: ...            # every tensor is a shape; asked.peak_bytes of them lived at once
    FakeMachine(slower=20).install(monkeypatch)                 # whose clock runs ahead twenty times as fast

Clocks that move only when told are in tests/measure/fakes.py.
"""

import contextlib
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from llamalab.measure.device import machine as machine_module
from llamalab.model import onednn
from llamalab.streamed.layout import UNIT
from llamalab.streamed.products import can_stream

MiB, GiB = 2**20, 2**30


class FakeMachine(NamedTuple):
    """What a system says of a machine: its last-level cache, the memory that is there and free, and how slow it is.

    `slower` is a factor of the clock that llamalab times everything by: nobody waits for it.
    """

    cache_bytes: int = 32 * MiB
    free_bytes: int = 8 * GiB
    total_bytes: int | None = None
    slower: float = 1.0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every module of llamalab that asks about the CPU be told this."""
        total = self.total_bytes or 2 * self.free_bytes
        everywhere(monkeypatch, machine_module.cache_bytes, lambda *_, **__: self.cache_bytes)
        everywhere(monkeypatch, machine_module.available_bytes, lambda *_, **__: self.free_bytes)
        everywhere(monkeypatch, machine_module.memory_bytes, lambda *_, **__: total)
        if self.slower != 1.0:
            seconds, nanoseconds = time.perf_counter, time.perf_counter_ns
            monkeypatch.setattr(time, "perf_counter", lambda: self.slower * seconds())
            monkeypatch.setattr(time, "perf_counter_ns", lambda: int(self.slower * nanoseconds()))
        forget_what_was_measured()
        measured = sys.modules.get("llamalab.measure.device.cache_size")
        if measured is not None:  # what a sweep of working sets would find of what is reported
            found = min(max(self.cache_bytes, MiB), 256 * MiB)
            everywhere(monkeypatch, measured.effective_cache_bytes, lambda *_, **__: found)


def everywhere(monkeypatch: pytest.MonkeyPatch, function: Any, instead: Callable[..., Any]) -> None:
    """Put `instead` in the place of a function in every module that has imported it by name."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").partition(".")[0] in ("llamalab", "experiments"):
            for name, value in list(vars(module).items()):
                if value is function:
                    monkeypatch.setattr(module, name, instead)


def forget_what_was_measured() -> None:
    """Clear what llamalab.measure found out once for this process: another machine would find something else."""
    for name, module in list(sys.modules.items()):
        if name.startswith("llamalab.measure"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear") and getattr(value, "__module__", "") == name:
                    value.cache_clear()


class Asked(TorchDispatchMode):
    """Counts the bytes of the tensors that live at once, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live_bytes -= size


@contextlib.contextmanager
def no_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """Tensors that know their shape and device and hold nothing; yields what was asked for."""
    monkeypatch.setattr(nn.Module, "to_empty", _to_empty)
    _fake_packing()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        getattr(onednn, "can_pack", bool)(dtype)  # tried once, on real numbers, as the loops are
        can_stream(dtype, UNIT)
    with Asked() as asked, FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        yield asked


def _to_empty(module: nn.Module, *, device: Any, recurse: bool = True) -> nn.Module:
    """torch's own swaps parameters in place, which tensors without memory do not allow."""
    for part in module.modules():
        for name, old in part._parameters.items():
            if old is not None:
                empty = torch.empty(old.shape, dtype=old.dtype, device=device)
                part._parameters[name] = nn.Parameter(empty, requires_grad=False)
        for name, kept in part._buffers.items():
            if kept is not None:
                part._buffers[name] = torch.empty(kept.shape, dtype=kept.dtype, device=device)
    return module


def _fake_packing() -> None:
    """torch does not say which shape a reordered weight has: that of the weight."""
    with contextlib.suppress(RuntimeError, AttributeError):  # said before, or a torch without oneDNN
        torch.library.register_fake("mkldnn::_reorder_linear_weight", lambda weight, *_: torch.empty_like(weight))
