"""Defaults of a device and dtype, such as the attention backend."""

import torch

from llamalab.attention import Backend, get_backend
from llamalab.model.onednn import can_pack
from llamalab.streamed.layout import UNIT
from llamalab.streamed.products import can_stream


def fastest_backend(device: torch.device, dtype: torch.dtype) -> Backend:
    """The fastest backend, measured over prefill and decode at the heads of Llama 2 (docs/decisions.md).

    On a CPU it is chunked attention where oneDNN multiplies this type: without it, products in bf16 and fp16 take
    twenty times as long as the fused kernel, which converts to fp32 tile by tile. There, single queries are streamed
    where possible.

    >>> fastest_backend(torch.device("cuda"), torch.bfloat16).name
    'sdpa'
    """
    if device.type != "cpu":
        return get_backend("sdpa")
    return get_backend("chunked" if can_pack(dtype) else "streamed" if can_stream(dtype, UNIT) else "sdpa")
