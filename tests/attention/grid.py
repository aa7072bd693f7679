"""The grid on which every attention backend is held against attention in fp64, and that attention."""

import torch
from torch import Tensor

# (B, H, K, T, S, E): MHA, GQA, MQA; prefill, chunk, decode; below, at and across the borders of tiles of 128.
GRID = [
    (2, 6, 6, 37, 37, 64),
    (2, 6, 3, 150, 150, 80),
    (3, 10, 2, 128, 128, 64),
    (2, 6, 1, 131, 131, 128),
    (2, 6, 6, 5, 37, 80),
    (2, 10, 2, 129, 300, 64),
    (2, 6, 1, 70, 257, 128),
    (2, 6, 6, 1, 37, 128),
    (3, 10, 2, 1, 300, 80),
    (2, 6, 1, 1, 513, 64),
    (1, 1, 1, 1, 1, 64),
]
# (T, S, W): windows below, at and beyond tiles and chunks of 128, and beyond all keys.
WINDOWS = [
    (37, 37, 1), (37, 37, 2), (150, 150, 37), (300, 300, 128), (300, 300, 129), (5, 37, 3), (5, 37, 7), (129, 300, 100),
    (70, 257, 64), (1, 300, 17), (3, 300, 200), (40, 40, 40), (40, 40, 1000),
]  # fmt: skip
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Rounding of the output alone is 2**-9 and 2**-12 of values up to 4; the pattern is rounded too.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}
# Kernels of GPUs multiply fp32 as three products of TF32 and take exponentials to two units in the last place, which
# leaves up to 1.4e-6 here (tests/attention/test_grid.py); in which order they add differs from chip to chip.
FP32_ON_GPUS = 1e-5


def tensors(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """Random q_BHTE, k_BKSE, v_BKSE, the same on every device."""
    batch, heads, kv_heads, new, keys, head_dim = shape
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = [(batch, heads, new, head_dim), *[(batch, kv_heads, keys, head_dim)] * 2]
    q, k, v = (torch.randn(size, generator=generator).to(dtype).to(device) for size in sizes)
    return q, k, v


def reference(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp in fp64 on the CPU; the queries end the keys, and see the last `window` of theirs."""
    q, k, v = (x.cpu().double() for x in (q, k, v))
    group, offset = q.shape[1] // k.shape[1], k.shape[2] - q.shape[2]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    key, own = torch.arange(k.shape[2]), offset + torch.arange(q.shape[2])[:, None]
    hidden = (key > own) | (key <= own - (window or k.shape[2]))
    scores = (q @ k.mT / q.shape[3] ** 0.5).masked_fill(hidden, float("-inf"))
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def tolerance(dtype: torch.dtype, device: str) -> float:
    """The largest difference from fp64 that rounding may leave on a kind of device."""
    return FP32_ON_GPUS if (dtype, device) == (torch.float32, "cuda") else TOLERANCE[dtype]


def assert_close(z: Tensor, lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> None:
    """Full tensors against the reference."""
    expected, expected_lse = reference(q, k, v, window)
    assert z.dtype == q.dtype
    torch.testing.assert_close(z.cpu().double(), expected, rtol=0, atol=tolerance(q.dtype, q.device.type))
    if lse is not None:
        torch.testing.assert_close(lse.cpu().double(), expected_lse, rtol=0, atol=3e-5)
