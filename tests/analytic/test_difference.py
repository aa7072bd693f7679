"""The terms between two architectures add up to the whole difference, whichever two they are."""

from itertools import permutations

import pytest

from llamalab.analytic.constants import choose
from llamalab.analytic.difference import cost_of, terms
from llamalab.analytic.op import Op
from llamalab.analytic.pass_times import pass_s
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.hardware import find_hardware
from llamalab.presets import PRESETS

NAMES = (
    "7b",
    "llama-3.1-8b",
    "mistral-7b-v0.1",
    "qwen2.5-0.5b",
    "qwen3-8b",
    "phi-3-mini-4k",
    "gemma-2-2b",
    "mixtral-8x7b",
)


@pytest.mark.parametrize(("one", "other"), list(permutations(NAMES, 2)))
def test_terms_add_up_exactly(one: str, other: str) -> None:
    work, archs = Workload(5000, batch=3), (PRESETS[one].arch, PRESETS[other].arch)
    before, after = (cost_of(arch, work) for arch in archs)
    found = terms(*archs, work)
    assert [field for term in found for field in term.fields] == [
        name for name in archs[0]._fields if getattr(archs[0], name) != getattr(archs[1], name)
    ]
    for place in range(7):
        assert before[place] + sum(term.added[place] for term in found) == after[place]  # type: ignore[misc]


def test_times_add_up_and_come_with_rates_only() -> None:
    rates = choose(find_hardware("h200"), "shipped", "bf16").rates

    def seconds(_: LlamaArch, ops: tuple[Op, ...]) -> float:
        return pass_s(ops, rates)

    archs, work = (PRESETS["7b"].arch, PRESETS["qwen3-8b"].arch), Workload(512)
    before, after = (cost_of(arch, work, seconds) for arch in archs)
    assert before.prefill_s is not None
    assert after.prefill_s is not None
    added = [term.added.prefill_s for term in terms(*archs, work, seconds)]
    assert before.prefill_s + sum(one for one in added if one is not None) == pytest.approx(after.prefill_s, rel=1e-9)
    assert all(term.added.decode_s is None for term in terms(*archs, work))


def test_a_model_does_not_differ_from_itself() -> None:
    assert terms(PRESETS["7b"].arch, PRESETS["7b"].arch, Workload(8)) == ()
