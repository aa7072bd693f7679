"""Parameters matrix by matrix against the closed form."""

import pytest
from hypothesis import given

from llamalab.analytic.params import components, parameter_count, weight_bytes, weights
from llamalab.arch import LlamaArch
from llamalab.presets import PRESETS
from tests.analytic.strategies import archs


@given(archs())
def test_the_closed_form(arch: LlamaArch) -> None:
    dim, kv_dim = arch.dim, arch.kv_dim
    layer = 2 * dim**2 + 2 * dim * kv_dim + 3 * dim * arch.ffn_dim + 2 * dim
    tables = 1 if arch.tied_embeddings else 2
    assert parameter_count(arch) == tables * arch.vocab_size * dim + arch.n_layers * layer + dim


@given(archs())
def test_components_add_up_and_a_tied_head_is_none(arch: LlamaArch) -> None:
    parts = components(arch)
    assert list(parts) == ["embedding", "attention", "feed_forward", "norms", "output"]
    assert sum(parts.values()) == parameter_count(arch) == sum(weight.parameters for weight in weights(arch))
    assert (parts["output"] == 0) == arch.tied_embeddings


@pytest.mark.parametrize(
    ("model", "matrices", "norms"),
    [
        ("7b", 6_607_077_376, 266_240),
        ("13b", 12_851_609_600, 414_720),
        ("34b", 33_481_031_680, 794_624),
        ("70b", 68_713_185_280, 1_318_912),
    ],
)
def test_matrices_and_norms_of_the_presets(model: str, matrices: int, norms: int) -> None:
    parts = components(PRESETS[model].arch)
    assert parts["attention"] + parts["feed_forward"] + parts["output"] == matrices
    assert parts["norms"] == norms


def test_weight_bytes() -> None:
    arch = PRESETS["7b"].arch
    assert [weight_bytes(arch, dtype) for dtype in ("fp32", "bf16", "int8")] == [
        26_953_662_464,
        13_476_831_232,
        6_738_415_616 + 32_000 * 4096 + 65 * 4096,  # embedding and norms stay in bf16
    ]
