from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.batches import chunks
from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import forecast, run_times
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.parallel import shard
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_lines import pass_lines
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.pass_times import PREDICTED, pass_s, pass_times
from llamalab.analytic.roofline import predict_pass, total_s
from llamalab.analytic.run_memory import check_memory, memory_needed
from llamalab.analytic.weight_storage import stored_weight_bytes
from llamalab.analytic.workload import Workload, last_part, pass_ops, prompt_parts
from llamalab.errors import DoesNotFitError, InputError, UnavailableError
from llamalab.hardware import HARDWARE, find_hardware
from llamalab.presets import PRESETS

ARCH, SPEC = PRESETS["7b"].arch, find_hardware("h100-80gb-sxm")
SHIPPED = choose(SPEC, "shipped", "bf16")


@pytest.mark.parametrize("generate", [2, 3, 4, 57])
def test_the_mean_over_a_run_is_that_of_every_step(generate: int) -> None:
    work = Workload(300, generate, batch=3)
    steps = [pass_s(pass_ops(ARCH, work, 1, seen), SHIPPED.rates) for seen in range(301, 300 + generate)]
    times = run_times(ARCH, work, SHIPPED.rates)
    assert times.decode_s_per_token == pytest.approx(sum(steps) / len(steps), rel=1e-6)
    assert times.total_s == pytest.approx(times.prefill_s + sum(steps), rel=1e-6)
    assert times.tokens_per_s == pytest.approx(3 * generate / times.total_s)


def test_one_token_needs_no_decode_step() -> None:
    result = forecast(ARCH, Workload(100), SPEC, SHIPPED)
    assert result.times.decode_s_per_token is None
    assert result.decode_ops == ()
    assert result.times.total_s == result.times.prefill_s


def test_a_pass_in_short_is_the_pass_op_by_op() -> None:
    ops = pass_ops(ARCH, Workload(64, batch=2, tensor_parallel=4), 64, 64)
    assert pass_s(ops, SHIPPED.rates) == pytest.approx(total_s(ops, predict_pass(ops, SHIPPED.rates)))


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(HARDWARE)), st.integers(1, 3000), st.integers(1, 300), st.integers(1, 64),
    st.sampled_from([None, "int8", "int4"]), st.booleans(),
)  # fmt: skip
def test_no_run_is_predicted_below_its_bound(
    device: str, prompt: int, generate: int, batch: int, weight_dtype: str | None, fused: bool
) -> None:
    spec = find_hardware(device)
    dtype = "bf16" if spec.peak_flops_per_s["bf16"] else "fp16"
    work = Workload(prompt, generate, batch, dtype, weight_dtype, fused=fused)
    shipped = run_times(ARCH, work, choose(spec, "shipped", dtype, weight_dtype).rates)
    bound = run_times(ARCH, work, choose(spec, "bound", dtype, weight_dtype).rates)
    assert shipped.prefill_s > bound.prefill_s
    assert shipped.total_s > bound.total_s
    # The bound of the whole, from the model's FLOPs and the bytes that decode must stream.
    if generate > 1:
        assert bound.decode_s_per_token is not None
        streamed = stored_weight_bytes(ARCH, dtype, weight_dtype or dtype, shard(ARCH)) - 2 * ARCH.vocab_size * ARCH.dim
        assert bound.decode_s_per_token >= streamed / spec.bandwidth_bytes_per_s


def test_chunks_cost_more_than_one_prefill() -> None:
    whole = run_times(ARCH, Workload(2048), SHIPPED.rates).prefill_s
    chunked = run_times(ARCH, Workload(2048, chunk=256), SHIPPED.rates).prefill_s
    assert whole < chunked < 3 * whole


def test_memory_is_weights_cache_of_the_whole_run_and_activations() -> None:
    memory = memory_needed(ARCH, Workload(1000, 24, batch=5, kv_dtype="int8"))
    assert memory.weight_bytes == weight_bytes(ARCH)
    assert memory.kv_bytes == kv_bytes(ARCH, seq=1024, batch=5, dtype="int8")
    assert memory.activation_bytes == peak_activation_bytes(ARCH, PassShape(new_tokens=1000, batch=5)).bytes
    assert memory.total_bytes == sum(memory)


