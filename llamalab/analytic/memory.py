"""Tokens that fit into a memory: (memory - weights) // KV bytes per token.

Batch times context is limited to that many tokens; layers with a sliding window stop growing where it is full.
Activations, the runtime and fragmentation are not counted: `memory` is the share available to weights and KV cache.
"""

from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token, layers_kv_bytes
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch
from llamalab.checks import MOST_MEMORY_BYTES, whole
from llamalab.errors import DoesNotFitError
from llamalab.formatting import format_bytes
from llamalab.startup.hints import NamedTuple


class Room(NamedTuple):
    """The memory for the KV cache of a model in one storage dtype.

    `weight_bytes` is None where the given memory excludes the weights.
    """

    free_bytes: int
    arch: LlamaArch
    kv_dtype: str
    weight_bytes: int | None = None

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token in all layers."""
        return kv_bytes_per_token(self.arch, self.kv_dtype)

    @property
    def tokens(self) -> int | None:
        """Cached tokens of one sequence that fit; None where its window bounds the cache, whatever its length."""
        return self.largest_context(1)

    def largest_batch(self, seq: int) -> int:
        """Sequences of `seq` tokens that fit."""
        return self.free_bytes // self.kv_bytes(whole(seq, "seq"), 1)

    def largest_context(self, batch: int) -> int | None:
        """Tokens that each of `batch` sequences can have; None where their windows bound the cache."""
        free, filled = self.free_bytes // whole(batch, "batch"), 0
        for window in sorted(window for window, _ in self.arch.windows if window is not None):
            if self.kv_bytes(window, 1) > free:
                break
            filled = window
        left = [group for group in self.arch.windows if group[0] is None or group[0] > filled]
        if not left:
            return None
        each = layers_kv_bytes(((None, layers) for _, layers in left), self.arch.kv_dim, seq=1, dtype=self.kv_dtype)
        return filled + (free - (self.kv_bytes(filled, 1) if filled else 0)) // each

    def kv_bytes(self, seq: int, batch: int) -> int:
        """Bytes of the cache of `batch` sequences of `seq` tokens."""
        return kv_bytes(self.arch, seq=seq, batch=batch, dtype=self.kv_dtype)


def room_in(arch: LlamaArch, memory_bytes: int, *, dtype: str = "bf16", kv_dtype: str | None = None) -> Room:
    """The room beside the weights. Raises DoesNotFitError where the weights alone are too large.

    >>> from llamalab.presets import PRESETS
    >>> room_in(PRESETS["7b"].arch, 24 * 2**30).tokens
    23446
    """
    memory_bytes = whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES)
    weights = weight_bytes(arch, dtype)
    if weights > memory_bytes:
        raise DoesNotFitError(
            f"the weights must fit: they take {format_bytes(weights)} in {dtype}, the memory is "
            f"{format_bytes(memory_bytes)}, {format_bytes(weights - memory_bytes)} too little",
            hint="try a smaller {dtype}, a smaller {model} or more memory",
        )
    return Room(memory_bytes - weights, arch, kv_dtype or dtype, weights)


def room_free(arch: LlamaArch, free_bytes: int, *, kv_dtype: str = "bf16") -> Room:
    """The room where the memory already excludes the weights.

    >>> from llamalab.presets import PRESETS
    >>> room_free(PRESETS["7b"].arch, 10 * 10**9, kv_dtype="fp16").tokens
    19073
    """
    return Room(whole(free_bytes, "free_bytes", least=0, most=MOST_MEMORY_BYTES), arch, kv_dtype)


def check_fits(room: Room, *, seq: int, batch: int) -> int:
    """Bytes left beside a cache of `batch` sequences of `seq` tokens; DoesNotFitError where there are none."""
    needed = room.kv_bytes(whole(seq, "seq"), whole(batch, "batch"))
    at_full_price = room.free_bytes // room.kv_bytes_per_token
    if needed > room.free_bytes:
        raise DoesNotFitError(
            f"the KV cache of {batch:,} × {seq:,} tokens must fit: it takes {format_bytes(needed)} in "
            f"{room.kv_dtype}, {format_bytes(room.free_bytes)} is free, {format_bytes(needed - room.free_bytes)} too "
            f"little; at most {max(at_full_price, batch * (room.largest_context(batch) or 0)):,} tokens fit"
        )
    return room.free_bytes - needed
