import pytest
import torch

from llamalab.attention import get_backend
from llamalab.measure.profile.attention_kernel import attention_kernel, fused_kernel, name_kernel


@pytest.fixture
def call():
    def make(backend, *, kv_heads=2):
        q, k = torch.randn(1, 4, 9, 16), torch.randn(1, kv_heads, 9, 16)
        return lambda: get_backend(backend).attend(q, k, k, query_offset=0)

    return make


def test_sdpa_on_a_cpu_runs_the_flash_kernel(call):
    assert attention_kernel(call("sdpa"), torch.device("cpu")) == "aten::_scaled_dot_product_flash_attention_for_cpu"


def test_naive_runs_its_steps_in_order(call):
    assert attention_kernel(call("naive"), torch.device("cpu")) == "aten::baddbmm + aten::_softmax + aten::bmm"
    assert fused_kernel(call("naive"), torch.device("cpu")) is None


def test_a_forced_math_kernel_is_not_called_flash(call):
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert attention_kernel(call("sdpa"), torch.device("cpu")) == "aten::_scaled_dot_product_attention_math"


def test_a_call_without_attention_has_no_kernel():
    x = torch.randn(4, 4)
    assert attention_kernel(lambda: x @ x, torch.device("cpu")) is None
    assert fused_kernel(lambda: x @ x, torch.device("cpu")) is None


def test_cuda_ops_are_told_apart():
    assert name_kernel(["aten::x", "aten::_scaled_dot_product_cudnn_attention"]) == (
        "aten::_scaled_dot_product_cudnn_attention"
    )
    both = ["aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_flash_attention"]
    assert name_kernel(both) == " + ".join(reversed(both))
