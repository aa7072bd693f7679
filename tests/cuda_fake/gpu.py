"""A GPU that computes nothing and keeps time: a host clock, queues of kernels, graphs, an allocator, a profiler's view.

It is as strict as CUDA about what may not happen while a graph is captured, and as forgetful as torch about what a
failed capture leaves behind.
"""

import itertools
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.cuda_fake.costs import Costs

_NOT_CAPTURING = "operation not permitted when stream is capturing"


class Seen(NamedTuple):
    """An event as the profiler has it; times in ns of the simulated clock."""

    what: str
    start: int
    duration: int
    place: str = "CPU"
    correlation: int = 0
    annotation: bool = False

    def name(self) -> str:
        return self.what

    def start_ns(self) -> int:
        return self.start

    def duration_ns(self) -> int:
        return self.duration

    def device_type(self) -> str:
        return f"DeviceType.{self.place}"

    def correlation_id(self) -> int:
        return self.correlation

    def linked_correlation_id(self) -> int:
        return 0

    def start_thread_id(self) -> int:
        return 1

    def is_user_annotation(self) -> bool:
        return self.annotation


class Stream:
    """A queue of the device; all of them end up in one line here."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.device = torch.device("cuda", 0 if device is None else torch.device(device).index or 0)

    def wait_stream(self, other: "Stream") -> None:
        """One line needs no waiting."""


class Allocator:
    """Bytes that live, bytes that are kept, and who took what when; a graph keeps what its capture took."""

    def __init__(self, gpu: "Gpu", total_bytes: int) -> None:
        self._gpu, self.total_bytes = gpu, total_bytes
        self.allocated = self.peak = self.reserved = self.reserved_peak = self.graphs = 0
        self.history: list[dict[str, Any]] | None = None
        self._known: dict[int, int] = {}
        self._addresses = itertools.count(1)

    def took(self, tensor: Tensor) -> None:
        """Count a tensor's memory once. Raises OutOfMemoryError as torch does."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or not size:
            return
        self._gpu.check_pool()
        if self.allocated + self.graphs + size > self.total_bytes:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
        address = self._known[key] = next(self._addresses)
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        self.reserved = max(self.reserved, self.allocated)
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        self._note("alloc", address, size)
        weakref.finalize(storage, self._gave, key, address, size)

    def empty(self) -> None:
        """Give back what is kept and not in use."""
        self.reserved = self.allocated

    def _gave(self, key: int, address: int, size: int) -> None:
        if self._known.pop(key, None) is not None:
            self.allocated -= size
            self._note("free_completed", address, size)

    def _note(self, action: str, address: int, size: int) -> None:
        if self.history is not None:
            at_us = int(self._gpu.host_s * 1e6)
            self.history.append({"action": action, "addr": address, "size": size, "time_us": at_us})


class Gpu:
    """The device and the host before it. Everything that takes time goes through `launch`, `wait` or `spend`."""

    def __init__(
        self, costs: Costs | None = None, *, total_bytes: int = 80 << 30, count: int = 1, records: bool = True
    ) -> None:
        self.costs, self.count, self.records = costs or Costs(), count, records
        self.host_s, self.device_s = 1000.0, 0.0
        self.kernels = 0
        self.current = 0
        self.default_stream = Stream()
        self.stream = self.default_stream
        self.capture: CUDAGraph | None = None
        self.capture_stream: Stream | None = None
        self.open_pool: CUDAGraph | None = None
        self.fault: str | None = None
        self.allocator = Allocator(self, total_bytes)
        self.planned: set[Any] = set()
        self.held_s: list[float] = []
        self.seen: list[Seen] | None = None
        self._waiting: deque[float] = deque()
        self._ids = itertools.count(1)

    def spend(self, seconds: float) -> None:
        """The host works."""
        self.host_s += seconds

    def launch(self, name: str, seconds: float, call_s: float) -> None:
        """The host launches a kernel, or notes it in the graph that is captured."""
        began_s, number = self.host_s, next(self._ids)
        self.host_s += call_s
        if self.capture is not None:
            self.capture.work.append((name, seconds))
            return
        self._queue()
        begin_s = max(self.device_s + self.costs.gap_s, self.host_s + self.costs.latency_s)
        self.device_s = begin_s + seconds
        self._waiting.append(self.device_s)
        self.kernels += 1
        if self.seen is not None:
            self.seen.append(Seen("cudaLaunchKernel", int(began_s * 1e9), int(call_s * 1e9), correlation=number))
            self.seen.append(Seen(name, int(begin_s * 1e9), int(seconds * 1e9), "CUDA", number))

    def wait(self) -> None:
        """The host waits for the device; while capturing it may not."""
        if self.capture is not None:
            self.broke("the host waited for the device")
        self.host_s = max(self.host_s, self.device_s) + self.costs.wait_s

    def replay(self, work: Sequence[tuple[str, float]]) -> None:
        """A graph's kernels, launched by one call."""
        self.host_s += self.costs.replay_call_s
        self._queue()
        begin_s = max(self.device_s + self.costs.gap_s, self.host_s + self.costs.latency_s)
        self.device_s = begin_s + self.costs.graph_start_s + sum(s + self.costs.graph_gap_s for _, s in work)
        self._waiting.append(self.device_s)
        self.kernels += len(work)

    def mark(self) -> float:
        """The moment at which the device gets to an event that is recorded now."""
        if self.capture is not None:
            self.broke("an event with a time was recorded")
        self.host_s += self.costs.event_call_s
        self._queue()
        at_s = max(self.device_s, self.host_s + self.costs.latency_s)
        self.device_s = at_s + self.costs.event_s
        self._waiting.append(self.device_s)
        return at_s

    def broke(self, what: str) -> None:
        """Something that CUDA does not permit in a capture, which is invalid from now on."""
        self.fault = what
        raise RuntimeError(f"CUDA error: {_NOT_CAPTURING} ({what})")

    def check_pool(self) -> None:
        """Raise where an allocation would come from another pool than the graph's, or from that of a dead graph."""
        if self.capture is not None and self.stream is not self.capture_stream:
            self.broke("an allocation from another pool")
        if self.capture is None and self.open_pool is not None:
            raise AssertionError("an allocation from the pool of a graph whose capture failed")

    def _queue(self) -> None:
        while self._waiting and self._waiting[0] <= self.host_s:
            self._waiting.popleft()
        if len(self._waiting) >= self.costs.queue:
            self.host_s = self._waiting.popleft()


