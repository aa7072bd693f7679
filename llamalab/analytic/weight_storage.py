"""The bytes of the weights that one rank holds, each tensor in the type that params.stored_as gives it."""

from functools import lru_cache

from llamalab.analytic.parallel import shard
from llamalab.analytic.params import stored_as, weights
from llamalab.arch import LlamaArch
from llamalab.units import storage_bytes


@lru_cache(maxsize=256)
def stored_weight_bytes(arch: LlamaArch, dtype: str, weight_dtype: str, ranks: int = 1) -> int:
    """Bytes of the weights on one rank; KV heads are replicated where there are fewer than ranks, norms always.

    >>> from llamalab.presets import PRESETS
    >>> stored_weight_bytes(PRESETS["7b"].arch, "bf16", "bf16")
    13476831232
    """
    part, stored = shard(arch, ranks), 0
    for weight in weights(arch):
        elements = weight.parameters // weight.count
        if ".wk." in weight.name or ".wv." in weight.name:
            elements = part.kv_dim * arch.dim
        elif len(weight.shape) == 2:
            elements //= ranks
        stored += weight.count * storage_bytes(elements, stored_as(weight, dtype, weight_dtype))
    return stored
