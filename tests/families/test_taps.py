"""Patterns and residual streams of every family in transformers that taps take, against what the model gives out."""

import pytest
import torch

from llamalab.instrument.bind import HOOKED_TYPES
from llamalab.instrument.taps import capture
from llamalab.measure.profile.run import measure_profile
from tests.families.configs import DENSE
from tests.families.test_against_transformers import built, spread

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
TAPPED = [name for name, (kind, _) in DENSE.items() if kind in HOOKED_TYPES]


def test_each_of_them_is_here() -> None:
    assert {DENSE[name][0] for name in TAPPED} == set(HOOKED_TYPES)


@pytest.mark.parametrize("name", TAPPED)
def test_patterns_and_streams_are_those_of_the_model(name: str) -> None:
    arch, model = built(name)
    spread(model)
    tokens_BT = torch.arange(2 * 21).reshape(2, 21) % arch.vocab_size
    with torch.no_grad(), capture(model, "layers.*.attention.pattern", "layers.*.resid_pre") as got:
        expected = model(tokens_BT, use_cache=False, output_attentions=True, output_hidden_states=True)
    for layer in range(arch.n_layers):
        for point, theirs in (("attention.pattern", expected.attentions), ("resid_pre", expected.hidden_states)):
            torch.testing.assert_close(got[f"layers.{layer}.{point}"], theirs[layer], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ministral", "seed_oss", "internlm3", "iquestcoder", "cwm"])
def test_those_of_no_other_test_are_profiled_as_they_are(name: str) -> None:
    arch, model = built(name)
    found = measure_profile(model, prompt_tokens=11, budget_s=0.02)
    assert (found.kind, found.arch) == ("transformers", arch.as_dict())
    assert all(op.flops > 0 and op.time_s > 0 for phase in found.phases for op in phase.ops if "+" in op.name)