class CUDAGraph:
    """Kernels that were noted, with the memory that they keep."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self.work, self.ready = gpu, list[tuple[str, float]](), False

    def replay(self) -> None:
        if not self.ready:
            raise RuntimeError("a graph must be captured before it is replayed")
        self._gpu.replay(self.work)

    def pool(self) -> tuple[int, int]:
        return (id(self), 0)

    def reset(self) -> None:
        self.work = []

    def keep(self, size: int) -> None:
        """Hold the capture's memory for as long as the graph is there."""
        allocator = self._gpu.allocator
        allocator.graphs += size
        weakref.finalize(self, setattr, allocator, "graphs", allocator.graphs - size)


@contextmanager
def capturing(gpu: Gpu, graph: CUDAGraph, stream: Stream | None) -> Any:
    """torch.cuda.graph: where the capture was broken, the stream and the pool stay as they were inside it."""
    before, held = gpu.stream, gpu.allocator.allocated
    gpu.wait()
    gpu.allocator.peak = held
    gpu.stream = gpu.capture_stream = stream or Stream()
    if not gpu.records:
        raise RuntimeError("CUDA error: operation not supported")
    gpu.capture, gpu.fault = graph, None
    gpu.open_pool = graph
    try:
        yield
    finally:
        gpu.capture = None
        if gpu.fault is not None:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        gpu.open_pool, graph.ready = None, True
        gpu.stream = before
        graph.keep(gpu.allocator.peak - held)


class Kernels(TorchDispatchMode):
    """Every operation on the device becomes a kernel of the simulated time, or nothing where it only looks."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu, kwargs = self._gpu, kwargs or {}
        name = func.name().removeprefix("aten::").partition(".")[0]
        inputs = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if name in ("item", "_local_scalar_dense") and inputs[0].is_cuda:
            gpu.wait()  # a value is asked for, of memory that is not there
            return torch.zeros((), dtype=inputs[0].dtype).numpy().item()
        if torch.device(kwargs.get("device") or "cpu").type == "cuda":
            for one in inputs:
                one.constant = None  # a value that torch knows would be copied to a device that is not there
        made = func(*args, **kwargs)
        outputs = [one for one in tree_leaves(made) if isinstance(one, Tensor)]
        ours = [one for one in (*inputs, *outputs) if one.is_cuda]
        if not ours or func.name().startswith("prim::"):
            return made
        if gpu.seen is not None:
            gpu.seen.append(Seen(func.name(), int(gpu.host_s * 1e9), 100))
        if len({one.device.type for one in (*inputs, *outputs) if one.dim()}) > 1:
            gpu.wait()  # a copy from or to the host
        for one in outputs:
            if one.is_cuda:
                gpu.allocator.took(one)
        known = {one.untyped_storage()._cdata for one in inputs}
        if outputs and not name.endswith("_") and "out" not in kwargs:
            outputs_new = [one for one in outputs if one.untyped_storage()._cdata not in known]
            if not outputs_new:
                return made  # another look at the same memory
        if name.startswith("_scaled_dot_product_cudnn"):
            plan = (tuple(inputs[0].shape), tuple(inputs[1].shape), inputs[0].dtype)
            if plan not in gpu.planned:
                gpu.planned.add(plan)
                gpu.spend(gpu.costs.plan_s)
        cost = gpu.costs.kernel_of(name, inputs, outputs)
        if cost is not None:
            gpu.launch(f"{name}_kernel", *cost)
        return made
