"""The shapes that a run meets, against the count that is used where nothing can be run."""

import itertools
import random

import pytest

from experiments.fit_contract import draw
from llamalab.analytic.activations import live_moments
from llamalab.analytic.fit import needs
from llamalab.analytic.fit_run import FitRun, pass_shape, passes
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

    def kept(_: FitRun, context: int, moment: int) -> int:
        asked.append(context)
        return 1000 * context

    held = needs(run, RUNTIMES["cpu"], kept=kept)
    assert sorted(set(asked)) == [500, 600, 700]
    assert held.bytes_of("compiled kernels") == 500_000
    assert next(term.basis for term in held.terms if term.term == "compiled kernels") == "measured"


def test_what_follows_the_moment_that_holds_most_takes_nothing_from_it() -> None:
    """Of one block what is asked after the moment does not count; of several it does, as the first ones asked it."""
    one, three = (FitRun(ARCH.replace(n_layers=layers), 600, prompt=599, attention="chunked") for layers in (1, 3))
    for run in (one, three):
        steps = [step for step, _ in live_moments(run.arch, pass_shape(run, 599, 599))]
        lists = [kernel_shapes(run, until=599, moment=moment) for moment in range(len(steps))]
        assert all(longer[: len(shorter)] == shorter for shorter, longer in itertools.pairwise(lists))
        assert lists[-1] == kernel_shapes(run, until=599)
        assert kernel_shapes(run)[: len(lists[-1])] == lists[-1]
    rope = steps.index("rope")
    first, last = (len(kernel_shapes(run, until=599, moment=rope)) for run in (one, three))
    assert (first, last) == (2, len(kernel_shapes(three, until=599)) - 1)


def test_within_attention_each_part_is_compiled_before_its_own_moment() -> None:
    """Chunks of 128 queries: 599 are five, of which the last two are moments; the others were compiled before them."""
    run = FitRun(ARCH.replace(n_layers=1), 600, prompt=599, attention="chunked")
    steps = [step for step, _ in live_moments(run.arch, pass_shape(run, 599, 599))]
    at = [moment for moment, step in enumerate(steps) if step == "attention"]
    counts = [len(kernel_shapes(run, until=599, moment=moment)) for moment in at]
    before = counts[0]  # decoding the cache asks for nothing
    assert [count - before for count in counts] == [0, 7, 7, 8, 9, 9, 10, 10]


def test_what_a_run_can_do_without_is_no_part_of_the_least() -> None:
    run = FitRun(ARCH, 700, attention="naive")
    held = needs(run, RUNTIMES["cpu"])
    always = ("weights", "KV cache", "activations", "device context")
    assert held.least_bytes == sum(map(held.bytes_of, always)) < held.total_bytes
    assert held.bytes_of("compiled kernels")
    assert held.bytes_of("library workspace")
