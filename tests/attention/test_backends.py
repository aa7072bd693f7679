"""Every backend against attention computed query by query in fp64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from llamalab.attention import BACKENDS, get_backend
from llamalab.errors import InputError, UnknownNameError

# (B, H, K, T, S, E): MHA, GQA and MQA in prefill, chunk and decode; sizes that no tile divides.
SHAPES = [
    (2, 6, 6, 17, 17, 8),
    (2, 6, 2, 17, 17, 8),
    (3, 6, 1, 17, 17, 10),
    (2, 6, 6, 5, 17, 8),
    (2, 6, 2, 5, 17, 8),
    (3, 6, 1, 5, 131, 16),
    (2, 6, 6, 1, 17, 8),
    (2, 6, 2, 1, 131, 8),
    (3, 6, 1, 1, 17, 10),
    (1, 1, 1, 1, 1, 2),
    (2, 6, 2, 300, 331, 8),  # more than one chunk of queries, the last one short
]
NAMES = ["naive", "sdpa", "streamed", "mixed", "chunked"]


def tensors(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, kv_heads, new, keys, head_dim = shape
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = [(batch, heads, new, head_dim), *[(batch, kv_heads, keys, head_dim)] * 2]
    q, k, v = (torch.randn(size, generator=generator) for size in sizes)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def oracle(q: Tensor, k: Tensor, v: Tensor, offset: int) -> Tensor:
    """One query of one head at a time, only the keys that it may see."""
    q, k, v = q.double(), k.double(), v.double()
    z = torch.empty_like(q)
    group = q.shape[1] // k.shape[1]
    for b, h, t in torch.cartesian_prod(*(torch.arange(size) for size in q.shape[:3])).view(-1, 3).tolist():
        seen = slice(0, offset + t + 1)
        weight = torch.softmax(k[b, h // group, seen] @ q[b, h, t] / q.shape[3] ** 0.5, dim=0)
        z[b, h, t] = weight @ v[b, h // group, seen]
    return z


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backend_equals_the_oracle(name: str, shape: tuple[int, ...]) -> None:
    q, k, v = tensors(shape)
    offset = shape[4] - shape[3]
    z = get_backend(name).attend(q, k, v, query_offset=offset)
    torch.testing.assert_close(z.double(), oracle(q, k, v, offset), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_backend_in_half_precision(name: str, dtype: torch.dtype, atol: float) -> None:
    q, k, v = tensors((2, 6, 2, 5, 17, 8), dtype)
    z = get_backend(name).attend(q, k, v, query_offset=12)
    assert z.dtype == dtype
    torch.testing.assert_close(z.double(), oracle(q, k, v, 12), rtol=0, atol=atol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("new_tokens", [1, 4])
def test_keys_after_the_last_query_are_not_seen(name: str, new_tokens: int) -> None:
    q, k, v = tensors((2, 6, 2, new_tokens, 17, 8))
    z = get_backend(name).attend(q, k, v, query_offset=3)
    torch.testing.assert_close(z.double(), oracle(q, k, v, 3), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_backend_reads_views_of_a_cache(name: str) -> None:
    q, k, v = tensors((2, 6, 2, 5, 17, 8))
    longer = [torch.cat([x, torch.full_like(x, float("nan"))], dim=2) for x in (k, v)]
    z = get_backend(name).attend(q, longer[0][:, :, :17], longer[1][:, :, :17], query_offset=12)
    torch.testing.assert_close(z.double(), oracle(q, k, v, 12), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(2, 6, 2, 5, 7, 4), (2, 6, 2, 7, 7, 4), (2, 6, 2, 1, 7, 4)], ids=str)
def test_gradients_equal_the_oracles(name: str, shape: tuple[int, ...]) -> None:
    offset = shape[4] - shape[3]

    def gradients(attend: object) -> list[Tensor]:
        leaves = [x.requires_grad_() for x in tensors(shape)]
        attend(*leaves).sin().sum().backward()  # type: ignore[operator]
        return [leaf.grad for leaf in leaves]  # type: ignore[misc]

    def graph_oracle(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        hidden = torch.arange(shape[4]) > offset + torch.arange(shape[3])[:, None]
        scores = (q @ k.mT / shape[5] ** 0.5).masked_fill(hidden, float("-inf"))
        return scores.softmax(-1) @ v

    ours = gradients(lambda q, k, v: get_backend(name).attend(q, k, v, query_offset=offset))
    for grad, expected in zip(ours, gradients(graph_oracle), strict=True):
        torch.testing.assert_close(grad, expected, rtol=0, atol=2e-6)


def test_top_left_causal_mask_is_never_used_for_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """`is_causal` with T != S masks from the top left: a decode step would see key 0 only."""
    fused, calls = functional.scaled_dot_product_attention, []

    def spy(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        calls.append((q.shape[2], k.shape[2], options.get("is_causal", False), options.get("attn_mask") is not None))
        return fused(q, k, v, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    for new, keys in ((1, 17), (5, 17), (17, 17), (1, 1)):
        q, k, v = tensors((2, 6, 6, new, keys, 8))
        get_backend("sdpa").attend(q, k, v, query_offset=keys - new)
    assert calls == [(1, 17, False, False), (5, 17, False, True), (17, 17, True, False), (1, 1, False, False)]

    q, k, v = tensors((2, 6, 6, 1, 17, 8))
    torch.testing.assert_close(fused(q, k, v, is_causal=True), v[:, :, :1])  # the trap is still there
    assert (get_backend("sdpa").attend(q, k, v, query_offset=16) - v[:, :, :1]).abs().max() > 0.1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(2, 8, 8, 37, 165, 64), (2, 8, 2, 37, 165, 64), (2, 8, 1, 37, 37, 64)], ids=str)
def test_sdpa_on_cuda(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = tensors(shape, dtype)
    offset = shape[4] - shape[3]
    z = get_backend("sdpa").attend(q.cuda(), k.cuda(), v.cuda(), query_offset=offset)
    torch.testing.assert_close(z.cpu().double(), oracle(q, k, v, offset), rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("q", "k", "v", "offset"),
    [
        ((2, 6, 5, 8), (2, 4, 17, 8), (2, 4, 17, 8), 12),
        ((2, 6, 5, 8), (3, 2, 17, 8), (3, 2, 17, 8), 12),
        ((2, 6, 5, 8), (2, 2, 17, 10), (2, 2, 17, 10), 12),
        ((2, 6, 5, 8), (2, 2, 17, 8), (2, 2, 16, 8), 12),
        ((6, 5, 8), (2, 17, 8), (2, 17, 8), 12),
        ((2, 6, 5, 8), (2, 2, 17, 8), (2, 2, 17, 8), 13),
        ((2, 6, 5, 8), (2, 2, 17, 8), (2, 2, 17, 8), -1),
    ],
)
def test_what_does_not_belong_together_is_refused(
    name: str, q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], offset: int
) -> None:
    with pytest.raises(InputError, match=r"must .*; got"):
        get_backend(name).attend(torch.zeros(q), torch.zeros(k), torch.zeros(v), query_offset=offset)


def test_registry() -> None:
    assert {name: backend.algorithm for name, backend in BACKENDS.items() if name in NAMES} == {
        "naive": "naive",
        "sdpa": "flash",
        "streamed": "flash",
        "mixed": "flash",
        "chunked": "flash",
    }
    assert all(name == backend.name for name, backend in BACKENDS.items())
    with pytest.raises(UnknownNameError, match="did you mean naive"):
        get_backend("native")
