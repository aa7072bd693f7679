"""Gluon's language on the host: a kernel's own source run as Python, its copies, products and barriers one by one.

Triton interprets no Gluon. What can go wrong there is order: a tile read before it has come, or written over before it
was read, a barrier that nobody flips. So copies are made at once, or as late as a wait allows; products always as late
as a wait allows; the partitions are threads, and a wait that never ends is an error. Layouts and registers
mean nothing here: those are for the compiler to check.
"""

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

MOST_WAIT_S = 20.0


class Shared:
    """Memory on chip, or a look at a part of it; it begins as NaN."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.shape, self.dtype = tensor, list(tensor.shape), tensor.dtype

    def index(self, at: Any) -> "Shared":
        return Shared(self.tensor[int(at)])

    def reshape(self, shape: list[int]) -> "Shared":
        return Shared(self.tensor.view(shape))

    def permute(self, order: tuple[int, ...]) -> "Shared":
        return Shared(self.tensor.permute(order))


class Barriers:
    """A ring of barriers, or one of them."""

    def __init__(self, made: list["Barrier"]) -> None:
        self.made = made

    def index(self, at: Any) -> "Barriers":
        return Barriers([self.made[int(at)]])


class Barrier:
    """Arrivals and bytes that are waited for; the phase flips when there are no more of either."""

    def __init__(self) -> None:
        self.changed, self.phase, self.count, self.left, self.bytes = threading.Condition(), 0, 0, 0, 0
        self.late: list[Callable[[], None]] = []

    def step(self, arrivals: int, nbytes: int) -> None:
        with self.changed:
            self.left, self.bytes = self.left - arrivals, self.bytes + nbytes
            assert self.left >= 0, "more arrivals than a barrier was made for"
            if self.left == 0 and self.bytes == 0:
                self.phase, self.left = self.phase ^ 1, self.count
                self.changed.notify_all()

    def wait(self, phase: int) -> None:
        """Until the phase of that parity is over, as the hardware's try_wait has it."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.late or self.phase != phase, MOST_WAIT_S), "nobody arrives"
        while self.late and self.phase == phase:
            self.late.pop(0)()
        with self.changed:
            assert self.changed.wait_for(lambda: self.phase != phase, MOST_WAIT_S), "nobody arrives"


