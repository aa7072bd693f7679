"""Which kernel attention takes on a device where torch would ask cuDNN first, plain and in a compiled graph."""

from typing import Any

import pytest
import torch

from llamalab.attention import get_backend
from llamalab.attention.sdpa import attend
from llamalab.model import StaticKVCache, Transformer
from tests.cuda_fake.gpu import Gpu
from tests.model.shrunk import ARCHES

pytestmark = pytest.mark.fake_cuda
FLASH, CUDNN, EFFICIENT = (f"aten::_scaled_dot_product_{name}_attention" for name in ("flash", "cudnn", "efficient"))


def tensors(new: int, keys: int, *, kv_heads: int = 8, dim: int = 64, dtype: torch.dtype = torch.bfloat16) -> Any:
    sizes = ((2, 8, new, dim), (2, kv_heads, keys, dim), (2, kv_heads, keys, dim))
    return tuple(torch.empty(size, dtype=dtype, device="cuda") for size in sizes)


def ran(gpu: Gpu, work: Any) -> list[str]:
    gpu.seen = []
    work()
    found, gpu.seen = [one.what.partition(".")[0] for one in gpu.seen if "_scaled_dot" in one.what], None
    return [name for name in found if name.startswith("aten::")]


@pytest.mark.parametrize("kv_heads", [8, 2, 1])
@pytest.mark.parametrize("dim", [64, 128, 80, 100])
def test_one_query_takes_flash_and_never_a_plan_for_its_length(gpu: Gpu, kv_heads: int, dim: int) -> None:
    for keys in range(100, 110):
        work = tensors(1, keys, kv_heads=kv_heads, dim=dim)
        assert ran(gpu, lambda work=work, keys=keys: attend(*work, query_offset=keys - 1)) == [FLASH]
    assert gpu.planned == set()
    assert attend(*work, query_offset=108).shape == (2, 8, 1, dim)


def test_a_chunk_takes_flash_and_a_whole_prompt_what_torch_prefers(gpu: Gpu) -> None:
    assert ran(gpu, lambda: attend(*tensors(5, 40), query_offset=35)) == [FLASH]
    assert ran(gpu, lambda: attend(*tensors(40, 40), query_offset=0)) == [CUDNN]
    assert ran(gpu, lambda: attend(*tensors(1, 40, dtype=torch.float32), query_offset=39)) == [EFFICIENT]
    assert ran(gpu, lambda: attend(*tensors(5, 40, dtype=torch.float32), query_offset=35)) == [EFFICIENT]


@pytest.mark.parametrize(("name", "kernel"), [("cudnn", CUDNN), ("flash", FLASH), ("efficient", EFFICIENT)])
@pytest.mark.parametrize("new", [1, 40])
def test_a_kernel_that_is_named_is_the_one_that_runs(gpu: Gpu, name: str, kernel: str, new: int) -> None:
    assert ran(gpu, lambda: get_backend(name).attend(*tensors(new, 40), query_offset=40 - new)) == [kernel]


@pytest.mark.parametrize("scope", ["step", "block"])
def test_a_compiled_model_takes_a_chunk_with_a_past(traced_gpu: Gpu, scope: str) -> None:
    model = Transformer(ARCHES["GQA"], dtype="bf16", device="cuda").eval()

    def backend(graph: Any, inputs: Any) -> Any:
        return graph.forward

    if scope == "step":
        model.compile(backend=backend, fullgraph=True)
    else:
        for layer in model.layers:
            layer.compile(backend=backend, fullgraph=True)
    cache = StaticKVCache(model.arch, batch=3, max_tokens=40, dtype="bf16", device="cuda")
    tokens_BT = torch.zeros(3, 5, dtype=torch.int64, device="cuda")
    for part_BT in (tokens_BT, tokens_BT, tokens_BT[:, :3], tokens_BT[:, :1], tokens_BT[:, :1]):
        assert model(part_BT, cache=cache, logits="last").shape == (3, 1, model.arch.vocab_size)
    assert cache.length == 15
