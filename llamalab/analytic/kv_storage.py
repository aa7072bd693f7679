"""The stored bytes of a KV cache: values, scales of a quantised one, and rounding by paging.

int8: one fp32 scale for each token and KV head, of keys and of values (llamalab's own cache).
int4: an fp16 scale and an fp16 zero point for each 64 values (transformers' QuantizedCache with its defaults).
fp8: no scales. The formula of the values is llamalab.analytic.kv_cache's.
"""

from llamalab.analytic.parallel import shard
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.startup.hints import NamedTuple
from llamalab.units import PLAIN_DTYPES, storage_bytes

KV_DTYPES = (*PLAIN_DTYPES, "int4")
_INT4_GROUP = 64


class KvStorage(NamedTuple):
    """Bytes of one rank."""

    payload_bytes: int
    scale_bytes: int
    rounding_bytes: int


def kv_storage(
    arch: LlamaArch, *, seq: int, batch: int = 1, dtype: str = "bf16", ranks: int = 1, block_tokens: int = 1
) -> KvStorage:
    """The bytes of a KV cache on one rank.

    Args:
        arch: the architecture.
        seq: tokens of each sequence.
        batch: sequences.
        dtype: storage of keys and values.
        ranks: ranks that share the KV heads.
        block_tokens: tokens of a block, to whole ones of which each sequence is rounded up.

    >>> from llamalab.presets import PRESETS
    >>> kv_storage(PRESETS["7b"].arch, seq=100, dtype="int8", block_tokens=16)
    KvStorage(payload_bytes=26214400, scale_bytes=819200, rounding_bytes=3244032)
    """
    seq, batch, block_tokens = whole(seq, "seq"), whole(batch, "batch"), whole(block_tokens, "block_tokens")
    part = shard(arch, ranks)
    values = 2 * part.kv_dim  # of a token in a layer
    payload = values // 2 if dtype == "int4" else storage_bytes(values, dtype)
    scales = {"int8": 4 * values // part.head_dim, "int4": 4 * -(-values // _INT4_GROUP)}.get(dtype, 0)
    kept = padded = 0  # tokens of all layers: one with a window keeps no more than it sees
    for window, layers in arch.windows:
        tokens = min(seq, window or seq)
        kept += layers * tokens
        padded += layers * -(-tokens // block_tokens) * block_tokens
    return KvStorage(payload * kept * batch, scales * kept * batch, (payload + scales) * (padded - kept) * batch)
