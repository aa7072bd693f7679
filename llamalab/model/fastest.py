"""Defaults of a device and dtype, such as the attention backend."""

import torch

from llamalab.attention import Backend, get_backend
from llamalab.model.onednn import can_pack
from llamalab.streamed.layout import UNIT
from llamalab.streamed.products import can_stream


def fastest_backend(device: torch.device, dtype: torch.dtype) -> Backend:
    """The fastest backend, measured over prefill and decode at the heads of Llama 2 (docs/decisions.md).

    On a CPU it is chunked attention where oneDNN multiplies this type: without it, products in bf16 and fp16 take
    twenty times as long as the fused kernel, which converts to fp32 tile by tile. Single queries are streamed
    where possible, except in fp32, which torch multiplies as fast.

    >>> fastest_backend(torch.device("cuda"), torch.bfloat16).name
    'sdpa'
    """
    if device.type != "cpu":
        return get_backend("sdpa")
    loops = can_stream(dtype, UNIT)
    if can_pack(dtype):
        return get_backend("mixed" if loops and dtype != torch.float32 else "chunked")
    return get_backend("streamed" if loops else "sdpa")
