"""Stacks: rows with a meaning each, predictions from the data sheet alone, bounds that no stack beats."""

import json
from pathlib import Path

import pytest

from llamalab.analytic import stacks
from llamalab.analytic.data_sheet import issue_peak
from llamalab.analytic.forecast import bound_times, forecast, run_times
from llamalab.analytic.op import add_up
from llamalab.analytic.run_memory import memory_needed
from llamalab.analytic.stack_constants import (
    UNPACK_ROWS,
    between,
    computed_in,
    is_packed,
    over_bus,
    prepared,
    stack_constants,
    workload_of,
)
from llamalab.analytic.stacks import assumed_stack, find_stack, stack_names
from llamalab.analytic.workload import Workload, pass_ops
from llamalab.choices import STACK_NAMES
from llamalab.errors import UnavailableError, UnknownNameError
from llamalab.hardware import CPUS, HARDWARE, find_hardware
from llamalab.presets import PRESETS

ARCH = PRESETS["7b"].arch
ROWS = list(stacks.stacks().values())
SHARES = [field for field in stacks.Stack._fields if field.endswith(("_compute", "_memory"))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_constant_means_what_it_says(row: stacks.Stack) -> None:
    for field in SHARES:
        value = getattr(row, field)
        assert value is None or 0 < value <= 1, field
    for field in ("kernel_s", "link_s", "hop_s", "step_s", "sequence_s", "request_s"):
        assert 0 <= getattr(row, field) < 1, field
    assert row.unpack in stacks.UNPACKS
    assert row.attention in ("flash", "naive")
    assert set(row.spread) == set(row.unseen_spread) == set(stacks.SPREAD_PHASES)
    assert row.title
    assert row.versions


@pytest.mark.parametrize("row", [row for row in ROWS if row.points], ids=lambda row: row.key)
def test_a_fitted_row_says_on_what(row: stacks.Stack) -> None:
    assert row.error is not None
    assert row.fitted
    assert row.sources
    assert len(row.fitted) <= 10
    assert all(row.unseen_spread[phase] >= row.spread[phase] for phase in stacks.SPREAD_PHASES)
    assert set(row.devices) <= {spec.name for spec in (*HARDWARE.values(), *CPUS.values())} | {
        "apple-m1max-32gb", "apple-m3-16gb", "apple-m3max-48gb", "apple-m2pro-19core-32gb",
    }  # fmt: skip


def test_the_stacks_that_users_run_are_there() -> None:
    assert {
        "llamalab", "transformers", "gpt-fast", "llama.cpp", "exllamav2", "vllm-2024", "vllm", "tensorrt-llm",
        "tensorrt-llm-1", "tinychat", "autoawq",
    } <= set(stack_names())  # fmt: skip


@pytest.mark.parametrize("device", ["h100-80gb-sxm", "rtx4090-24gb", "mi300x-192gb", "apple-m2ultra", "xeon-8480"])
@pytest.mark.parametrize("weight", ["fp16", "int4", "fp8", "q4_0"])
@pytest.mark.parametrize("name", stack_names())
def test_no_stack_beats_the_bound(name: str, device: str, weight: str) -> None:
    spec = find_hardware(device)
    try:
        work, constants = prepared(spec, Workload(300, 20, 2, "fp16", weight), name)
    except UnavailableError:
        kinds = {row.on for row in ROWS if row.name == name}
        assert spec.kind in ("apple", "cpu") or kinds <= {"apple", "cpu"}
        return
    found = forecast(ARCH, work, spec, constants)
    assert found.times.prefill_s >= found.bound.prefill_s
    assert found.times.total_s >= found.bound.total_s
    low, high = found.interval
    assert low <= found.times.total_s <= (high or 0)
    assert low >= found.bound.total_s


def test_a_faster_device_is_faster_by_its_data_sheet_alone() -> None:
    work = Workload(512, 64, 1, "fp16", "q4_0")
    times = [
        forecast(ARCH, *_of(name, work, "llama.cpp")).times.decode_s_per_token
        for name in ("rtx3060-12gb", "rtx3080-12gb", "rtx4090-24gb", "rtx5090-32gb")
    ]
    assert times == sorted(times, reverse=True)


def _of(device: str, work: Workload, name: str):  # type: ignore[no-untyped-def]
    spec = find_hardware(device)
    run, constants = prepared(spec, work, name)
    return run, spec, constants


def test_weights_are_unpacked_first_from_so_many_rows_on() -> None:
    stack = find_stack("llama.cpp-2024", find_hardware("rtx4090"))
    work = workload_of(stack, Workload(512, 2, 1, "fp16", "q4_0"))
    assert work.unpack_rows == UNPACK_ROWS
    few, many = (pass_ops(ARCH, work, rows, rows) for rows in (UNPACK_ROWS - 1, UNPACK_ROWS))
    assert not any(op.name.endswith(".unpack") for op in few)
    unpacking = [op for op in many if op.name.endswith(".unpack")]
    assert len(unpacking) == 7  # llama.cpp fuses none of wq, wk, wv, wo, w1, w2, w3
    dense = 2 * 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    assert sum(op.count * op.written_bytes for op in unpacking) == dense
    assert add_up(few).flops_full < add_up(many).flops_full


def test_the_head_of_a_packed_model_stays_in_16_bits_unless_it_is_ggml() -> None:
    plain = Workload(8, 2, 1, "fp16", "int4")
    heads = {
        name: next(op for op in pass_ops(ARCH, workload_of(find_stack(stack, find_hardware("rtx4090")), work), 1, 9)
                   if op.name == "output").weight_bytes
        for name, stack, work in (("awq", "autoawq", plain), ("ggml", "llama.cpp", plain._replace(weight_dtype="q4_0")))
    }  # fmt: skip
    assert heads == {"awq": 2 * 32000 * 4096, "ggml": 32000 * 4096 * 18 // 32}
    work = workload_of(find_stack("autoawq", find_hardware("rtx4090")), plain)
    assert memory_needed(ARCH, work).weight_bytes > memory_needed(ARCH, plain).weight_bytes


def test_devices_that_take_layers_share_the_memory_and_not_the_time() -> None:
    spec, work = find_hardware("rtx4090"), Workload(64, 16, 1, "fp16", "q4_0")
    one, four = (prepared(spec, work._replace(tensor_parallel=ranks), "llama.cpp") for ranks in (1, 4))
    assert (four[0].tensor_parallel, four[0].layer_parallel, four[0].devices) == (1, 4, 4)
    assert workload_of(find_stack("llama.cpp", spec), four[0]) == four[0]
    arch = PRESETS["70b"].arch
    assert memory_needed(arch, four[0]).weight_bytes == -(-memory_needed(arch, one[0]).weight_bytes // 4)
    times = [run_times(arch, run, constants.rates, constants.host).total_s for run, constants in (one, four)]
    assert times[0] == times[1]
    assert prepared(find_hardware("h200"), work._replace(tensor_parallel=4), "vllm")[0].tensor_parallel == 4


def test_a_cpu_widens_what_it_cannot_multiply() -> None:
    assert computed_in(find_hardware("ryzen-5950x"), "fp16") == "fp32"
    assert computed_in(find_hardware("ryzen-7950x"), "fp16") == "bf16"
    assert computed_in(find_hardware("xeon-8480"), "bf16") == "bf16"
    assert computed_in(find_hardware("h100-80gb-sxm"), "fp16") == "fp16"


def test_unknown_cells_are_no_prediction() -> None:
    with pytest.raises(UnavailableError, match="peak"):
        prepared(find_hardware("xeon-3rdgen-2s-vm"), Workload(8, 2, dtype="fp32"), "ipex")


def test_a_stack_without_constants_for_a_kind_of_device_says_so() -> None:
    with pytest.raises(UnavailableError, match="vllm must have constants for apple"):
        find_stack("vllm", find_hardware("apple-m1max"))
    with pytest.raises(UnknownNameError, match="llama"):
        find_stack("lama.cpp", find_hardware("h200"))
    assert find_stack("exllamav2", find_hardware("rx7900xtx")).on == "nvidia"  # borrowed


def test_which_stack_is_assumed() -> None:
    assert assumed_stack(find_hardware("rtx4090")) == "llama.cpp"
    assert assumed_stack(find_hardware("apple-m4")) == "llama.cpp"
    assert assumed_stack(find_hardware("h200")) is None


def test_a_device_that_no_fit_saw_has_a_wider_interval() -> None:
    seen, other = (
        prepared(find_hardware(name), Workload(8), "tensorrt-llm")[1] for name in ("h100-80gb-sxm", "l40s-48gb")
    )
    assert other.spread >= seen.spread  # type: ignore[operator]
    assert "none on this device" in other.basis
    assert "none on this device" not in seen.basis


def test_packed_types() -> None:
    assert [is_packed(name) for name in ("bf16", "fp8", "int8", "q4_k_m")] == [False, False, True, True]


def test_rows_inherit_from_their_parents_and_chains_end() -> None:
    rows = {row["key"]: row for row in json.loads(Path(stacks.__file__).with_name("stacks.json").read_text())["stacks"]}
    for key, row in rows.items():
        seen = {key}
        while (parent := row.get("parent") or row.get("same_as")) is not None:
            assert parent not in seen
            seen.add(parent)
            row = rows[parent]
    child, parent = (stacks.stacks()[key] for key in ("sglang/nvidia", "vllm/nvidia"))
    assert child.gemm_memory == parent.gemm_memory
    assert child.points == 0


def test_a_host_costs_a_step_a_sequence_and_a_request() -> None:
    work, spec, constants = _of("h100-80gb-sxm", Workload(64, 11, 4), "vllm-2024")
    with_host, without = (run_times(ARCH, work, constants.rates, *host) for host in ((constants.host,), ()))
    host = constants.host
    assert with_host.total_s - without.total_s == pytest.approx(
        host.request_s + 4 * 11 * host.sequence_s + 10 * host.step_s
    )
    assert spec.name == "h100-80gb-sxm"


def test_the_bound_of_what_fits_a_cache_is_arithmetic_alone() -> None:
    spec, small = find_hardware("rtx4090"), PRESETS["stories260k"].arch
    rates = prepared(spec, Workload(64, 8, 1, "fp16"), "llama.cpp")[1].rates
    cached, streamed = (bound_times(small, Workload(64, 8, 1, "fp16"), rates, size) for size in (72 * 2**20, 0))
    assert cached.total_s < streamed.total_s / 10
    large = [bound_times(ARCH, Workload(64, 8, 1, "fp16"), rates, size).total_s for size in (72 * 2**20, None)]
    assert 0.9 * large[1] < large[0] <= large[1]  # weights and keys come from memory, activations do not


@pytest.mark.parametrize(("batch", "context", "ranks", "split"), [
    (16, 512, 1, True), (17, 512, 1, False), (16, 5, 1, True), (33, 4096, 2, False), (32, 4096, 2, True),
])  # fmt: skip
def test_decode_attention_is_split_where_few_heads_are_there(batch: int, context: int, ranks: int, split: bool) -> None:
    work = workload_of(find_stack("vllm-2024", find_hardware("mi300x")), Workload(1, batch=batch, dtype="fp16"))
    ops = pass_ops(ARCH, work._replace(tensor_parallel=ranks), 1, context)
    modes = {op.mode for op in ops if op.kind == "attention"}
    assert modes == {"decode_split" if split else "decode"}


def test_split_attention_is_faster_and_no_other_stack_splits() -> None:
    rates = prepared(find_hardware("mi300x"), Workload(1, dtype="fp16"), "vllm-2024")[1].rates
    whole, parts = (rates[f"attention_{mode}"].compute_efficiency for mode in ("decode", "decode_split"))
    assert parts == pytest.approx(whole * find_stack("vllm-2024", find_hardware("mi300x")).split_gain)
    assert {row.key for row in ROWS if row.split_heads is not None} == {"vllm-2024/amd"}


def cpu_seconds(device: str, threads: int | None, prompt: int = 1, generate: int = 32) -> float:
    run, _, constants = _of(device, Workload(prompt, generate, 1, "fp16", "q8_0", threads=threads), "llama.cpp")
    return run_times(ARCH, run, constants.rates, constants.host).total_s


@pytest.mark.parametrize("device", ["ryzen-7950x", "threadripper-5975wx", "apple-m2max-cpu", "xeon-8480"])
def test_more_threads_of_a_cpu_are_never_slower(device: str) -> None:
    times = [cpu_seconds(device, threads, 64) for threads in range(1, 70)]
    assert times == sorted(times, reverse=True)
    cores = find_hardware(device).clocking.matrix_units  # type: ignore[union-attr]
    assert times[cores - 1] == times[-1] == cpu_seconds(device, None, 64)
    assert times[0] > 2 * times[-1]


def test_a_second_die_reads_more_and_a_second_thread_of_a_full_one_does_not() -> None:
    """A step of one token is bound by what dies read: 8 of the 32 cores share one here."""
    seven, eight, nine = (cpu_seconds("threadripper-5975wx", threads) for threads in (7, 8, 9))
    assert seven / eight == pytest.approx(1, abs=0.05)
    assert eight / nine > 1.5


def test_threads_leave_the_bound_and_a_gpu_as_they_are() -> None:
    few, all_ = (
        bound_times(ARCH, run, constants.rates, spec.l2_bytes)
        for run, spec, constants in (
            _of("ryzen-7950x", Workload(64, 8, 1, "fp16", threads=threads), "llama.cpp") for threads in (1, None)
        )
    )
    assert few == all_
    assert cpu_seconds("rtx4090", 1) == cpu_seconds("rtx4090", None)


def test_products_of_llama_cpp_on_a_cpu_are_told_of_its_vector_units() -> None:
    spec = find_hardware("xeon-8480")
    rates = prepared(spec, Workload(8, dtype="bf16"), "llama.cpp")[1].rates["gemm"]
    stack = find_stack("llama.cpp", spec)
    reached = (rates.peak_flops_per_s or 0) * rates.compute_efficiency
    assert reached == pytest.approx(stack.gemm_compute * (spec.peak_flops_per_s["fp32"] or 0))


def test_the_words_of_the_option_are_the_rows_of_the_file() -> None:
    assert stack_names() == STACK_NAMES


def test_vector_units_are_told_by_what_their_schedulers_issue() -> None:
    a100, h100 = (find_hardware(name) for name in ("a100-80gb-sxm", "h100-80gb-sxm"))
    by_lanes = h100.peak_flops_per_s["fp32"] / a100.peak_flops_per_s["fp32"]  # type: ignore[operator]
    by_issue = (issue_peak(h100) or 0) / (issue_peak(a100) or 1)
    assert by_issue == pytest.approx(132 * 1830 / (108 * 1410))
    assert by_issue < by_lanes / 2
    assert issue_peak(find_hardware("apple-m1max")) == find_hardware("apple-m1max").peak_flops_per_s["fp32"]


@pytest.mark.parametrize(("ranks", "over"), [(1, False), (2, False), (4, True), (8, True)])
def test_a_bridge_joins_two_and_more_share_the_bus(ranks: int, over: bool) -> None:
    spec = between(find_hardware("a100-80gb-pcie"), ranks)
    assert over_bus(spec) is over
    assert spec.interconnect_bytes_per_s == (64e9 if over else 600e9)


def test_a_ring_over_the_bus_takes_its_steps() -> None:
    spec, stack = find_hardware("rtx4090"), find_stack("vllm-2024", find_hardware("rtx4090"))
    two, four = (stack_constants(stack, spec, "fp16", ranks=ranks).rates["collective"].t0_s for ranks in (2, 4))
    assert (two, four) == (pytest.approx(2 * stack.hop_s), pytest.approx(6 * stack.hop_s))
    h100 = find_hardware("h100-80gb-sxm")
    assert len({stack_constants(stack, h100, "fp16", ranks=ranks).rates["collective"].t0_s for ranks in (2, 8)}) == 1


def test_llama_cpp_of_today_multiplies_packed_weights_as_integers() -> None:
    """That of early 2024 unpacked them first: prompts are faster now, one row and 16 bits are as they were."""
    spec, packed = find_hardware("rtx4090"), Workload(2048, 16, 1, "fp16", "q4_k_m")
    now, then = (prepared(spec, packed, name) for name in ("llama.cpp", "llama.cpp-2024"))
    assert (now[0].unpack_rows, then[0].unpack_rows) == (None, UNPACK_ROWS)
    times = [run_times(ARCH, work, constants.rates, constants.host) for work, constants in (now, then)]
    assert times[0].prefill_s < 0.8 * times[1].prefill_s
    assert now[1].rates["gemm_row"] == then[1].rates["gemm_row"]
    reached = (now[1].rates["gemm"].peak_flops_per_s or 0) * now[1].rates["gemm"].compute_efficiency
    assert reached == pytest.approx(now[1].stack.packed_compute * (spec.peak_flops_per_s["int8"] or 0))
    wide = [
        prepared(spec, packed._replace(weight_dtype="fp16"), name)[1].rates["gemm"]
        for name in ("llama.cpp", "llama.cpp-2024")
    ]
    assert wide[0] == wide[1]


def test_k_formats_take_more_operations_under_one_row() -> None:
    spec = find_hardware("apple-m1max")
    stack = find_stack("llama.cpp", spec)
    k, plain = (stack_constants(stack, spec, "fp16", weight).rates["gemm_row"] for weight in ("q4_k_m", "q4_0"))
    assert plain.compute_efficiency == pytest.approx(stack.k_quant_ops * k.compute_efficiency)
    assert stack.k_quant_ops > 1


def test_one_row_of_16_bit_weights_goes_with_multiprocessors_and_clock() -> None:
    specs = [find_hardware(name) for name in ("a100-80gb-sxm", "h100-80gb-pcie")]
    stack = find_stack("llama.cpp", specs[0])
    rows = [stack_constants(stack, spec, "fp16").rates["gemm_row"] for spec in specs]
    reached = [row.compute_efficiency * (row.peak_flops_per_s or 0) for row in rows]  # 1 FLOP a byte of fp16
    assert reached == pytest.approx(
        [(stack.row_bytes_per_clock or 0) * units for units in (108 * 1.41e9, 114 * 1.62e9)]
    )
    assert "gemm_row" not in stack_constants(find_stack("vllm", specs[0]), specs[0], "fp16").rates
