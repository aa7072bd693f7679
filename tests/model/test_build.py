"""Models with random weights: which, where, and what else is touched."""

from pathlib import Path

import pytest
import torch

import llamalab
from llamalab.errors import DoesNotFitError, InputError, MissingError, UnknownNameError
from llamalab.model import StaticKVCache
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


def test_tied_layers_share_the_very_parameters_and_keep_their_places() -> None:
    arch = ARCHES["GQA"].replace(n_layers=7)
    tied = llamalab.build(arch, dtype="fp32", tie_blocks=3)
    assert tied.arch == arch
    for layer, block in enumerate(tied.layers):
        source = dict(tied.layers[layer % 3].named_parameters())
        assert all(parameter is source[name] for name, parameter in block.named_parameters())
        assert block.prefix == f"layers.{layer}."
    held = sum(parameter.numel() for parameter in tied.parameters())
    assert held == sum(parameter.numel() for parameter in llamalab.build(arch.replace(n_layers=3)).parameters())


@torch.no_grad()
def test_tied_layers_compute_what_copies_of_them_compute_with_and_without_a_cache() -> None:
    arch, tokens_BT = ARCHES["MHA"].replace(n_layers=5), some_tokens(2, 9)
    tied, whole = llamalab.build(arch, dtype="fp32", tie_blocks=2), llamalab.build(arch, dtype="fp32", seed=1)
    for parameter in tied.parameters():  # distinguish the blocks beyond what 0.02 does
        parameter.mul_(1.5)
    whole.load_state_dict(tied.state_dict())
    assert whole.layers[4].attention.wq.weight is not whole.layers[0].attention.wq.weight
    expected_BTV = whole(tokens_BT)
    assert torch.equal(tied(tokens_BT), expected_BTV)
    caches = [StaticKVCache(arch, batch=2, max_tokens=9, dtype="fp32") for _ in range(2)]
    for model, cache in zip((tied, whole), caches, strict=True):
        torch.testing.assert_close(model(tokens_BT[:, :6], cache=cache), expected_BTV[:, :6])
        torch.testing.assert_close(model(tokens_BT[:, 6:], cache=cache), expected_BTV[:, 6:])
    assert all(torch.equal(ours, same) for ours, same in zip(caches[0].keys, caches[1].keys, strict=True))
    assert not torch.equal(caches[0].keys[0], caches[0].keys[2])


def test_tied_blocks_keep_dtype_backend_and_the_weights_of_the_seed() -> None:
    arch = ARCHES["MQA"].replace(n_layers=4)
    tied, few = llamalab.build(arch, attention="naive", tie_blocks=2), llamalab.build(arch.replace(n_layers=2))
    assert {parameter.dtype for parameter in tied.parameters()} == {torch.bfloat16}
    assert tied.layers[3].attention.backend.name == "naive"
    assert torch.equal(tied.layers[3].feed_forward.w2.weight, few.layers[1].feed_forward.w2.weight)
    untied = llamalab.build(arch, tie_blocks=4)
    assert untied.layers[3].attention.wq.weight is not untied.layers[0].attention.wq.weight


@pytest.mark.parametrize("number", [0, -1, 3, 1.0, True, "auto"])
def test_so_many_blocks_cannot_be_tied(number: object) -> None:
    with pytest.raises(InputError, match="tie_blocks must be a whole number from 1 to the model's 2; got"):
        llamalab.build(ARCHES["MHA"], tie_blocks=number)  # type: ignore[arg-type]
