"""The data-sheet table agrees with itself, and never gives one device's figure for another's."""

import pytest

from llamalab.errors import InputError, UnknownNameError
from llamalab.hardware import (
    CPUS,
    HARDWARE,
    KINDS,
    PEAK_DTYPES,
    HardwareSpec,
    device_family,
    find_hardware,
    of_device,
    smallest_holding,
)

SPECS = list(HARDWARE.values())
WITHOUT_CLOCK = {"b300-288gb", "gaudi2-96gb", "l40s-48gb"}  # the last one's sheet contradicts its clock


def test_a_generation_of_cpus_is_the_one_that_stands_for_it_and_has_any_number_of_cores() -> None:
    assert find_hardware("xeon-emr").name == "xeon-8592"
    half = find_hardware("epyc-genoa-48core")
    assert half.peak_flops_per_s["bf16"] == (find_hardware("epyc-genoa").peak_flops_per_s["bf16"] or 0) / 2
    assert half.cores_per_die == 8


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_units_times_clock_give_the_peak(spec: HardwareSpec) -> None:
    peak = spec.peak_flops_per_s["bf16"] or spec.peak_flops_per_s["fp16"]
    assert peak is not None
    if spec.clocking is None:
        assert spec.name in WITHOUT_CLOCK
    else:
        assert spec.clocking.flops_per_s == pytest.approx(peak, rel=0.01)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_row_is_complete_and_dense(spec: HardwareSpec) -> None:
    assert tuple(spec.peak_flops_per_s) == PEAK_DTYPES
    assert spec.source
    fp16, bf16 = spec.peak_flops_per_s["fp16"], spec.peak_flops_per_s["bf16"]
    assert bf16 in (None, fp16) or spec.name == "gaudi2-96gb"
    # A sparse figure in one cell would break these ratios between dense peaks. Where fp32 accumulation halves the
    # rate of fp16, int8 keeps its own: four times as much. AMD's int8 without matrix sparsity is as fast as fp16.
    full = spec.fp16_in_fp16_flops_per_s
    assert full in (None, pytest.approx(2 * (fp16 or 0), rel=0.01))
    as_fast = spec.vendor == "AMD" and not spec.name.startswith("mi3")
    for dtype, ratio in (("tf32", 0.5), ("int8", 4.0 if full else 1.0 if as_fast else 2.0), ("fp8", 2.0)):
        peak = spec.peak_flops_per_s[dtype]
        if peak is not None and fp16 is not None:
            assert peak == pytest.approx(ratio * fp16, rel=0.02)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_name_carries_the_memory(spec: HardwareSpec) -> None:
    assert f"-{spec.memory_bytes // 10**9}gb" in spec.name or f"{spec.memory_bytes // 10**9}gb" in spec.name.split("-")
    assert find_hardware(spec.name.upper()) is spec


def test_names_and_driver_names_are_unique() -> None:
    # Some boards of one name are sold with two memories.
    driver_names = [(name, spec.memory_bytes) for spec in SPECS for name in spec.device_names]
    assert len(HARDWARE) == len(SPECS) >= 90
    assert len(driver_names) == len(set(driver_names))


def test_the_devices_that_published_bounds_rest_on() -> None:
    bounds = {
        ("a100-80gb-sxm", "7b"): (88.54e-3, 7.534e-3),
        ("h100-80gb-sxm", "7b"): (27.92e-3, 4.586e-3),
        ("h200-141gb-sxm", "7b"): (27.92e-3, 3.201e-3),
    }
    prefill_flops, decode_bytes = 27_626_028_662_784, 15_362_703_360
    for (name, _), (prefill_s, decode_s) in bounds.items():
        spec = HARDWARE[name]
        assert prefill_flops / spec.peak_flops_per_s["bf16"] == pytest.approx(prefill_s, rel=1e-3)  # type: ignore[operator]
        assert decode_bytes / spec.bandwidth_bytes_per_s == pytest.approx(decode_s, rel=1e-3)


