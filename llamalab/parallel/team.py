"""The ranks of one run: the first one leads, the others repeat its passes until it is done.

Everything else, such as reading options, sampling, timing and writing files, the leader does alone, so that adaptive
measurements need no agreement. Before each pass it sends the others a message of at most some kilobytes: tokens, caches
by number and their lengths. They keep caches of their own heads. Messages use a process group of their own and are not
counted among the model's collectives.
"""

import os
import pickle
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from llamalab.errors import InputError, UnavailableError
from llamalab.model import RaggedKVCache, StaticKVCache, Transformer
from llamalab.parallel.affinity import let_loops_yield, take_processors

T = TypeVar("T")
_BUFFER = 8192  # bytes of a message that goes in one broadcast
_LENGTH = 8  # bytes of its length at the beginning
_FOREVER = timedelta(days=30)  # the leader has no time limit between passes


class Place(NamedTuple):
    """Rank and number of ranks, in all and on this machine."""

    rank: int
    ranks: int
    local_rank: int


class CacheState(NamedTuple):
    """The state of a cache for other ranks: its number, its sizes, and its tokens."""

    number: int
    batch: int
    max_tokens: int
    dtype: str
    length: int


class Team:
    """The ranks of this run, from the view of one of them.

    >>> Team.device_of("cpu", local_rank=3)
    device(type='cpu')
    """

    def __init__(self, place: Place, device: torch.device, store: Any) -> None:
        self.place, self.device, self.store = place, device, store
        self.mesh = init_device_mesh(device.type, (place.ranks,))
        self._words = dist.new_group(backend="gloo", timeout=_FOREVER)
        let_loops_yield()
        self.model: Transformer | None = None
        self._caches: dict[int, StaticKVCache] = {}
        self._numbers: weakref.WeakKeyDictionary[StaticKVCache, int] = weakref.WeakKeyDictionary()
        self._last_number, self._dropped = 0, list[int]()

    @staticmethod
    def device_of(name: str, *, local_rank: int) -> torch.device:
        """The device of a rank: its own GPU for cuda, the CPU otherwise. Raises UnavailableError for too few GPUs."""
        if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        if name not in ("cuda", "auto"):
            raise InputError(f"the device of several ranks must be cpu, cuda or auto: each takes its own; got {name}")
        if local_rank >= torch.cuda.device_count():
            raise UnavailableError(
                f"each rank must have a GPU of its own; this machine has {torch.cuda.device_count()}, and rank "
                f"{local_rank} of it none",
                hint="take fewer ranks or {device} cpu",
            )
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)

    @classmethod
    def join(cls, place: Place, device: str) -> "Team":
        """Join the other ranks by the environment (MASTER_ADDR, MASTER_PORT), over gloo, or NCCL on CUDA."""
        store, rank, ranks = next(rendezvous("env://", place.rank, place.ranks))
        own = cls.device_of(device, local_rank=place.local_rank)
        if own.type == "cpu":
            take_processors(PrefixStore("llamalab", store), rank, ranks)
        backend = "gloo" if own.type == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, store=PrefixStore("llamalab", store), rank=rank, world_size=ranks)
        return cls(place, own, store)

    @property
    def leads(self) -> bool:
        """Whether this rank leads."""
        return self.place.rank == 0

    def speaks_first(self) -> bool:
        """Whether no other rank has reported an error yet; only one does."""
        try:
            return bool(self.store.add("llamalab/spoken", 1) == 1)
        except RuntimeError:  # the rank that holds the store is gone
            return self.leads

    def everywhere(self, call: Callable[..., Any], *args: Any, own: Mapping[str, Any] | None = None) -> Any:
        """The result of `call(team, ...)` here; all ranks make the same call, the leader with further arguments.

        It must be a function of a module, since it is sent by name.
        """
        self._send(("call", call, args))
        return call(self, *args, **(own or {}))

    def from_leader(self, value: T) -> T:
        """The leader's value, on every rank; inside a call that all make."""
        if self.leads:
            self._send(("from_leader", value))
            return value
        value = self._receive()[1]
        return value

    def lead(self, model: Transformer) -> Transformer:
        """The same model, whose passes are repeated by the others from now on."""
        self.model = model
        model.register_forward_pre_hook(self._announce, with_kwargs=True)
        return model

    def end(self) -> None:
        """End the loop of the other ranks."""
        self._send(("end",))
        dist.destroy_process_group()

    def follow(self) -> None:
        """Repeat the leader's calls until it ends."""
        while (message := self._receive())[0] != "end":
            if message[0] == "call":
                _, call, args = message
                call(self, *args)
            else:
                self._repeat(*message[1:])
        dist.destroy_process_group()

    def _announce(self, model: Transformer, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        tokens_BT, cache = args[0], named.get("cache")
        rows = cache.rows if isinstance(cache, RaggedKVCache) else () if cache is None else (cache,)
        states = tuple(self._state(row) for row in rows)
        dropped, self._dropped = self._dropped, []
        ragged = isinstance(cache, RaggedKVCache)
        self._send(("pass", tokens_BT.tolist(), states, ragged, named.get("logits", "all"), dropped))

    def _state(self, cache: Any) -> CacheState:
        if not isinstance(cache, StaticKVCache):
            raise InputError(f"a model on several ranks must be run with a StaticKVCache; got {type(cache).__name__}")
        if cache not in self._numbers:
            self._last_number += 1
            self._numbers[cache] = self._last_number
            weakref.finalize(cache, self._dropped_later, self._last_number)
        return CacheState(self._numbers[cache], cache.batch, cache.max_tokens, cache.dtype, cache.length)

    def _dropped_later(self, number: int) -> None:
        self._dropped.append(number)

    @torch.inference_mode()
    def _repeat(
        self, tokens: list[list[int]], states: tuple[CacheState, ...], ragged: bool, logits: str, dropped: list[int]
    ) -> None:
        assert self.model is not None
        for number in dropped:
            self._caches.pop(number, None)
        rows = [self._mirrored(state) for state in states]
        cache = RaggedKVCache(rows) if ragged else rows[0] if rows else None
        with suppress(InputError):  # the leader got the same error, before any work, and reports it
            self.model(torch.tensor(tokens, device=self.device), cache=cache, logits=logits)

    def _mirrored(self, state: CacheState) -> StaticKVCache:
        assert self.model is not None
        cache = self._caches.get(state.number)
        if cache is None:
            sizes = {"batch": state.batch, "max_tokens": state.max_tokens, "dtype": state.dtype}
            cache = StaticKVCache(self.model.rank_arch, **sizes, device=self.device)  # type: ignore[arg-type]
            if state.length:  # filled for a measurement, which needs written pages but no particular values
                for store in (*cache.keys, *cache.values):
                    store.fill_(1)
            self._caches[state.number] = cache
        if cache.length > state.length:
            cache.rewind(state.length, lossy=True)
        cache.advance(state.length - cache.length)
        return cache

    def _send(self, message: tuple[Any, ...]) -> None:
        said = pickle.dumps(message)
        first = bytearray(_BUFFER)
        first[:_LENGTH] = len(said).to_bytes(_LENGTH, "little")
        first[_LENGTH : _LENGTH + min(len(said), _BUFFER - _LENGTH)] = said[: _BUFFER - _LENGTH]
        dist.broadcast(torch.frombuffer(first, dtype=torch.uint8), 0, group=self._words)
        if rest := bytearray(said[_BUFFER - _LENGTH :]):
            dist.broadcast(torch.frombuffer(rest, dtype=torch.uint8), 0, group=self._words)

    def _receive(self) -> tuple[Any, ...]:
        first = torch.empty(_BUFFER, dtype=torch.uint8)
        dist.broadcast(first, 0, group=self._words)
        length = int.from_bytes(_bytes(first[:_LENGTH]), "little")
        said = _bytes(first[_LENGTH : _LENGTH + length])
        if length > len(said):
            rest = torch.empty(length - len(said), dtype=torch.uint8)
            dist.broadcast(rest, 0, group=self._words)
            said += _bytes(rest)
        message: tuple[Any, ...] = pickle.loads(said)
        return message


def _bytes(values: Tensor) -> bytes:
    return values.numpy().tobytes()


def place_here() -> Place | None:
    """The place of this process according to torchrun or another launcher; None for a single process."""
    found = os.environ.get
    if not all(found(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        return None
    place = Place(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(found("LOCAL_RANK") or 0))
    return place if place.ranks > 1 else None
