"""Activations a layer against Korthikanti et al. 2022 (arXiv 2205.05198), table 2.

Theirs is GPT's layer: sbh (34 + 5 a s / h) bytes in half precision. A layer of ours with as many heads of keys and a
feed-forward of 8/3 h keeps the same but for dropout, which a Llama has none of: masks of a byte behind the projection
and the feed-forward (2 sbh), and of the pattern its mask and the result (3 a s^2 b). The roots of norms are 4 bytes a
row and norm.
"""

import pytest

from llamalab.analytic.fine_tuning import largest_of_step
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import Kept
from llamalab.analytic.tuning import Tuning
from llamalab.arch import LlamaArch

SEQ, BATCH = 2048, 1
MODELS = {  # heads, hidden size, layers: their table 3
    "22B": (64, 6144, 48), "175B": (96, 12288, 96), "530B": (128, 20480, 105), "1T": (160, 25600, 128),
}  # fmt: skip


def arch_of(model: str) -> LlamaArch:
    heads, dim, layers = MODELS[model]
    return LlamaArch(dim, layers, heads, heads, dim // 3 * 8, 51200)


def kept_a_layer(model: str, ranks: int, *, sequence_parallel: bool = False, selective: bool = False) -> float:
    """Bytes of a layer over s b h, with the dropout that a Llama has not."""
    arch, shape = arch_of(model), PassShape(SEQ, batch=BATCH, attention="naive", tensor_parallel=ranks)
    items = Kept(arch, shape, "fused", sequence_parallel=sequence_parallel).block()
    total = sum(item.bytes for item in items if not (selective and item.inside_attention))
    own = ranks if sequence_parallel else 1
    dropout = 2 / own + (0 if selective else 3 * arch.n_heads * SEQ / arch.dim / ranks)
    return total / (SEQ * BATCH * arch.dim) + dropout


@pytest.mark.parametrize("model", MODELS)
def test_a_layer_keeps_what_the_paper_says(model: str) -> None:
    heads, dim, _ = MODELS[model]
    pattern, t = 5 * heads * SEQ / dim, 8
    told = {
        "no parallelism": (kept_a_layer(model, 1), 34 + pattern),
        "tensor": (kept_a_layer(model, t), 10 + 24 / t + pattern / t),
        "tensor and sequence": (kept_a_layer(model, t, sequence_parallel=True), (34 + pattern) / t),
        "tensor, selective": (kept_a_layer(model, t, selective=True), 10 + 24 / t),
        "both, selective": (kept_a_layer(model, t, sequence_parallel=True, selective=True), 34 / t),
    }
    for name, (ours, published) in told.items():
        assert ours == pytest.approx(published, rel=0.002), name


@pytest.mark.parametrize(("model", "saved"), [("175B", 0.70), ("530B", 0.65)])
def test_selective_recomputation_saves_the_share_of_the_paper(model: str, saved: float) -> None:
    """70 % of GPT-3's activations and 65 % of MT-NLG's (section 5)."""
    assert 1 - kept_a_layer(model, 1, selective=True) / kept_a_layer(model, 1) == pytest.approx(saved, abs=0.005)


def test_full_recomputation_keeps_two_bytes_a_value() -> None:
    """2 sbh a layer: from one depth to the next the largest moment grows by it alone."""
    arch = LlamaArch(1024, 8, 16, 16, 2736, 500)
    step = Tuning(arch, 256, 2, implementation="fused", attention="naive", recompute="full", accumulate=2)
    shallow, deep = (step._replace(arch=arch.replace(n_layers=layers)) for layers in (8, 9))
    gradients = 2 * (4 * 1024**2 + 3 * 1024 * 2736 + 2 * 1024)
    grown = largest_of_step(deep).peak_bytes - largest_of_step(shallow).peak_bytes - gradients
    assert grown == 2 * 256 * 2 * 1024
