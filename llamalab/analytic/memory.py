"""What fits into a memory: tokens = (memory - weights) // KV bytes per token.

Batch and context are that many tokens, shared out. Activations, the runtime and fragmentation take
memory too and are not counted here: `memory` is what weights and KV cache may use.
"""

from typing import NamedTuple

from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch
from llamalab.checks import MOST_MEMORY_BYTES, whole
from llamalab.errors import DoesNotFitError
from llamalab.units import format_bytes


class Room(NamedTuple):
    """What is left for the KV cache, and how many tokens that is.

    `weight_bytes` is None where the memory was said to be free of the weights already.
    """

    free_bytes: int
    kv_bytes_per_token: int
    weight_bytes: int | None = None

    @property
    def tokens(self) -> int:
        """Cached tokens that fit, over all sequences."""
        return self.free_bytes // self.kv_bytes_per_token

    def largest_batch(self, seq: int) -> int:
        """Sequences of `seq` tokens that fit."""
        return self.tokens // whole(seq, "seq")

    def largest_context(self, batch: int) -> int:
        """Tokens that each of `batch` sequences can have."""
        return self.tokens // whole(batch, "batch")


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
            f"{format_bytes(memory_bytes)}, {format_bytes(weights - memory_bytes)} too little; "
            "try a smaller --dtype, a smaller model or more memory"
        )
    return Room(memory_bytes - weights, kv_bytes_per_token(arch, kv_dtype or dtype), weights)


def room_free(arch: LlamaArch, free_bytes: int, *, kv_dtype: str = "bf16") -> Room:
    """The room where the weights are in already.

    >>> from llamalab.presets import PRESETS
    >>> room_free(PRESETS["7b"].arch, 10 * 10**9, kv_dtype="fp16").tokens
    19073
    """
    free_bytes = whole(free_bytes, "free_bytes", least=0, most=MOST_MEMORY_BYTES)
    return Room(free_bytes, kv_bytes_per_token(arch, kv_dtype))


def check_fits(arch: LlamaArch, room: Room, *, seq: int, batch: int, kv_dtype: str) -> int:
    """Bytes left beside a cache of `batch` sequences of `seq` tokens; DoesNotFitError where there are none."""
    seq, batch = whole(seq, "seq"), whole(batch, "batch")
    needed = kv_bytes(arch, seq=seq, batch=batch, dtype=kv_dtype)
    if needed > room.free_bytes:
        raise DoesNotFitError(
            f"the KV cache of {batch:,} × {seq:,} tokens must fit: it takes {format_bytes(needed)} in {kv_dtype}, "
            f"{format_bytes(room.free_bytes)} is free, {format_bytes(needed - room.free_bytes)} too little; "
            f"at most {room.tokens:,} tokens fit"
        )
    return room.free_bytes - needed
