"""PyTorch's attention kernels by name, with an error instead of a silent fallback.

The choice is made around the call itself. Around a compiled function it would be ignored: the kernel
of the first trace stays, without a warning. The kernel that ran is read from a profiler.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.backends.cuda import (
    SDPAParams,
    can_use_cudnn_attention,
    can_use_efficient_attention,
    can_use_flash_attention,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import sdpa
from llamalab.errors import UnavailableError

_TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_CUDA_ABLE = {
    SDPBackend.FLASH_ATTENTION: can_use_flash_attention,
    SDPBackend.EFFICIENT_ATTENTION: can_use_efficient_attention,
    SDPBackend.CUDNN_ATTENTION: can_use_cudnn_attention,
}


class SdpaKernel(NamedTuple):
    """One of the kernels behind scaled_dot_product_attention, under llamalab's name for it."""

    name: str
    backend: SDPBackend

    def attend(
        self, q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None
    ) -> Tensor:
        """z_BHTE by this kernel alone. Raises UnavailableError where PyTorch has no such kernel for the call."""
        with sdpa_kernel(self.backend):
            try:
                return sdpa.attend(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=window)
            except RuntimeError as error:
                if "No viable backend" not in str(error) and "No available kernel" not in str(error):
                    raise
                raise UnavailableError(self._refusal(f"tensors like these ({error})")) from None

    def check(self, shape: AttentionShape, device: torch.device) -> None:
        """Raise UnavailableError where this kernel cannot run such a call; nothing is run."""
        if self.backend not in _CUDA_ABLE:
            return
        if device.type != "cuda":
            if self.backend != SDPBackend.FLASH_ATTENTION:
                raise UnavailableError(self._refusal(device.type))
            return
        if shape.dtype not in _TORCH_DTYPES or not self._able_on_cuda(shape, device):
            raise UnavailableError(self._refusal(f"{_in_words(shape)} on this GPU"))

    def _able_on_cuda(self, shape: AttentionShape, device: torch.device) -> bool:
        dtype, grouped = _TORCH_DTYPES[shape.dtype], shape.n_heads != shape.n_kv_heads
        query = (1, shape.n_heads, shape.new_tokens, shape.head_dim)
        keys = (1, shape.n_kv_heads, shape.context_tokens, shape.head_dim)
        q_BHTE, k_BKSE = (torch.empty(size, dtype=dtype, device=device) for size in (query, keys))
        bounded = shape.new_tokens > 1 and shape.window is not None and shape.window < shape.context_tokens
        mask_TS = torch.ones(q_BHTE.shape[2], k_BKSE.shape[2], dtype=torch.bool, device=device) if bounded else None
        causal = 1 < shape.new_tokens == shape.context_tokens and not bounded
        return _CUDA_ABLE[self.backend](SDPAParams(q_BHTE, k_BKSE, k_BKSE, mask_TS, 0.0, causal, grouped))

    def _refusal(self, what: str) -> str:
        return f"attention {self.name!r} needs a PyTorch kernel for it; there is none for {what}; take 'sdpa'"


def _in_words(shape: AttentionShape) -> str:
    window = "" if shape.window is None else f" and a window of {shape.window}"
    return f"{shape.dtype}, {shape.n_heads} heads over {shape.n_kv_heads} and head dim {shape.head_dim}{window}"


KERNELS = {
    kernel.name: kernel
    for kernel in (
        SdpaKernel("math", SDPBackend.MATH),
        SdpaKernel("flash", SDPBackend.FLASH_ATTENTION),
        SdpaKernel("efficient", SDPBackend.EFFICIENT_ATTENTION),
        SdpaKernel("cudnn", SDPBackend.CUDNN_ATTENTION),
    )
}
