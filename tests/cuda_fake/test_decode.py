"""The decode loop on a GPU: how many kernels a layer of a step is, and that nothing waits."""

from collections import Counter

import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.errors import UnavailableError
from llamalab.model import build
from llamalab.presets import PRESETS
from llamalab.text.decode_loop import DecodeLoop
from tests.cuda_fake.gpu import Gpu

pytestmark = pytest.mark.fake_cuda
pytest.importorskip("triton")
LAYER = {"add_norm_kernel": 2, "linear_kernel": 7, "turn_append_kernel": 1, "decode_kernel": 1, "gate_kernel": 1}


def recorded(gpu: Gpu, arch: LlamaArch, batch: int, max_tokens: int, fused: bool | None = None) -> Counter[str]:
    """The kernels of one step in its graph."""
    model = build(arch, device="cuda", dtype="bf16").eval()
    loop = DecodeLoop(model, batch=batch, max_tokens=max_tokens, fused=fused)
    loop.prefill(torch.zeros(batch, 20, dtype=torch.int64, device="cuda"))
    loop.steps(2)
    ((graph, _),) = loop._graphs.values()
    return Counter(name for name, _ in graph.work)


def of_a_layer(gpu: Gpu, arch: LlamaArch, batch: int, max_tokens: int, fused: bool | None = None) -> Counter[str]:
    """What one more layer adds to a step: the rest is the embedding, the turns, the head and the choice."""
    few, more = (recorded(gpu, arch.replace(n_layers=n), batch, max_tokens, fused) for n in (1, 2))
    return more - few


@pytest.mark.parametrize(("batch", "max_tokens"), [(1, 512), (1, 4096), (1, 32_768), (16, 4096), (64, 4096)])
@pytest.mark.parametrize("name", ["7b", "70b"])
def test_a_layer_of_a_step_is_twelve_kernels(gpu: Gpu, name: str, batch: int, max_tokens: int) -> None:
    found = of_a_layer(gpu, PRESETS[name].arch, batch, max_tokens)
    assert found == LAYER
    assert found.total() == 12


def test_the_rest_of_a_step_is_few_kernels(gpu: Gpu) -> None:
    step = recorded(gpu, PRESETS["7b"].arch.replace(n_layers=2), 1, 4096)
    assert step.total() - 2 * 12 <= 20
    assert sum("copy" in name for name in step) <= 2


def test_biases_windows_and_norms_of_heads_cost_no_kernel(gpu: Gpu) -> None:
    arch = LlamaArch(4096, 2, 32, 8, 11008, 2048, qkv_bias=True, qk_norm=True, window=100)
    found = of_a_layer(gpu, arch, 2, 600)
    assert found.total() == 12


def test_one_graph_serves_every_position_and_nothing_is_waited_for(gpu: Gpu) -> None:
    model = build(PRESETS["7b"].arch.replace(n_layers=1), device="cuda", dtype="bf16").eval()
    loop = DecodeLoop(model, batch=2, max_tokens=600)
    loop.prefill(torch.zeros(2, 250, dtype=torch.int64, device="cuda"))
    assert loop.steps(20).shape == (2, 20)
    assert list(loop._graphs) == [None]
    waited, gpu.wait = [], lambda: waited.append(1)  # type: ignore[method-assign]
    loop.steps(300)
    assert waited == []
    assert loop.cache.length == 570


@pytest.mark.parametrize("kind", ["hook", "heads"])
def test_what_a_fused_step_cannot_serve_runs_in_windows(gpu: Gpu, kind: str) -> None:
    arch = PRESETS["7b"].arch.replace(n_layers=1)
    model = build(arch.replace(n_kv_heads=1, n_heads=128, head_dim=32) if kind == "heads" else arch, device="cuda")
    if kind == "hook":
        model.layers[0].register_forward_hook(lambda *_: None)
    loop = DecodeLoop(model, batch=1, max_tokens=600)
    assert loop.fused is None
    loop.prefill(torch.zeros(1, 250, dtype=torch.int64, device="cuda"))
    loop.steps(8)
    assert sorted(loop._graphs) == [256, 512]
    with pytest.raises(UnavailableError, match="a fused step"):
        DecodeLoop(model, batch=1, max_tokens=600, fused=True)


def test_the_mask_of_a_window_is_made_once_a_step(gpu: Gpu) -> None:
    arch = PRESETS["7b"].arch
    assert not of_a_layer(gpu, arch, 1, 512, fused=False).keys() & {"arange_kernel", "gt_kernel"}