@pytest.mark.parametrize(
    ("short", "name"), [("h200", "h200-141gb-sxm"), ("l4", "l4-24gb"), ("a100-80gb-sxm", "a100-80gb-sxm")]
)
def test_a_short_name_will_do_where_it_is_unambiguous(short: str, name: str) -> None:
    assert find_hardware(short).name == name


@pytest.mark.parametrize(
    ("short", "candidates"),
    [
        ("h100", ["h100-80gb-sxm", "h100-80gb-pcie", "h100-94gb-nvl"]),
        ("a100", ["a100-40gb-sxm", "a100-40gb-pcie", "a100-80gb-sxm", "a100-80gb-pcie"]),
        ("a100-80gb", ["a100-80gb-sxm", "a100-80gb-pcie"]),
        ("v100", ["v100-16gb", "v100-32gb"]),
    ],
)
def test_an_ambiguous_name_is_an_error_that_lists_the_candidates(short: str, candidates: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        find_hardware(short)
    assert str(caught.value).endswith(f"choose from {', '.join(candidates)}")


@pytest.mark.parametrize("given", ["", "h", "l4-x", "h10", "rtx", "a100-1", "h300"])
def test_a_name_is_never_matched_by_a_part(given: str) -> None:
    with pytest.raises(UnknownNameError):
        find_hardware(given)


def test_a_driver_name_is_matched_exactly_and_by_memory() -> None:
    h200 = of_device("NVIDIA H200", 150_754_820_096)
    assert h200 is HARDWARE["h200-141gb-sxm"]
    assert of_device("NVIDIA H200", 80 * 2**30) is None
    assert of_device("NVIDIA H200 NVL", 150_754_820_096) is None
    assert of_device("NVIDIA GH200 480GB", 144 * 10**9) is None  # the other GH200


def test_the_smallest_device_that_holds_so_much() -> None:
    assert smallest_holding(16 * 10**9).memory_bytes == 16 * 10**9  # type: ignore[union-attr]
    # The driver of an H200 of 141 GB tells 150.75e9 bytes.
    assert smallest_holding(142 * 10**9).name == "gh200-144gb"  # type: ignore[union-attr]
    assert HARDWARE["h200-141gb-sxm"].usable_memory_bytes == 150_754_820_096
    assert HARDWARE["h100-80gb-sxm"].usable_memory_bytes == pytest.approx(85.5e9, rel=1e-3)
    assert smallest_holding(600 * 10**9) is None


def test_every_cell_has_a_source_and_every_unknown_one_none() -> None:
    for spec in (*SPECS, *CPUS.values()):
        assert spec.kind in KINDS
        for cell in ("memory_bytes", "reported_memory_bytes", "l2_bytes", "tdp_w", "clocking", "max_clock_hz"):
            assert (spec.source_of(cell) is None) == (getattr(spec, cell) is None)
        for dtype in PEAK_DTYPES:
            known = spec.peak_flops_per_s[dtype] is not None
            assert bool(spec.source_of(f"peak_flops_per_s.{dtype}")) == known


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.reported_memory_bytes], ids=lambda spec: spec.name)
def test_a_driver_reports_about_the_nominal_memory(spec: HardwareSpec) -> None:
    assert 0.95 < spec.reported_memory_bytes / spec.memory_bytes < 1.10  # type: ignore[operator]


@pytest.mark.parametrize("spec", CPUS.values(), ids=CPUS.keys())
def test_a_cpu_is_cores_by_instructions_by_clock_and_channels_by_speed(spec: HardwareSpec) -> None:
    if spec.clocking is not None:
        assert spec.peak_flops_per_s["fp32"] == pytest.approx(spec.clocking.flops_per_s, rel=1e-6)
        assert spec.boost >= 1
    if spec.memory_channels and spec.memory_mt_per_s:
        width = spec.bandwidth_bytes_per_s / (spec.memory_channels * spec.memory_mt_per_s * 1e6)
        assert width in (8, 16)  # bytes of a channel: DDR, and HBM's


