"""The three steps of naive attention, each by itself."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from llamalab.attention import naive
from tests.attention.test_backends import tensors


@given(
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    new=st.integers(1, 6),
    past=st.integers(0, 6),
    half=st.integers(1, 4),
)
def test_scores_are_scaled_products_where_a_key_is_visible(
    kv_heads: int, group: int, new: int, past: int, half: int
) -> None:
    q, k, _ = tensors((2, kv_heads * group, kv_heads, new, past + new, 2 * half))
    scores = naive.scores(q, k, query_offset=past)
    visible = torch.arange(past + new) <= past + torch.arange(new)[:, None]
    expected = torch.einsum("bkgte,bkse->bkgts", q.unflatten(1, (kv_heads, group)), k).flatten(1, 2)
    expected = expected / (2 * half) ** 0.5
    assert torch.equal(scores.isinf(), ~visible.expand_as(scores))
    torch.testing.assert_close(scores.where(visible, 0), expected.where(visible, 0), rtol=0, atol=1e-5)


def test_pattern_sums_to_one_over_visible_keys() -> None:
    q, k, _ = tensors((2, 6, 2, 5, 17, 8))
    pattern = naive.pattern(naive.scores(q, k, query_offset=12))
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 6, 5), rtol=0, atol=1e-6)
    assert torch.equal(pattern == 0, ~(torch.arange(17) <= 12 + torch.arange(5)[:, None]).expand_as(pattern))


def test_softmax_is_computed_in_fp32() -> None:
    scores = torch.linspace(-9, 9, 1000).view(1, 1, 1, -1).bfloat16()
    pattern = naive.pattern(scores)
    assert pattern.dtype == torch.bfloat16
    assert torch.equal(pattern, scores.float().softmax(-1).bfloat16())


def test_attend_is_the_three_steps() -> None:
    q, k, v = tensors((2, 6, 2, 5, 17, 8))
    steps = naive.values(naive.pattern(naive.scores(q, k, query_offset=12)), v)
    assert torch.equal(naive.attend(q, k, v, query_offset=12), steps)


class _LargestResult(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # A view of the cache is not a copy of it.
        if isinstance(result, torch.Tensor) and not func.is_view:
            self.elements = max(self.elements, result.numel())
        return result


def test_keys_and_values_are_never_expanded_to_the_query_heads() -> None:
    batch, heads, kv_heads, keys, head_dim = 2, 12, 3, 29, 16
    q, k, v = tensors((batch, heads, kv_heads, 1, keys, head_dim))
    with _LargestResult() as largest:
        naive.attend(q, k, v, query_offset=keys - 1)
    assert largest.elements == batch * heads * keys  # the scores; expanded keys would be head_dim times that
