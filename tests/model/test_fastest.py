import pytest
import torch

from llamalab.model import fastest
from llamalab.model.fastest import fastest_backend


@pytest.mark.parametrize(
    ("device", "products", "expected"),
    [("cpu", True, "chunked"), ("cpu", False, "sdpa"), ("cuda", True, "sdpa"), ("cuda", False, "sdpa")],
)
def test_chunks_run_only_on_a_cpu_that_has_their_products(
    device: str, products: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(fastest, "can_pack", lambda dtype: asked.append(dtype) or products)
    assert fastest_backend(torch.device(device), torch.bfloat16).name == expected
    assert asked == [torch.bfloat16] * (device == "cpu")
