"""The part of a model that can be run here: embedding, k real-size blocks and the head.

All blocks of a Llama do the same work on the same sizes, so that the time of one stands for all; k is the largest
number within a memory limit. Times of blocks that ran are measured, times multiplied from them extrapolated. Weights
are a checkpoint's or random: their values do not change the work.
Alternatively the full depth runs over k distinct blocks that the layers use in turn (llamalab.model.build): then all
that is timed ran. k is as small as caches allow: even with optimal replacement, a cache saves at most its own size of
the bytes of k blocks used in turn, 3 % of them.
"""

import math
from typing import NamedTuple

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.kept_weights import model_weight_bytes
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError
from llamalab.formatting import format_bytes
from llamalab.units import KeptWeights

BLOCK_LIMITS_BYTES = {"host": 2**30, "accelerator": 2**33}  # by the role of the device
SPARE = 0.9  # share of the free memory; libraries and the allocator need the rest
TIED_ERROR = 0.03  # share of the weights' bytes that the last-level cache may save at most where blocks are tied


class Share(NamedTuple):
    """The part of a model to run: the architecture cut to its first blocks, of `layers_total`."""

    arch: LlamaArch
    layers_total: int

    @property
    def layers(self) -> int:
        """Number of blocks that run."""
        return self.arch.n_layers

    def need_bytes(
        self, *, batch: int, new_tokens: int, max_tokens: int, dtype: str, kv_dtype: str | None = None
    ) -> int:
        """Weights, cache and the activations of the larger pass.

        Args:
            batch: sequences.
            new_tokens: tokens of the larger pass.
            max_tokens: tokens that the cache has room for.
            dtype: of weights, activations and cache.
            kv_dtype: of the cache alone (default: as `dtype`).
        """
        activations = peak_activation_bytes(self.arch, PassShape(new_tokens=new_tokens, batch=batch, dtype=dtype)).bytes
        return (
            weight_bytes(self.arch, dtype)
            + kv_bytes(self.arch, seq=max_tokens, batch=batch, dtype=kv_dtype or dtype)
            + activations
        )


class Depth(NamedTuple):
    """A model run at its full depth over `distinct` blocks, which its layers share in turn."""

    arch: LlamaArch
    distinct: int

    @property
    def tied(self) -> bool:
        """Whether layers share blocks."""
        return self.distinct < self.arch.n_layers

    @property
    def label(self) -> str:
        """The blocks that ran, as shown in every row.

        >>> from llamalab.presets import PRESETS
        >>> Depth(PRESETS["7b"].arch, 2).label, Depth(PRESETS["7b"].arch, 32).label
        ('tied 2 of 32 blocks', '32 blocks')
        """
        layers = self.arch.n_layers
        return f"tied {self.distinct} of {layers} blocks" if self.tied else f"{layers} blocks"

    def held_weight_bytes(self, dtype: str, kept: KeptWeights | None = None) -> int:
        """Bytes of the parameters in memory."""
        return model_weight_bytes(self.arch.replace(n_layers=self.distinct), dtype, kept)

    def need_bytes(
        self, *, batch: int, new_tokens: int, max_tokens: int, dtype: str, attention: str, kv_dtype: str | None = None
    ) -> int:
        """Bytes of weights as they are built, before quantisation, of the cache of every layer, and of activations.

        The activations are those of a pass at the end of the context.

        Args:
            batch: sequences.
            new_tokens: tokens of the pass.
            max_tokens: tokens that the cache has room for.
            dtype: of weights, activations and cache.
            attention: the algorithm, naive or flash.
            kv_dtype: of the cache alone (default: as `dtype`).
        """
        activations = peak_activation_bytes(
            self.arch,
            PassShape(new_tokens=new_tokens, context_tokens=max_tokens, batch=batch, dtype=dtype, attention=attention),
        )
        cache = kv_bytes(self.arch, seq=max_tokens, batch=batch, dtype=kv_dtype or dtype)
        return self.held_weight_bytes(dtype) + cache + activations.bytes


def choose_tied(arch: LlamaArch, dtype: str, *, room_bytes: int, cache_bytes: int) -> Depth:
    """All blocks where all weights fit, else the fewest of whose bytes a cache holds no more than TIED_ERROR.

    Fewer where these do not fit either, but at least 2.

    >>> from llamalab.presets import PRESETS
    >>> arch = PRESETS["7b"].arch
    >>> [choose_tied(arch, "bf16", room_bytes=2**33, cache_bytes=size).distinct for size in (2**20, 2**25, 2**28)]
    [2, 3, 19]
    """
    weights = weight_bytes(arch, dtype)
    if weights <= room_bytes:
        return Depth(arch, arch.n_layers)
    block_bytes = bytes_of_block(arch, dtype)
    wanted = math.ceil(cache_bytes / TIED_ERROR / block_bytes)
    around_bytes = weights - arch.n_layers * block_bytes
    return Depth(arch, min(arch.n_layers, max(2, min(wanted, (room_bytes - around_bytes) // block_bytes))))


def bytes_of_block(arch: LlamaArch, dtype: str) -> int:
    """Bytes of the weights of one block."""
    return weight_bytes(arch.replace(n_layers=2), dtype) - weight_bytes(arch.replace(n_layers=1), dtype)


def choose_share(arch: LlamaArch, dtype: str, *, limit_bytes: int, full: bool = False) -> Share:
    """All blocks when `full`, else as many as fit into the limit, at least one.

    >>> from llamalab.presets import PRESETS
    >>> choose_share(PRESETS["7b"].arch, "bf16", limit_bytes=2**30).layers
    2
    """
    layers = arch.n_layers if full else min(arch.n_layers, max(1, limit_bytes // bytes_of_block(arch, dtype)))
    return Share(arch.replace(n_layers=layers), arch.n_layers)


def check_share_fits(share: Share, name: str, need_bytes: int, free_bytes: int) -> None:
    """Raise DoesNotFitError, with the sizes and a remedy, before anything is allocated."""
    if need_bytes <= SPARE * free_bytes:
        return
    what = f"{share.layers} of {share.layers_total} blocks" if share.layers < share.layers_total else "the whole"
    remedy = (
        "leave {full} out to measure some of its blocks"
        if share.layers > 1
        else "free memory, or take a smaller {model}"
    )
    raise DoesNotFitError(
        f"{what} of {name} with embedding, head and cache must fit into {SPARE:.0%} of the free memory, "
        f"{format_bytes(free_bytes)}; it needs {format_bytes(need_bytes)}",
        hint=remedy,
    )