@pytest.mark.parametrize(
    ("given", "name", "memory_gb", "units"),
    [
        ("apple-m1max-32gb", "apple-m1max-32gb", 32, 32),
        ("apple-m3max-40core-64gb", "apple-m3max-40core-64gb", 64, 40),
        ("apple-m2ultra", "apple-m2ultra-76core-192gb", 192, 76),
        ("xeon-spr-32core", "xeon-spr-32core", 4000, 32),
    ],
)
def test_a_chip_is_found_by_memory_and_cores(given: str, name: str, memory_gb: int, units: int) -> None:
    spec = find_hardware(given)
    assert (spec.name, spec.memory_bytes, spec.clocking.matrix_units) == (name, memory_gb * 10**9, units)  # type: ignore[union-attr]


def test_a_size_that_is_not_sold_is_unknown() -> None:
    assert device_family("apple-m1max-48gb") == []
    assert [spec.name for spec in device_family("a100-80gb")] == ["a100-80gb-sxm", "a100-80gb-pcie"]


def test_what_a_device_lacks_is_unknown_and_not_zero() -> None:
    assert HARDWARE["t4-16gb"].peak_flops_per_s["bf16"] is None
    assert HARDWARE["a100-80gb-sxm"].peak_flops_per_s["fp8"] is None
    assert 0 not in [peak for spec in SPECS for peak in spec.peak_flops_per_s.values()]


PEOPLE_OWN = (
    *(f"rtx{model}" for model in ("3060", "3060ti", "3070", "3070ti", "3080-10gb", "3080ti", "3090", "3090ti")),
    *(f"rtx{model}" for model in ("4060", "4060ti-16gb", "4070", "4070ti", "4080", "4090", "5070", "5070ti", "5080")),
    *("rtx5090", "a40", "rtxa6000", "rtx6000ada", "rtxpro6000", "l40", "b200", "b300", "gb200", "mi325x", "mi355x"),
    *("rx7900xtx", "jetson-orin-64gb", "strix-halo"),
    *(f"apple-m{n}{size}" for n in (1, 2, 3) for size in ("", "pro", "max", "ultra")),
    *("apple-m4", "apple-m4pro", "apple-m4max"),
    *(f"apple-m{n}{size}-cpu" for n in (1, 2, 3) for size in ("", "pro", "max", "ultra")),
    *("apple-m4-cpu", "apple-m4pro-cpu", "apple-m4max-cpu"),
    *("xeon-icx", "xeon-spr", "xeon-emr", "xeon-gnr", "epyc-rome", "epyc-milan", "epyc-genoa", "epyc-turin"),
    *("ryzen-7600x", "ryzen-7700x", "ryzen-7900x", "ryzen-7950x", "ryzen-9600x", "ryzen-9700x", "ryzen-9900x"),
    "ryzen-9950x",
)


@pytest.mark.parametrize("name", PEOPLE_OWN)
def test_devices_that_people_own_have_peak_and_bandwidth_with_their_source(name: str) -> None:
    family = device_family(name)
    assert family
    for spec in family:
        assert spec.bandwidth_bytes_per_s > 0
        assert spec.source_of("bandwidth_bytes_per_s")
        assert spec.source_of("peak_flops_per_s.fp32")


def test_a_chip_that_was_never_made_is_unknown() -> None:
    with pytest.raises(UnknownNameError):
        find_hardware("apple-m4ultra")


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.multiprocessors], ids=lambda spec: spec.name)
def test_multiprocessors_have_so_many_matrix_units(spec: HardwareSpec) -> None:
    assert spec.clocking is not None
    assert spec.clocking.matrix_units / spec.multiprocessors in (2, 4, 8)  # type: ignore[operator]


def test_every_bridge_has_a_bus_beside_it() -> None:
    assert {spec.name for spec in SPECS if spec.bus} == {
        spec.name for spec in SPECS if spec.interconnect == "NVLink bridge"
    }
