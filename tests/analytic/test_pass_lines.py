"""Straight lines in place of op tables: every time and every byte as the plain path gives it, to the bit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import bound_times, run_times
from llamalab.analytic.op import Op
from llamalab.analytic.pass_lines import line_of, pass_lines
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.pass_times import PREDICTED, pass_s, pass_times
from llamalab.analytic.prompt_memory import peak_of_prompt
from llamalab.analytic.roofline import Rates, moved_bytes, rates_of_op
from llamalab.analytic.run_memory import weight_and_cache_bytes
from llamalab.analytic.stack_constants import prepared
from llamalab.analytic.workload import Workload, decode_contexts, pass_ops, prompt_parts
from llamalab.arch import LlamaArch
from llamalab.hardware import find_hardware
from llamalab.presets import PRESETS

SPEC = find_hardware("h100-80gb-sxm")
NAMES = ("7b", "70b", "mistral-7b-v0.1", "mixtral-8x7b", "qwen1.5-moe-a2.7b", "qwen3-8b", "gemma-3-4b", "stories260k")
MODELS = [PRESETS[name].arch for name in NAMES]


@st.composite
def works(draw: st.DrawFn, arch: LlamaArch) -> Workload:
    """Runs of a model in every manner that its time depends on."""
    ranks = [ranks for ranks in (1, 2, 4) if not any(size % ranks for size in (arch.n_kv_heads, arch.ffn_dim))]
    return Workload(
        draw(st.integers(1, 9000) | st.integers(1, 40)),
        draw(st.integers(1, 700)),
        draw(st.integers(1, 70) | st.just(1)),
        weight_dtype=draw(st.sampled_from([None, "int8", "int4", "fp8", "q4_k_m"])),
        kv_dtype=draw(st.sampled_from([None, "int8", "fp8", "int4"])),
        attention=draw(st.sampled_from(["flash", "naive"])),
        fused=draw(st.booleans()),
        tensor_parallel=draw(st.sampled_from(ranks)),
        chunk=draw(st.none() | st.integers(500, 3000)),
        logits=draw(st.sampled_from(["last", "all"])),
        head_dtype=draw(st.sampled_from([None, "bf16"])),
        unpack_rows=draw(st.sampled_from([None, 2, 32])),
        split_heads=draw(st.sampled_from([None, 128])),
    )


RUNS = st.sampled_from(MODELS).flatmap(lambda arch: st.tuples(st.just(arch), works(arch)))


def plain_prefill_s(arch: LlamaArch, work: Workload, rates: dict[str, Rates]) -> float:
    """Every pass by its op table, none left out."""

    def held_s(new: int, seen: int) -> float:
        runs = [work._replace(batch=batch) for batch in (work.batch, 1)]
        return max(pass_s(pass_ops(arch, run, tokens, seen), rates) for run in runs for tokens in (new, 1))

    return sum(often * held_s(new, seen) for often, new, seen in prompt_parts(work))


def plain_decode_s(arch: LlamaArch, work: Workload, rates: dict[str, Rates]) -> float | None:
    steps = [
        weight * max(pass_s(pass_ops(arch, work._replace(batch=batch), 1, seen), rates) for batch in (work.batch, 1))
        for weight, seen in decode_contexts(work)
    ]
    return sum(steps) if steps else None


def plain_bound_s(op: Op, rates: dict[str, Rates], cache: int, resident: bool) -> float:
    found, moved = rates_of_op(op, rates), moved_bytes(op)
    if op.kind != "collective":
        if resident:
            moved = 0
        elif op.kind != "attention" and moved - op.weight_bytes <= cache:
            moved = op.weight_bytes
    compute_s = op.flops_causal / found.peak_flops_per_s if found.peak_flops_per_s else 0.0
    return op.count * max(compute_s, moved / found.bandwidth_bytes_per_s)


@settings(max_examples=40, deadline=None)
@given(RUNS, st.sampled_from(["shipped", "tensorrt-llm", "llama.cpp", "transformers"]))
def test_times_are_those_of_the_op_tables_to_the_bit(run: tuple[LlamaArch, Workload], basis: str) -> None:
    arch, work = run
    rates = choose(SPEC, "shipped", "bf16", work.weight_dtype).rates
    if basis == "shipped":
        work = work._replace(split_heads=None)  # these constants know no split
    else:
        rates = prepared(find_hardware("rtx4090-24gb") if basis == "llama.cpp" else SPEC, work, basis)[1].rates
    if work.tensor_parallel > 1 and "collective" not in rates:
        work = work._replace(tensor_parallel=1)
    times = run_times(arch, work, rates)
    assert times.prefill_s == plain_prefill_s(arch, work, rates)
    assert times.decode_s_per_token == plain_decode_s(arch, work, rates)


@settings(max_examples=30, deadline=None)
@given(RUNS, st.sampled_from([0, 50 * 2**20, 2**40]))
def test_bounds_are_those_of_the_op_tables_to_the_bit(asked: tuple[LlamaArch, Workload], cache: int) -> None:
    arch, work = asked[0], asked[1]._replace(split_heads=None)  # a data sheet knows no split
    rates = choose(SPEC, "bound", "bf16", work.weight_dtype).rates
    run = work._replace(fused=True, attention="flash", chunk=None, unpack_rows=None)
    resident = sum(weight_and_cache_bytes(arch, work)) <= cache

    def seconds(new: int, seen: int) -> float:
        total_s = 0.0
        for op in pass_ops(arch, run, new, seen):
            total_s += plain_bound_s(op, rates, cache, resident)
        return total_s

    found, steps = bound_times(arch, work, rates, cache), decode_contexts(work)
    assert found.prefill_s == seconds(work.prompt, work.prompt)
    assert found.decode_s_per_token == (sum(weight * seconds(1, seen) for weight, seen in steps) if steps else None)


@pytest.mark.parametrize("arch", MODELS, ids=NAMES)
@pytest.mark.parametrize("rows", [1, 2, 3, 31, 32, 33, 70_000])
def test_rows_of_a_line_are_those_of_the_table(arch: LlamaArch, rows: int) -> None:
    around = pass_lines(arch, Workload(1, unpack_rows=32, weight_dtype="int4")).around(rows)
    run = Workload(1, batch=rows, unpack_rows=32, weight_dtype="int4")
    table = {op.name: line_of(op) for op in pass_ops(arch, run, 1, 1)}
    for line in (*around.before, *around.between, *around.after, *(around.head if rows > 1 else ())):
        figures = [none + each * rows for none, each in zip(line[4:7], line[7:10], strict=True)]
        assert (line.classes, figures) == (table[line.name].classes, list(table[line.name][4:7]))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(MODELS), st.integers(1, 9000), st.integers(1, 40), st.sampled_from(["flash", "naive"]),
    st.sampled_from(["bf16", "fp32", "int8"]), st.sampled_from(["last", "all"]), st.sampled_from([1, 2]),
)  # fmt: skip
def test_the_largest_activations_are_those_of_the_moments(
    arch: LlamaArch, prompt: int, batch: int, attention: str, dtype: str, logits: str, ranks: int
) -> None:
    shape = PassShape(
        new_tokens=prompt,
        context_tokens=prompt,
        batch=batch,
        dtype=dtype,
        attention=attention,
        logits=logits,
        tensor_parallel=ranks,
    )
    assert peak_of_prompt(arch, shape) == peak_activation_bytes(arch, shape).bytes


def test_times_of_other_rates_are_not_mixed_up() -> None:
    lines = pass_lines(MODELS[0], Workload(512))
    rates = choose(SPEC, "shipped", "bf16").rates
    slower = {name: one._replace(t0_s=1.0) for name, one in rates.items()}
    found = [pass_times(lines, one, PREDICTED).pass_s(1, 1, 512) for one in (rates, slower, rates)]
    assert found[0] == found[2] < 1 < found[1]
