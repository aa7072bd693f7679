"""torch.cuda as it would be with a simulated GPU: what llamalab calls of it, in the place of the real functions."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import sdpa_kernels
from llamalab.measure.device import nvml, profiler
from llamalab.measure.roofs.machine import Machine
from llamalab.model import dtypes
from llamalab.model.cuda_graph import capture_refusal
from tests.cuda_fake.gpu import CUDAGraph, Gpu, Kernels, Seen, Stream, capturing
from tests.fakes import _to_empty, forget_what_was_measured
from tests.measure.fakes import FakeNvml

NAME = "NVIDIA H100 80GB HBM3"
_HERTZ = 1.98e9


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch, gpu: Gpu, *, kernels: bool = True) -> Iterator[Gpu]:
    """Tensors on "cuda" that hold nothing, on a device that keeps time; the host's clock is the simulated one.

    Without `kernels` no operation takes any time: what a compiler needs, which traces under no mode but its own.
    """
    _forget()
    _clock(monkeypatch, gpu)
    _device(monkeypatch, gpu)
    _memory(monkeypatch, gpu)
    _random(monkeypatch)
    _attention(monkeypatch)
    _profiler(monkeypatch, gpu)
    _triton(monkeypatch, gpu)
    library = FakeNvml(reasons=0x4)
    monkeypatch.setattr(nvml, "import_module", lambda name: library)
    monkeypatch.setattr(nn.Module, "to_empty", _to_empty)
    monkeypatch.setattr(Machine, "fill", lambda machine, tensor, size=1.0: tensor)  # in as many pieces as it is large
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with FakeTensorMode(allow_non_fake_inputs=True), Kernels(gpu) if kernels else nullcontext(), torch.inference_mode():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: kernels)  # torch itself must not find out before
        yield gpu
    _forget()


def _forget() -> None:
    """What was found out of another device."""
    forget_what_was_measured()
    capture_refusal.cache_clear()


def _clock(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    def seconds() -> float:
        gpu.spend(5e-8)
        return gpu.host_s

    for name, factor, kind in (("perf_counter", 1, float), ("perf_counter_ns", 1e9, int), ("time_ns", 1e9, int)):
        monkeypatch.setattr(time, name, lambda factor=factor, kind=kind: kind(seconds() * factor))


def _device(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    def event(enable_timing: bool = False) -> Any:
        return Event(gpu, enable_timing)

    @contextmanager
    def on_stream(stream: Stream) -> Iterator[None]:
        before, gpu.stream = gpu.stream, stream
        try:
            yield
        finally:
            gpu.stream = before

    class Graph(CUDAGraph):  # a class, as libraries write it as a type
        def __init__(self, keep_graph: bool = False) -> None:
            super().__init__(gpu)

    class OnDevice:  # torch asks whether something is of this class
        def __init__(self, place: Any) -> None:
            self.idx, self._before = torch.device(place).index or 0, 0

        def __enter__(self) -> None:
            self._before, gpu.current = gpu.current, self.idx

        def __exit__(self, *_: object) -> None:
            gpu.current = self._before

    def sleep(cycles: int) -> None:
        gpu.held_s.append(cycles / _HERTZ)
        gpu.launch("spin_kernel", cycles / _HERTZ, gpu.costs.call_s)

    properties = SimpleNamespace(
        name=NAME, major=9, minor=0, total_memory=gpu.allocator.total_bytes, L2_cache_size=gpu.costs.cache_bytes,
        multi_processor_count=gpu.costs.multiprocessors, uuid="abc", shared_memory_per_block_optin=232_448,
        warp_size=32,
    )  # fmt: skip
    generator = SimpleNamespace(clone_state=lambda: "kept", graphsafe_set_state=lambda state: None)
    replaced = {
        "Event": event, "Stream": Stream, "stream": on_stream, "device": OnDevice, "_sleep": sleep,
        "CUDAGraph": Graph,
        "graph": lambda graph, pool=None, stream=None, **_: capturing(gpu, graph, stream),
        "synchronize": lambda device=None: gpu.wait(),
        "set_device": lambda place: setattr(gpu, "current", torch.device(place).index or 0),
        "current_device": lambda: gpu.current,
        "set_stream": lambda stream: setattr(gpu, "stream", stream),
        "current_stream": lambda device=None: gpu.stream,
        "device_count": lambda: gpu.count,
        "_lazy_init": lambda: None,
        "_get_device_properties": lambda index: properties,
        "default_generators": [generator] * gpu.count,
    }  # fmt: skip
    for name, instead in replaced.items():
        monkeypatch.setattr(torch.cuda, name, instead, raising=False)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda": None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device="cuda": None)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device=None: gpu.wait())
    monkeypatch.setattr(dtypes, "_present", lambda kind: gpu.count)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda index, pool: setattr(gpu, "open_pool", None))


class Event:
    """torch.cuda.Event on the simulated device."""

    def __init__(self, gpu: Gpu, timed: bool) -> None:
        self._gpu, self._timed, self._at_s = gpu, timed, None
        self._place: int | None = None

    def record(self, stream: Stream | None = None) -> None:
        self._at_s, self._place = self._gpu.mark(), self._gpu.current

    def synchronize(self) -> None:
        self._gpu.wait()

    def elapsed_time(self, end: "Event") -> float:
        assert self._timed
        assert self._at_s is not None
        assert end._at_s is not None
        if self._place != end._place:
            raise RuntimeError("both events must be of one device")
        return 1e3 * (end._at_s - self._at_s)


def _memory(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    allocator = gpu.allocator

    def record(enabled: Any = "all", **_: Any) -> None:
        allocator.history = None if enabled is None else []

    replaced = {
        "mem_get_info": lambda place=None: (
            allocator.total_bytes - allocator.reserved - allocator.graphs, allocator.total_bytes,
        ),
        "memory_allocated": lambda place=None: allocator.allocated,
        "max_memory_allocated": lambda place=None: allocator.peak,
        "memory_reserved": lambda place=None: allocator.reserved,
        "max_memory_reserved": lambda place=None: allocator.reserved_peak,
        "empty_cache": allocator.empty,
        "reset_peak_memory_stats": lambda place=None: (
            setattr(allocator, "peak", allocator.allocated), setattr(allocator, "reserved_peak", allocator.reserved),
        ),
    }  # fmt: skip
    for name, instead in replaced.items():
        monkeypatch.setattr(torch.cuda, name, instead)
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record)
    snapshot = lambda place=None: {"device_traces": [list(allocator.history or [])] * gpu.count}  # noqa: E731
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", snapshot)


def _random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers need a generator on the device, which is not there, and have no values."""
    real = torch.tensor

    class Generator:
        def __init__(self, device: Any = "cpu") -> None:
            """Of any device."""

        def manual_seed(self, seed: int) -> "Generator":
            return self

    def tensor(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        made = real(data, **options)
        return made if device is None else torch.empty(made.shape, dtype=made.dtype, device=device)

    def shaped(*shape: Any, generator: Any = None, **options: Any) -> torch.Tensor:
        return torch.empty(*shape, **options)

    def whole(*bounds: Any, generator: Any = None, **options: Any) -> torch.Tensor:
        return torch.empty(bounds[-1], dtype=torch.int64, **options)

    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(torch, "randn", shaped)
    monkeypatch.setattr(torch, "randint", whole)
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: self.zero_())


