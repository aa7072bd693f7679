import pytest
import torch

from llamalab.model import fastest
from llamalab.model.fastest import fastest_backend


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
