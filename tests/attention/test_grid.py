"""The tolerances themselves: room for what kernels round, none for a key too many."""

import torch
from torch import Tensor

from tests.attention.grid import GRID, reference, tensors, tolerance

_ROOM = 5  # times what was seen of one order of adding
_LOG2_E = 1.4426950408889634


def in_tf32(x: Tensor) -> Tensor:
    """Rounded to the 10 bits of TF32."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def three_products(a: Tensor, b: Tensor) -> Tensor:
    """a @ b as tensor cores take fp32: the large parts, and each large part with what the other lost."""
    (a_large, a_small), (b_large, b_small) = ((large := in_tf32(x), in_tf32(x - large)) for x in (a, b))
    return a_large @ b_small + a_small @ b_large + a_large @ b_large


def as_a_gpu_would(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention in fp32 by such products and exponentials that are off by up to two units in the last place."""
    generator = torch.Generator().manual_seed(0)
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    own = k.shape[2] - q.shape[2] + torch.arange(q.shape[2])[:, None]
    scores = three_products(q, k.mT) * (q.shape[3] ** -0.5 * _LOG2_E)
    scores = scores.masked_fill(torch.arange(k.shape[2]) > own, float("-inf"))
    off = torch.randint(-2, 3, scores.shape, generator=generator) * 2.0**-23
    pattern = (scores - scores.amax(-1, keepdim=True)).exp2() * (1 + off)
    return three_products(pattern, v) / pattern.sum(-1, keepdim=True)


def test_fp32_on_a_gpu_has_room_for_what_its_kernels_round() -> None:
    errors = []
    for shape in GRID:
        q, k, v = tensors(shape)
        errors.append(float((as_a_gpu_would(q, k, v).double() - reference(q, k, v)[0]).abs().max()))
    assert _ROOM * max(errors) < tolerance(torch.float32, "cuda")


def test_a_key_too_few_is_far_beyond_it() -> None:
    q, k, v = tensors((2, 6, 6, 1, 37, 128))
    wrong = reference(q, k[:, :, 1:], v[:, :, 1:])[0]
    assert (wrong - reference(q, k, v)[0]).abs().max() > 50 * tolerance(torch.float32, "cuda")
