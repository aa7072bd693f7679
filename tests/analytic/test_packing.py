"""Packed documents against masks and kernels' counts of torch, and against what autograd keeps."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from experiments.common.varlen import Varlen, attend_packed
from llamalab.analytic.packing import packed, spans, taught_tokens
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.training import activation_bytes, training_flops
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from tests.analytic.test_saved_activations import ARCHS, TORCH, hugging_face, saved_bytes

ARCH = LlamaArch(48, 1, 6, 2, 80, 96)
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def core_flops(seq: int, documents: tuple[int, ...], arch: LlamaArch = ARCH) -> int:
    """Those of attention, forward: the rest is alike whatever is packed."""
    whole = training_flops(arch, PassShape(new_tokens=seq)).forward
    own = training_flops(arch, PassShape(new_tokens=seq), documents=documents).forward
    return own - whole + arch.n_layers * 4 * arch.n_heads * arch.head_dim * seq * (seq + 1) // 2


@given(lengths, st.integers(0, 4))
def test_a_document_attends_to_the_pairs_of_a_block_mask(documents: list[int], padding: int) -> None:
    seq = sum(documents) + padding
    own_T = torch.repeat_interleave(torch.arange(len(documents) + 1), torch.tensor([*documents, padding]))
    mask_TS = (own_T[:, None] == own_T) & torch.ones(seq, seq).tril().bool()
    assert core_flops(seq, tuple(documents)) == 4 * ARCH.n_heads * ARCH.head_dim * int(mask_TS.sum())


@given(lengths)
def test_torch_counts_the_same_for_its_kernel_of_cumulative_lengths(documents: list[int]) -> None:
    seq, ends = sum(documents), torch.tensor([0, *documents]).cumsum(0)
    q_THE = torch.empty(seq, ARCH.n_heads, ARCH.head_dim, device="meta")
    counted = flop_registry[torch.ops.aten._flash_attention_forward](
        q_THE, q_THE, q_THE, ends, ends, max(documents), max(documents)
    )
    # torch counts the pairs that the causal mask leaves out: all but the half of them, and half of the diagonal.
    assert 2 * core_flops(seq, tuple(documents)) == counted + 4 * ARCH.n_heads * ARCH.head_dim * seq


def test_the_window_of_a_layer_holds_inside_a_document() -> None:
    arch = ARCH.replace(window=4)
    own, whole = (training_flops(arch, PassShape(new_tokens=12), documents=one).forward for one in ((6, 6), ()))
    pairs = 12 * 4 - 6 - 2 * (6 * 4 - 6)
    assert whole - own == 4 * arch.n_heads * arch.head_dim * pairs


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("attention", ["flash", "masked", "naive"])
@pytest.mark.parametrize(
    ("name", "batch", "documents"), [("gqa", 3, (20, 17, 9)), ("mha", 1, (30, 3)), ("mqa", 2, (64,))]
)
def test_autograd_keeps_what_is_said(
    name: str, batch: int, documents: tuple[int, ...], attention: str, dtype: str
) -> None:
    arch, seq = ARCHS[name], 50 if name == "gqa" else sum(documents)
    places_BT = torch.cat([torch.arange(n) for n in spans(seq, documents).elements()]).repeat(batch, 1)
    tokens_BT = torch.arange(batch * seq).view(batch, seq) % 40
    model = hugging_face(arch, "naive" if attention == "naive" else "flash").to(TORCH[dtype])
    if attention == "flash":
        from transformers import AttentionInterface

        own = tuple(spans(seq, documents).elements())
        AttentionInterface.register("packed_here", partial(attend_packed, lengths=own))
        model.set_attn_implementation("packed_here")

    def step() -> Tensor:
        return model(input_ids=tokens_BT, position_ids=places_BT, labels=tokens_BT, use_cache=False).loss

    shape = PassShape(new_tokens=seq, batch=batch, dtype=dtype, attention=attention)
    said = activation_bytes(arch, shape, implementation="hugging-face", documents=documents)
    masked_whole = attention == "masked" and len(documents) == 1  # transformers needs no mask of one document
    if not masked_whole:
        assert said == pytest.approx(saved_bytes(step, model.parameters()), rel=0.005)


def test_the_kernel_that_the_bytes_are_held_against_attends_as_a_block_mask_does() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 9, 8, requires_grad=True) for heads in (4, 4, 4))
    own_T = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    mask_TS = (own_T[:, None] == own_T) & torch.ones(9, 9).tril().bool()
    found = Varlen.apply(q, k, v, (4, 3, 2))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask_TS)
    torch.testing.assert_close(found, expected)
    way = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, (q, k, v), way), torch.autograd.grad(expected, (q, k, v), way), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@given(st.integers(1, 500), st.integers(1, 60))
def test_so_many_documents_fill_a_sequence_alike(seq: int, number: int) -> None:
    if number > seq:
        with pytest.raises(InputError):
            packed(seq, number)
        return
    documents = packed(seq, number)
    assert (len(documents), sum(documents)) == (number, seq)
    assert max(documents) - min(documents) <= 1


def test_documents_of_a_mean_length_leave_padding() -> None:
    documents = packed(4096, None, [600])
    assert (len(documents), taught_tokens(4096, documents)) == (6, 3600)
    assert spans(4096, documents) == {600: 6, 496: 1}


@pytest.mark.parametrize(
    ("documents", "tokens"), [(0, ()), (3, (5, 5)), (None, (0,)), (None, (11,)), (2, (6,)), (None, (5, 6)), (11, ())]
)
def test_what_a_sequence_has_no_room_for_is_refused(documents: int | None, tokens: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        packed(10, documents, tokens)


def test_a_model_that_masks_nothing_in_training_is_refused() -> None:
    for documents, attention in (((4, 4), "flash"), ((), "masked")):
        with pytest.raises(InputError, match="hugging-face or fused"):
            activation_bytes(ARCH, PassShape(new_tokens=8, attention=attention), documents=documents)
