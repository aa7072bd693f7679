import pytest
import torch

import llamalab
from llamalab.model import StaticKVCache, fastest, onednn
from llamalab.model.fastest import fastest_backend
from llamalab.streamed import products
from tests.model.shrunk import ARCHES, small_model, some_tokens


def test_fp32_is_not_streamed_where_torch_multiplies_it_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("can_pack", "can_stream"):
        monkeypatch.setattr(fastest, name, lambda *_: True)
    assert fastest_backend(torch.device("cpu"), torch.float32).name == "chunked"


@pytest.mark.parametrize(
    ("device", "products", "loops", "expected"),
    [
        ("cpu", True, True, "mixed"),
        ("cpu", True, False, "chunked"),
        ("cpu", False, True, "streamed"),
        ("cpu", False, False, "sdpa"),
        ("cuda", True, True, "sdpa"),
        ("cuda", False, False, "sdpa"),
    ],
)
def test_chunks_run_only_on_a_cpu_that_has_their_products(
    device: str, products: bool, loops: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(fastest, "can_pack", lambda dtype: asked.append(dtype) or products)
    monkeypatch.setattr(fastest, "can_stream", lambda *_: loops)
    assert fastest_backend(torch.device(device), torch.bfloat16).name == expected
    assert asked == [torch.bfloat16] * (device == "cpu")


@pytest.mark.parametrize("weight_dtype", [None, "int8"])
@pytest.mark.parametrize("attention", ["mixed", "streamed"])
def test_what_this_cpu_is_asked_once_breaks_no_graph(attention: str, weight_dtype: str | None) -> None:
    """torch.compile takes the results of trials on the machine as constants, also where it is the first to ask."""
    arch = ARCHES["GQA"].replace(head_dim=32)
    model = llamalab.compile(
        small_model(arch, dtype="bf16"), scope="none", weight_dtype=weight_dtype, attention=attention
    )
    tokens = some_tokens(1, 5)
    cache, other = (StaticKVCache(arch, batch=1, max_tokens=5, dtype="bf16") for _ in range(2))
    products._streams.cache_clear()
    onednn._packs.cache_clear()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.inference_mode():
        for part in tokens.split([4, 1], dim=1):
            assert torch.equal(compiled(part, cache=cache), model(part, cache=other))
    torch._dynamo.reset()
