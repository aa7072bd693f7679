"""Our own flash attention for NVIDIA GPUs, in Triton: prefill by tiles of queries, decode by splits of keys.

Triton is imported when a call is made, not before: it is no dependency of llamalab. With
TRITON_INTERPRET=1 in the environment before that, the kernels run on the CPU, which is how they
are tested where there is no GPU.

Belongs here: one file a kernel, `plan` (tiles and splits by shape), and the calls that launch them.
Does not belong here: other backends (attention), KV caches (model), the cost of attention (analytic.attention_cost).
"""

import importlib.util

import torch
from torch import Tensor

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention.limits import shape_of
from llamalab.attention.shapes import in_view
from llamalab.attention.triton_flash.few_queries import decode_attention
from llamalab.attention.triton_flash.launch import Flash, interpreted
from llamalab.attention.triton_flash.many_queries import prefill
from llamalab.attention.triton_flash.plan import takes_decode
from llamalab.errors import UnavailableError
from llamalab.extras import missing

__all__ = ["Flash", "attend", "check", "decode_attention", "flash", "interpreted", "prefill"]

MAX_HEAD_DIM = 256  # a larger tile does not fit the registers of one program


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """Causal attention in one of the two kernels; query t sees keys 0 .. query_offset + t, or the window's."""
    return flash(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=window).z_BHTE


def flash(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Flash:
    """Causal attention with its log-sum-exp. Raises InputError, UnavailableError before anything runs."""
    k_BKSE, v_BKSE, query_offset, window = in_view(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    shape = shape_of(q_BHTE, k_BKSE, window)
    check(shape, q_BHTE.device)
    # The kernels step through a head with stride 1.
    q_BHTE, k_BKSE, v_BKSE = (x if x.stride(-1) == 1 else x.contiguous() for x in (q_BHTE, k_BKSE, v_BKSE))
    few_rows = takes_decode(shape.n_heads // shape.n_kv_heads, shape.new_tokens, q_BHTE.element_size() <= 2)
    run = decode_attention if few_rows else prefill
    return run(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=window)


def check(shape: AttentionShape, device: torch.device) -> None:
    """Raise MissingError or UnavailableError for a call that the kernels do not support."""
    if importlib.util.find_spec("triton") is None:
        raise missing("triton", "attention 'triton'")
    if not interpreted():
        if device.type != "cuda":
            raise UnavailableError(
                f"attention 'triton' runs on NVIDIA GPUs; the tensors are on {device.type}; "
                "take 'tiled' or 'sdpa', or set TRITON_INTERPRET=1 to try the kernels slowly on the CPU"
            )
        if torch.cuda.get_device_capability(device) < (8, 0):
            raise UnavailableError("attention 'triton' needs compute capability 8.0 or newer (A100); take 'sdpa'")
    if shape.dtype not in ("bf16", "fp16", "fp32"):
        raise UnavailableError(f"attention 'triton' computes in bf16, fp16 or fp32; got {shape.dtype}; take 'naive'")
    if shape.head_dim > MAX_HEAD_DIM:
        raise UnavailableError(
            f"attention 'triton' takes head dims up to {MAX_HEAD_DIM}; got {shape.head_dim}; take 'sdpa'"
        )
