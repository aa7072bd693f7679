"""Meta's params.json as an architecture."""

import pytest

from llamalab.arch.meta_params import from_meta_params, meta_ffn_dim
from llamalab.arch.parts import RopeScaling
from llamalab.presets import PRESETS
from tests.arch.test_arch import META_7B, META_70B


@pytest.mark.parametrize(
    ("dim", "multiple_of", "multiplier", "ffn_dim"),
    [
        (4096, 256, None, 11008),
        (5120, 256, None, 13824),
        (8192, 256, 1.0, 22016),
        (8192, 4096, 1.3, 28672),
        (6656, 256, None, 17920),
        (4096, 1024, 1.3, 14336),
        (64, 4, None, 172),
    ],
)
def test_ffn_width_is_metas(dim: int, multiple_of: int, multiplier: float | None, ffn_dim: int) -> None:
    assert meta_ffn_dim(dim, multiple_of, multiplier) == ffn_dim


def test_metas_params_are_read() -> None:
    assert from_meta_params(META_7B) == PRESETS["7b"].arch
    assert from_meta_params(META_70B) == PRESETS["70b"].arch
    assert from_meta_params(META_7B | {"vocab_size": 32_016, "rope_theta": 1e6})[5:8] == (32_016, 1e-05, 1e6)


def test_llama_3s_scaled_rope_is_read_from_metas_params() -> None:
    arch = from_meta_params(META_7B | {"use_scaled_rope": True, "rope_scaling_factor": 32})
    assert arch.rope_scaling == RopeScaling("llama3", 32, 8192)
    assert arch.max_positions == 131_072