def _attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which kernel torch 2.11 takes on a Hopper device: cuDNN before flash, before efficient, before math."""
    asked, real, aten = torch._C, functional.scaled_dot_product_attention, torch.ops.aten

    def choose(
        q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
        scale: float | None = None, enable_gqa: bool = False,
    ) -> Any:  # fmt: skip
        if not q.is_cuda:
            return real(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        half, plain = q.dtype in (torch.bfloat16, torch.float16), attn_mask is None
        if half and asked._get_cudnn_sdp_enabled():
            return aten._scaled_dot_product_cudnn_attention(q, k, v, attn_mask, False, 0.0, is_causal)[0]
        if half and plain and asked._get_flash_sdp_enabled():
            return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal)[0]
        if not enable_gqa and asked._get_mem_efficient_sdp_enabled():
            return aten._scaled_dot_product_efficient_attention(q, k, v, attn_mask, False, 0.0, is_causal)[0]
        if not asked._get_math_sdp_enabled():
            raise RuntimeError("No available kernel. Aborting execution.")
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        return (q @ k.transpose(2, 3)).softmax(-1) @ v

    monkeypatch.setattr(functional, "scaled_dot_product_attention", choose)
    monkeypatch.setattr(sdpa_kernels.SdpaKernel, "_able_on_cuda", _able)


def _able(kernel: sdpa_kernels.SdpaKernel, shape: AttentionShape, device: torch.device) -> bool:
    """Which calls the kernels of such a device take."""
    if kernel.name == "efficient":
        return shape.n_heads == shape.n_kv_heads
    return kernel.name == "math" or shape.dtype in ("bf16", "fp16")


def _triton(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    """Launches of Triton's kernels, whose results nobody reads; where Triton is not installed there are none."""
    if find_spec("triton") is None:
        return
    from triton.runtime.jit import JITFunction

    def launch(kernel: Any, *args: Any, **options: Any) -> None:
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        gpu.launch(kernel.__name__, *gpu.costs.triton_kernel(kernel.__name__, tensors))

    monkeypatch.setattr(JITFunction, "run", launch)


def _profiler(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    @contextmanager
    def profile(**_: Any) -> Iterator[Any]:
        gpu.seen = seen = []
        run = SimpleNamespace(kineto_results=SimpleNamespace(events=lambda: seen))
        try:
            yield run
        finally:
            gpu.seen = None

    class Range:
        """A range on the host, and again on the device, under a number that a launch may have too."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __enter__(self) -> None:
            self._began_s, self._device_s = gpu.host_s, gpu.device_s

        def __exit__(self, *_: object) -> None:
            gpu.spend(1e-6)
            if gpu.seen is not None:
                began, spent = int(self._began_s * 1e9), int((gpu.host_s - self._began_s) * 1e9)
                number = next((one.correlation for one in gpu.seen if one.what == "cudaLaunchKernel"), 1)
                gpu.seen.append(Seen(self._name, began, spent, annotation=True))
                on_device = int((gpu.device_s - self._device_s) * 1e9)
                gpu.seen.append(Seen(self._name, int(self._device_s * 1e9), on_device, "CUDA", number))

    monkeypatch.setattr(profiler, "profile", profile)
    monkeypatch.setattr(torch.autograd.profiler, "record_function", Range)
