"""The bytes of the weights that one rank holds, each tensor in the type that params.stored_as gives it."""

from functools import lru_cache

from llamalab.analytic.parallel import Shard, elements_on_rank
from llamalab.analytic.params import component_of, components, stored_as, weights
from llamalab.arch import LlamaArch
from llamalab.units import storage_bytes


@lru_cache(maxsize=256)
def stored_weight_bytes(
    arch: LlamaArch, dtype: str, weight_dtype: str, part: Shard, head_dtype: str | None = None
) -> int:
    """Bytes of the weights on the rank of that part; the head in a type of its own where one is named.

    >>> from llamalab.analytic.parallel import shard
    >>> from llamalab.presets import PRESETS
    >>> arch = PRESETS["7b"].arch
    >>> stored_weight_bytes(arch, "bf16", "bf16", shard(arch))
    13476831232
    """
    stored = 0
    for weight in weights(arch):
        head = head_dtype if weight.name.startswith("output") else None
        kind = head or stored_as(weight, dtype, weight_dtype)
        stored += weight.count * storage_bytes(elements_on_rank(weight, arch, part), kind)
    return stored


def bytes_on_rank(arch: LlamaArch, file_bytes: int, part: Shard) -> int:
    """A rank's bytes of a file's weights: in proportion to its share of the elements."""
    elements = sum(weight.count * elements_on_rank(weight, arch, part) for weight in weights(arch))
    return -(-file_bytes * elements // sum(weight.parameters for weight in weights(arch)))


def component_bytes(arch: LlamaArch, dtype: str, weight_dtype: str, part: Shard) -> dict[str, int]:
    """As stored_weight_bytes, by part of the model.

    >>> from llamalab.analytic.parallel import shard
    >>> from llamalab.presets import PRESETS
    >>> component_bytes(PRESETS["7b"].arch, "bf16", "bf16", shard(PRESETS["7b"].arch, 2))["embedding"]
    131072000
    """
    parts = dict.fromkeys(components(arch), 0)
    for weight in weights(arch):
        kind = stored_as(weight, dtype, weight_dtype)
        parts[component_of(weight.name)] += weight.count * storage_bytes(elements_on_rank(weight, arch, part), kind)
    return parts
