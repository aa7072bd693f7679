"""How much of the model can be run here? Embedding, k real-size blocks and the head.

All blocks of a Llama do the same work on the same sizes, so the time of one stands for all; k is as
many as a memory limit lets in. Two accounts of the rest are kept apart: what ran is measured, what
is multiplied is extrapolated. Weights are random: their values do not change the work.
"""

from typing import NamedTuple

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError
from llamalab.units import format_bytes

BLOCK_LIMITS_BYTES = {"cpu": 2**30, "cuda": 2**33}
SPARE = 0.9  # of the free memory; libraries and the allocator need some


class Share(NamedTuple):
    """The part of a model to run: the architecture cut to its first blocks, of `layers_total`."""

    arch: LlamaArch
    layers_total: int

    @property
    def layers(self) -> int:
        """Blocks that are run."""
        return self.arch.n_layers

    def need_bytes(self, *, batch: int, new_tokens: int, max_tokens: int, dtype: str) -> int:
        """Weights, cache and the activations of the larger pass."""
        activations = peak_activation_bytes(self.arch, new_tokens=new_tokens, batch=batch, dtype=dtype).bytes
        return (
            weight_bytes(self.arch, dtype) + kv_bytes(self.arch, seq=max_tokens, batch=batch, dtype=dtype) + activations
        )


def choose_share(arch: LlamaArch, dtype: str, *, limit_bytes: int, full: bool = False) -> Share:
    """All blocks when `full`, else as many as fit into the limit, at least one.

    >>> from llamalab.presets import PRESETS
    >>> choose_share(PRESETS["7b"].arch, "bf16", limit_bytes=2**30).layers
    2
    """
    block_bytes = weight_bytes(arch.replace(n_layers=2), dtype) - weight_bytes(arch.replace(n_layers=1), dtype)
    layers = arch.n_layers if full else min(arch.n_layers, max(1, limit_bytes // block_bytes))
    return Share(arch.replace(n_layers=layers), arch.n_layers)


def check_fits(share: Share, name: str, need_bytes: int, free_bytes: int) -> None:
    """Raise DoesNotFitError, with the numbers and what helps, before anything is allocated."""
    if need_bytes <= SPARE * free_bytes:
        return
    what = f"{share.layers} of {share.layers_total} blocks" if share.layers < share.layers_total else "the whole"
    remedy = (
        "leave out --full to measure some of its blocks" if share.layers > 1 else "free memory, or take a smaller model"
    )
    raise DoesNotFitError(
        f"{what} of {name} with embedding, head and cache must fit into {SPARE:.0%} of the free memory, "
        f"{format_bytes(free_bytes)}; it needs {format_bytes(need_bytes)}; {remedy}"
    )