class Product:
    """A product that has been issued: made when it is waited for."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self.make, self.value = make, None
        self.made = False


class Pointer:
    """An address in a flat tensor, or many."""

    def __init__(self, flat: Tensor, at: Any = 0) -> None:
        self.flat, self.at = flat, at

    def __add__(self, more: Any) -> "Pointer":
        return Pointer(self.flat, self.at + more)


class Descriptor:
    """A tensor that the copy engine knows, and the block that it copies."""

    def __init__(self, tensor: Tensor, block: list[int]) -> None:
        nbytes = tensor.element_size() * torch.Size(block).numel()
        self.tensor, self.dtype, self.layout = tensor, tensor.dtype, None
        self.block_type = SimpleNamespace(shape=block, nbytes=nbytes)

    def block(self, at: list[Any]) -> Tensor:
        """The block from there on, 0 outside of the tensor."""
        made = torch.zeros(self.block_type.shape, dtype=self.dtype)
        inside = self.tensor[tuple(slice(int(a), int(a) + n) for a, n in zip(at, made.shape, strict=True))]
        made[tuple(slice(0, n) for n in inside.shape)] = inside
        return made


class Host:
    """One program of a launch at a time, on threads."""

    def __init__(self, late: bool) -> None:
        self.late, self.issued = late, list[Product]()
        self.program: tuple[int, ...] = ()
        self.programs: tuple[int, ...] = ()

    def launch(self, kernel: Callable[..., None], grid: tuple[int, int, int], *args: Any) -> None:
        self.programs = grid
        for place in range(torch.Size(grid).numel()):
            self.program = (place % grid[0], place // grid[0] % grid[1], place // grid[0] // grid[1])
            self.issued.clear()
            kernel(*args)
            assert not self.issued, "a product was never waited for"

    def specialise(self, parts: list[tuple[Callable[..., None], tuple[Any, ...]]], *_: object) -> None:
        failed: list[BaseException] = []

        def run(part: Callable[..., None], args: tuple[Any, ...]) -> None:
            try:
                part(*args)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=part, daemon=True) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * MOST_WAIT_S)
        if failed:
            raise failed[0]

    def copy(self, desc: Descriptor, at: list[Any], barrier: Barriers, to: Shared) -> None:
        def done() -> None:
            to.tensor.copy_(desc.block(at))
            barrier.made[0].step(0, -desc.block_type.nbytes)

        if self.late:
            with barrier.made[0].changed:
                barrier.made[0].late.append(done)
                barrier.made[0].changed.notify_all()
        else:
            done()

    def multiply(self, a: Any, b: Shared, acc: Any, *, use_acc: bool = True, is_async: bool = False) -> Product:
        def make() -> Tensor:
            left = a.tensor if isinstance(a, Shared) else a
            product = left.float() @ b.tensor.float()
            return product + acc if use_acc else product

        assert is_async
        self.issued.append(Product(make))
        return self.issued[-1]

    def wait(self, pending: int, deps: list[Product]) -> Tensor:
        while len(self.issued) > pending:
            first = self.issued.pop(0)
            first.value, first.made = first.make(), True
        assert deps[0].made, "a product is used that has not been waited for"
        return deps[0].value

    def language(self) -> ModuleType:
        """What `gl` is to a kernel."""
        made = ModuleType("gl")
        nothing = lambda *_, **__: None  # noqa: E731
        vars(made).update(
            constexpr=object, float32=torch.float32, int64=torch.int64, static_range=range, minimum=min,
            log2=torch.log2,
            program_id=lambda axis: torch.tensor(self.program[axis]), num_programs=lambda axis: self.programs[axis],
            arange=lambda first, last, _: torch.arange(first, last), where=torch.where, maximum=torch.maximum,
            full=lambda shape, value, kind, _: torch.full(shape, value, dtype=kind), exp2=torch.exp2,
            zeros=lambda shape, kind, _: torch.zeros(shape, dtype=kind), max=lambda x, axis: x.amax(axis),
            sum=lambda x, axis: x.sum(axis), convert_layout=lambda x, _: x, store=store, allocate_shared_memory=room,
            SliceLayout=nothing, NVMMADistributedLayout=nothing, DotOperandLayout=nothing,
            warp_specialize=self.specialise,
        )  # fmt: skip
        return made


def room(kind: torch.dtype, shape: list[int], layout: Any) -> Shared | Barriers:
    """Memory for tiles, or for barriers."""
    if kind == torch.int64:
        return Barriers([Barrier() for _ in range(shape[0])])
    return Shared(torch.full(shape, float("nan"), dtype=kind))


def store(to: Pointer, values: Tensor, mask: Tensor) -> None:
    """What the mask lets through."""
    at, mask = torch.as_tensor(to.at).expand(values.shape), mask.expand(values.shape)
    to.flat[at[mask]] = values[mask]


def begin(barriers: Barriers, count: int) -> None:
    """A barrier for so many arrivals a phase."""
    barriers.made[0].count = barriers.made[0].left = count


@contextmanager
def on_host(path: Path, *, late: bool) -> Iterator[tuple[Host, ModuleType]]:
    """A module of Gluon kernels as plain functions."""
    host = Host(late)
    hopper = ModuleType("hopper")
    barrier = SimpleNamespace(
        MBarrierLayout=lambda: None, init=begin, wait=lambda one, phase: one.made[0].wait(int(phase)),
        expect=lambda one, nbytes: one.made[0].step(1, nbytes), arrive=lambda one, count: one.made[0].step(count, 0),
    )  # fmt: skip
    vars(hopper).update(
        mbarrier=barrier, tma=SimpleNamespace(async_copy_global_to_shared=host.copy), warpgroup_mma=host.multiply,
        warpgroup_mma_init=lambda acc: _done(acc), warpgroup_mma_wait=host.wait,
    )  # fmt: skip
    gluon, language = ModuleType("gluon"), host.language()
    vars(gluon).update(jit=lambda kernel: kernel, language=language)
    experimental = ModuleType("experimental")
    vars(experimental).update(gluon=gluon)
    root = "triton.experimental"
    fakes = {root: experimental, f"{root}.gluon": gluon, f"{root}.gluon.language": language,
             f"{root}.gluon.language.nvidia": ModuleType("nvidia"),
             f"{root}.gluon.language.nvidia.hopper": hopper}  # fmt: skip
    spec = importlib.util.spec_from_file_location("kernels_on_host", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, fakes):
        spec.loader.exec_module(module)
        yield host, module


def _done(acc: Tensor) -> Product:
    made = Product(lambda: acc)
    made.value, made.made = acc, True
    return made
