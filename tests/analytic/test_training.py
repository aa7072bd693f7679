import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import Kept, saved_in_block
from llamalab.analytic.training import (
    RECOMPUTE,
    activation_bytes,
    rank_parameters,
    training_flops,
    training_memory,
)
from llamalab.arch import LlamaArch
from llamalab.errors import InputError, UnknownNameError
from llamalab.presets import PRESETS
from tests.analytic.strategies import archs

ARCH = LlamaArch(dim=48, n_layers=5, n_heads=6, n_kv_heads=2, ffn_dim=80, vocab_size=96)
ROWS = 3 * 7


def test_a_block_keeps_what_its_gradients_need() -> None:
    kept = saved_in_block(ARCH, PassShape(new_tokens=7, batch=3))
    # two norms: input in fp32, quotient, result; q, wo's input: 6 D; k and v: 2 * 16; gate, up, silu, product: 4 F
    assert sum(item.bytes for item in kept) == ROWS * (2 * 4 * 48 + 2 * (6 * 48 + 2 * 16 + 4 * 80) + 4 * (2 + 6))


def test_naive_attention_keeps_its_pattern_and_selective_recomputation_does_not() -> None:
    inside = 2 * 3 * 6 * 7 * 7 + 7 * 6
    naive, selective = (
        activation_bytes(ARCH, PassShape(new_tokens=7, batch=3, attention="naive"), recompute=level)
        for level in ("none", "selective")
    )
    head = Kept(ARCH, PassShape(new_tokens=7, batch=3)).head()
    assert naive - selective == 5 * inside - max(0, inside - head)


def test_full_recomputation_keeps_the_input_of_each_block_and_one_block() -> None:
    kept = Kept(ARCH, PassShape(new_tokens=7, batch=3))
    block = sum(item.bytes for item in kept.block())
    inputs = 5 * ROWS * 2 * 48
    expected = kept.once() + inputs + max(block, kept.head())
    assert activation_bytes(ARCH, PassShape(new_tokens=7, batch=3), recompute="full") == expected


@given(archs(), st.integers(1, 64), st.sampled_from(["flash", "naive"]))
def test_recomputation_never_needs_more_memory_nor_fewer_flops(arch: LlamaArch, seq: int, attention: str) -> None:
    levels = [
        activation_bytes(arch, PassShape(new_tokens=seq, attention=attention), recompute=level)
        for level in RECOMPUTE[:2]
    ]
    assert levels == sorted(levels, reverse=True)
    flops = [
        training_flops(arch, PassShape(new_tokens=seq, attention=attention), recompute=level).total
        for level in RECOMPUTE
    ]
    assert flops == sorted(flops)


@pytest.mark.parametrize(("dtype", "per_parameter"), [("bf16", 16), ("fp16", 16), ("fp32", 16)])
def test_adamw_takes_16_bytes_a_parameter(dtype: str, per_parameter: int) -> None:
    memory = training_memory(ARCH, PassShape(new_tokens=7, dtype=dtype))
    assert sum(memory[:3]) == per_parameter * parameter_count(ARCH)
    assert memory.total_bytes == sum(memory)


def test_backward_is_twice_forward_but_for_flash() -> None:
    naive = training_flops(ARCH, PassShape(new_tokens=9, batch=2, attention="naive"))
    assert naive.forward == add_up(forward_ops(ARCH, PassShape(new_tokens=9, batch=2, logits="all"))).flops_causal
    assert naive.backward == 2 * naive.forward
    flash = training_flops(ARCH, PassShape(new_tokens=9, batch=2))
    core = 5 * 4 * 2 * 48 * 45
    assert flash.backward == naive.backward + core // 2
    assert (
        training_flops(ARCH, PassShape(new_tokens=9, batch=2, attention="naive"), recompute="selective").recomputed
        == core
    )


def test_ranks_share_matrices_and_repeat_norms() -> None:
    arch, norms = PRESETS["70b"].arch, 8192 * (2 * 80 + 1)
    assert (rank_parameters(arch, 8) - norms) * 8 == parameter_count(arch) - norms


@pytest.mark.parametrize(
    ("shape", "recompute"),
    [
        (PassShape(new_tokens=7), "some"),
        (PassShape(new_tokens=7, attention="linear"), "none"),
        (PassShape(new_tokens=7, dtype="int8"), "none"),
    ],
)
def test_unknown_words_are_refused(shape: PassShape, recompute: str) -> None:
    with pytest.raises(UnknownNameError):
        training_memory(ARCH, shape, recompute=recompute)


def test_a_step_has_tokens() -> None:
    with pytest.raises(InputError):
        training_memory(ARCH, PassShape(new_tokens=0))
