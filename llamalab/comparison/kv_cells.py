"""The KV cache of a model with other numbers of KV heads, at the lengths and batches shown on a page."""

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.arch import LlamaArch, attention_kind
from llamalab.arch.fields import valid_kv_heads
from llamalab.startup.hints import NamedTuple

BATCHES = (1, 2, 4, 8, 16, 32, 64)


class CacheCell(NamedTuple):
    """The KV cache with so many KV heads, at one length and batch, and whether it fits on the device."""

    attention: str
    n_kv_heads: int
    context: int
    batch: int
    kv_bytes: int
    fits: bool


def kv_cells(arch: LlamaArch, dtype: str, free_bytes: int) -> tuple[CacheCell, ...]:
    """The cache under MHA, GQA and MQA for each length and batch; `free_bytes` is the memory left by the weights."""
    return tuple(
        _cell(arch, heads, context, batch, dtype, free_bytes)
        for heads in kv_head_choices(arch)
        for context in sequence_lengths(arch)
        for batch in BATCHES
    )


def kv_head_choices(arch: LlamaArch) -> list[int]:
    """MHA, one GQA and MQA: the model's own grouping where it has one, else eight KV heads or near."""
    between = [heads for heads in valid_kv_heads(arch.n_heads) if 1 < heads < arch.n_heads]
    chosen = [arch.n_kv_heads] if arch.n_kv_heads in between else sorted(between, key=lambda heads: abs(heads - 8))[:1]
    return list(dict.fromkeys([arch.n_heads, *chosen, 1]))


def sequence_lengths(arch: LlamaArch) -> list[int]:
    """Seven lengths, each double the one before, with the trained context as the fourth."""
    return [max(1, arch.max_positions // 8) * 2**power for power in range(7)]


def _cell(arch: LlamaArch, heads: int, context: int, batch: int, dtype: str, free_bytes: int) -> CacheCell:
    size = kv_bytes(arch.replace(n_kv_heads=heads), seq=context, batch=batch, dtype=dtype)
    return CacheCell(
        attention=attention_kind(arch.n_heads, heads),
        n_kv_heads=heads,
        context=context,
        batch=batch,
        kv_bytes=size,
        fits=size <= free_bytes,
    )
