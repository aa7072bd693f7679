"""Models with random weights: which, where, and what else is touched."""

from pathlib import Path

import pytest
import torch

import llamalab
from llamalab.errors import DoesNotFitError, InputError, MissingError, UnknownNameError
from llamalab.model.build import _POOL_SIZE
from tests.model.shrunk import ARCHES, some_tokens


def test_weights_are_normal_and_norms_are_one() -> None:
    model = llamalab.build("tiny", dtype="fp32")
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == 1).all(), name
        else:
            assert abs(parameter.mean()) < 2e-4, name
            assert parameter.std().item() == pytest.approx(0.02, rel=0.01), name
            within = (parameter.abs() < 0.02).float().mean().item()
            assert within == pytest.approx(0.6827, abs=0.01), name


def test_the_recycled_pool_makes_no_row_or_layer_repeat() -> None:
    arch = ARCHES["MHA"].replace(dim=2048, n_heads=16, n_kv_heads=16, ffn_dim=2048, vocab_size=2048)
    model = llamalab.build(arch, dtype="fp32")
    weights = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    assert sum(weight.numel() for weight in weights) > 10 * _POOL_SIZE
    first_columns = torch.cat([weight[:, :4] for weight in weights])
    assert len(first_columns.unique(dim=0)) == len(first_columns)
    # As many large singular values as an independent matrix of this size has: none is lost.
    assert torch.linalg.matrix_rank(weights[0][:1024, :512]) == 512


def test_a_seed_decides_everything_and_nothing_else_is_touched() -> None:
    state = torch.get_rng_state()
    first, again, other = (llamalab.build("stories260k", dtype="fp32", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for ours, same, different in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, same)
        assert ours.dim() == 1 or not torch.equal(ours, different)
    half = llamalab.build("stories260k", seed=3)
    for wide, narrow in zip(first.parameters(), half.parameters(), strict=True):
        assert narrow.dtype == torch.bfloat16
        assert torch.equal(wide.bfloat16(), narrow)


def test_names_paths_and_architectures(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text('{"dim": 64, "multiple_of": 4, "n_heads": 8, "n_layers": 2, "norm_eps": 1e-5, "vocab_size": 97}')
    model = llamalab.build(str(path), attention="naive")
    assert (model.arch.ffn_dim, model.backend.name) == (172, "naive")
    assert llamalab.build(ARCHES["MQA"]).arch is ARCHES["MQA"]
    assert model(some_tokens(2, 3)).isfinite().all()
    with pytest.raises(UnknownNameError, match="model must be one of"):
        llamalab.build("8b")


def test_meta_has_shapes_only() -> None:
    model = llamalab.build("70b", device="meta")
    assert all(parameter.is_meta and parameter.dtype == torch.bfloat16 for parameter in model.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA GPU here")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(MissingError, match="device cuda must be present; torch sees 0 CUDA devices; try device cpu"):
        llamalab.build("tiny", device="cuda")
    with pytest.raises(InputError, match="device must be"):
        llamalab.build("tiny", device="tpu9")


def test_weights_that_cannot_be_held() -> None:
    arch = ARCHES["MHA"].replace(dim=9_600_000, vocab_size=10_000_000)
    with pytest.raises(DoesNotFitError, match=r"the weights, .* TiB, must fit on cpu; they do not"):
        llamalab.build(arch)
