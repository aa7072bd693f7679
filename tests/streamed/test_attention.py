"""Streamed attention of one query: right in every type, group and length, beside caches with room, and in a model."""

import pytest
import torch
from torch.nn import functional

from llamalab.attention import get_backend
from llamalab.model import StaticKVCache
from llamalab.streamed.attention import attend_one, can_attend
from llamalab.streamed.library import library
from tests.model.shrunk import ARCHES, small_model, some_tokens

pytestmark = pytest.mark.skipif(library() is None, reason="no AVX2, no C++ compiler, or another OpenMP than torch's")
TOLERANCES = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # half a unit of the result, and sums


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("batch", "heads", "kv_heads", "keys", "dim"),
    [
        (1, 4, 4, 1, 16),
        (2, 8, 2, 300, 128),
        (1, 6, 2, 1000, 48),
        (3, 4, 1, 257, 64),
        (1, 2, 1, 512, 256),
        (1, 14, 2, 70, 32),
    ],
)
def test_it_is_softmax_attention(
    dtype: torch.dtype, batch: int, heads: int, kv_heads: int, keys: int, dim: int
) -> None:
    q = (3 * values(batch, heads, 1, dim)).to(dtype)
    k, v = (values(batch, kv_heads, keys + room, dim).to(dtype)[:, :, :keys] for room in (7, 3))  # views of caches
    exact = functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), enable_gqa=True)
    made = attend_one(q, k, v)
    assert made.dtype == dtype
    assert (made.double() - exact).abs().max() <= TOLERANCES[dtype] * exact.abs().max()


def test_far_scores_neither_overflow_nor_vanish_and_what_is_no_number_shows() -> None:
    q, k, v = 400 * values(1, 2, 1, 64), values(1, 2, 600, 64), values(1, 2, 600, 64)
    exact = functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    torch.testing.assert_close(attend_one(q, k, v).double(), exact, rtol=0, atol=1e-4)
    k[0, 1, 300, 5] = float("nan")
    made = attend_one(q, k, v)
    assert made[0, 1].isnan().all()
    assert made[0, 0].isfinite().all()


def test_a_model_streams_its_steps_and_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = ARCHES["GQA"].replace(head_dim=32)
    assert can_attend(torch.float32, arch.head_dim)
    model, other = small_model(arch, attention="streamed"), small_model(arch, attention="naive")
    tokens, made, wanted = some_tokens(2, 6), [], []
    lengths: list[int] = []
    monkeypatch.setattr(
        "llamalab.attention.streamed.attend_one", lambda q, k, v: (lengths.append(k.shape[2]), attend_one(q, k, v))[1]
    )
    for one, logits in ((model, made), (other, wanted)):
        cache = StaticKVCache(arch, batch=2, max_tokens=6, dtype="fp32")
        with torch.inference_mode():
            logits += [
                one(tokens[:, :4], cache=cache),
                one(tokens[:, 4:5], cache=cache),
                one(tokens[:, 5:], cache=cache),
            ]
    assert lengths == [5] * arch.n_layers + [6] * arch.n_layers
    for mine, theirs in zip(made, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


def test_gradients_flow_by_torch() -> None:
    q, k, v = (values(1, 2, n, 32).requires_grad_() for n in (1, 5, 5))
    get_backend("streamed").attend(q, k, v, query_offset=4).sum().backward()
    assert k.grad is not None
    assert k.grad.abs().sum() > 0


def test_compilers_take_it_as_one_operation() -> None:
    q, k, v = values(1, 4, 1, 32), values(1, 2, 9, 32), values(1, 2, 9, 32)
    torch.library.opcheck(torch.ops.llamalab_streamed.attend, (q, k, v), test_utils=("test_schema", "test_faketensor"))
