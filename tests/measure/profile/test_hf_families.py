"""Profiles of the family's models in transformers: what one module makes at once is one row, with all of its parts."""

from typing import Any

import pytest
import torch

from llamalab.errors import InputError
from llamalab.measure.profile.run import measure_profile
from tests.instrument.test_hf_families import FAMILIES, IDS, family_model

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
ROWS = {
    "qwen3": {"layers.*.attention.wq+wk+wv+q_norm+k_norm"},
    "phi3": {"layers.*.attention.wq+wk+wv", "layers.*.feed_forward.w1+w3"},
}
FUSED = "layers.*.attention.rope+kv_append+flash"


@pytest.mark.parametrize("kind", [*FAMILIES, "peft"])
def test_a_model_of_the_family_is_profiled_as_it_is(kind: str) -> None:
    """Longer than the sliding window of those that have one: the step is taken back again and again."""
    with torch.no_grad():
        model = family_model("llama" if kind == "peft" else kind, "sdpa")
    if kind == "peft":
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2))
    found = measure_profile(model, prompt_tokens=9, budget_s=0.05)
    assert found.kind == "transformers"
    for phase in found.phases:
        merged = {op.name for op in phase.ops if "+" in op.name}
        assert merged == {FUSED} | ROWS.get(kind, set())
        assert all(len(op.layers_s) == 2 for op in phase.ops if "*" in op.name)
        assert all(op.flops > 0 and op.time_s > 0 for op in phase.ops if "+" in op.name)
    weights = sum(op.flops * op.count for op in found.phase("prefill").ops if op.name.endswith(("w2", "wo", "output")))
    arch: Any = found.arch
    assert weights > 2 * 9 * 2 * arch["dim"] * arch["ffn_dim"]


def test_a_compiled_model_is_refused() -> None:
    compiled = torch.compile(family_model_without_gradients(), backend="eager")
    with pytest.raises(InputError, match="must not be compiled"):
        measure_profile(compiled, prompt_tokens=4)


def family_model_without_gradients() -> Any:
    with torch.no_grad():
        model = family_model("llama")
        model(IDS)
    return model
