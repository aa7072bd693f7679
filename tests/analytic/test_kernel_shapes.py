"""The shapes that a run meets, against the count that is used where nothing can be run."""

import itertools
import random

import pytest

from experiments.fit_contract import draw
from llamalab.analytic.fit import SPARED, needs
from llamalab.analytic.fit_run import FitRun, passes
from llamalab.analytic.kernel_shapes import compiled_kernels, kernel_shapes
from llamalab.analytic.runtimes import RUNTIMES
from llamalab.arch import LlamaArch

ARCH = LlamaArch(256, 3, 8, 4, 640, 1000)
ALIKE = 4  # shapes of one run that are the same by chance


def test_the_count_is_that_of_the_shapes() -> None:
    chance = random.Random(7)
    runs = [draw(chance) for _ in range(40)]
    for run in runs:
        for _, context in passes(run):
            listed, counted = len(kernel_shapes(run, until=context)), compiled_kernels(run, until=context)
            assert counted - ALIKE <= listed <= counted, (run, context)
    assert {run.attention for run in runs} == {"flash", "naive", "chunked"}


def test_every_chunk_of_chunked_attention_has_keys_of_its_own() -> None:
    one = kernel_shapes(FitRun(ARCH, 300, prompt=300, attention="naive"))
    three = kernel_shapes(FitRun(ARCH, 300, prompt=300, attention="chunked"))
    assert len(three) - len(one) == 2 * 2


def test_fp32_compiles_nothing_and_short_queries_are_not_packed() -> None:
    assert kernel_shapes(FitRun(ARCH, 300, dtype="fp32")) == []
    assert len(kernel_shapes(FitRun(ARCH, 200))) - len(kernel_shapes(FitRun(ARCH, 100))) == 1


@pytest.mark.parametrize("attention", ["flash", "naive"])
def test_kernels_after_the_largest_pass_take_nothing_from_it(attention: str) -> None:
    """Of a prompt of 500 and 100 tokens the first pass is the largest; what is compiled later does not count."""
    run = FitRun(ARCH, 700, prompt=600, chunk=500, attention=attention, logits="all")
    asked: list[int] = []

    def kept(_: FitRun, context: int, step: str) -> int:
        asked.append(context)
        return 1000 * context

    held = needs(run, RUNTIMES["cpu"], kept=kept)
    assert sorted(set(asked)) == [500, 600, 700]
    assert held.bytes_of("compiled kernels") == 500_000
    assert next(term.basis for term in held.terms if term.term == "compiled kernels") == "measured"


def test_what_follows_the_step_that_holds_most_takes_nothing_from_it() -> None:
    """Of one block what is asked after the step does not count; of several it does, as the first ones asked it."""
    one, three = (FitRun(ARCH.replace(n_layers=layers), 600, prompt=599, attention="chunked") for layers in (1, 3))
    for run in (one, three):
        steps = ["projections", "rope", "attention", "output projection", "feed-forward", "logits"]
        lists = [kernel_shapes(run, until=599, step=step) for step in steps]
        assert all(longer[: len(shorter)] == shorter for shorter, longer in itertools.pairwise(lists))
        assert lists[-1] == kernel_shapes(run, until=599)
        assert kernel_shapes(run)[: len(lists[-1])] == lists[-1]
    first, last = (len(kernel_shapes(run, until=599, step="rope")) for run in (one, three))
    assert (first, last) == (2, len(kernel_shapes(three, until=599)) - 1)


def test_what_a_run_can_do_without_is_no_part_of_the_least() -> None:
    run = FitRun(ARCH, 700, attention="naive")
    held = needs(run, RUNTIMES["cpu"])
    assert held.least_bytes == held.total_bytes - sum(map(held.bytes_of, SPARED))
    assert held.least_bytes > held.bytes_of("weights") + held.bytes_of("KV cache") + held.bytes_of("activations")
    assert held.bytes_of("compiled kernels")
    assert held.bytes_of("library workspace")
