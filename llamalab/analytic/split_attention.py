"""Attention in decode that a stack splits over the keys, where there are too few heads to use a whole device."""

from llamalab.analytic.op import Op

SPLIT = "decode_split"


def split_ops(ops: tuple[Op, ...], *, heads: int, split_heads: int | None) -> tuple[Op, ...]:
    """The table of a pass with its decode attention marked as split over the keys, where the stack does so.

    `heads` are the query heads of all sequences on one rank; up to `split_heads` of them attention is split (vLLM 0.2
    to 0.6, vllm/attention/ops/paged_attn.py: its second kernel). Its exception, keys that all fit into one part of 512,
    is left out: otherwise one more token would be predicted faster.

    >>> attend = Op("layers.attention.flash", "attention", 32, mode="decode", roof="attention")
    >>> [split_ops((attend,), heads=heads, split_heads=512)[0].mode for heads in (512, 544)]
    ['decode_split', 'decode']
    """
    if split_heads is None or heads > split_heads:
        return ops
    return tuple(op._replace(mode=SPLIT) if op.kind == "attention" and op.mode == "decode" else op for op in ops)