def test_ranks_share_weights_and_cache() -> None:
    arch = PRESETS["70b"].arch
    alone, shared = (memory_needed(arch, Workload(128, 128, 4, tensor_parallel=ranks)) for ranks in (1, 8))
    assert shared.kv_bytes * 8 == alone.kv_bytes
    norms = 2 * 8192 * (2 * 80 + 1)
    assert (shared.weight_bytes - norms) * 8 == alone.weight_bytes - norms


def test_what_does_not_fit_is_refused_by_how_much() -> None:
    work = Workload(1024, 1024, 64, "fp16")
    spec = find_hardware("a100-40gb-sxm")
    short = memory_needed(ARCH, work).total_bytes - 40 * 2**30  # as its driver reports it
    with pytest.raises(DoesNotFitError, match=f"{short / 2**30:.2f} GiB too much"):
        check_memory(ARCH, work, spec)
    with pytest.raises(DoesNotFitError):
        forecast(ARCH, work, spec, choose(spec, "bound", "fp16"))


def test_ranks_without_a_known_link_are_refused() -> None:
    spec = find_hardware("mi250x")
    with pytest.raises(UnavailableError, match="interconnect"):
        forecast(ARCH, Workload(8, tensor_parallel=2), spec, choose(spec, "shipped", "fp16"))


@pytest.mark.parametrize(
    "sizes", [{"prompt": 0}, {"generate": 0}, {"batch": 0}, {"chunk": 0}, {"tensor_parallel": 0}, {"batch": "2"},
              {"prompt": 1.5}, {"generate": True}],
)  # fmt: skip
def test_sizes_that_are_no_counts_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(sizes))} must be"):
        Workload(**({"prompt": 5} | sizes))
    with pytest.raises(InputError, match=f"{next(iter(sizes))} must be"):
        Workload(5)._replace(**sizes)


def test_the_interval_holds_the_prediction_and_not_less_than_the_bound() -> None:
    result = forecast(ARCH, Workload(512, 64), SPEC, SHIPPED)
    low, high = result.interval
    assert high is not None
    assert result.bound.total_s <= low < result.times.total_s < high


@pytest.mark.parametrize(("prompt", "chunk"), [
    (1, 1), (5, 2), (33, 1), (34, 1), (67, 2), (4096, 1), (4097, 16), (100_003, 7), (512, 512), (512, 1000),
])  # fmt: skip
def test_the_chunks_that_stand_for_others_make_the_whole_prompt(prompt: int, chunk: int) -> None:
    parts = prompt_parts(Workload(prompt, chunk=chunk))
    assert sum(weight * new for weight, new, _ in parts) == pytest.approx(prompt, rel=1e-12)
    assert len(parts) <= 16 + 8 * prompt.bit_length()
    assert last_part(Workload(prompt, chunk=chunk)) == chunks(prompt, min(chunk, prompt))[-1]
    # What is linear in the context is exact: the sum of all contexts.
    every = chunks(prompt, min(chunk, prompt))
    assert sum(weight * context for weight, _, context in parts) == pytest.approx(sum(c for _, c in every), rel=1e-12)


@pytest.mark.parametrize("device", ["h100-80gb-sxm", "rtx4090", "apple-m1max"])
@pytest.mark.parametrize("model", ["7b", "mistral-7b-v0.1"])
def test_many_chunks_take_what_one_by_one_they_would(device: str, model: str) -> None:
    spec = find_hardware(device)
    arch, work = PRESETS[model].arch, Workload(8192, chunk=32, dtype="fp16")
    rates = choose(spec, "bound", "fp16").rates
    times = pass_times(pass_lines(arch, work), rates, PREDICTED)
    one_by_one = sum(times.held_s(1, *part) for part in chunks(8192, 32))
    assert run_times(arch, work, rates).prefill_s == pytest.approx(one_by_one, rel=1e-3)
