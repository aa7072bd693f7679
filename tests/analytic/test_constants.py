import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.calibration_files import constants_to_json, default_path, measured_spec, read_constants
from llamalab.analytic.constants import SPREAD, TRANSFERRED_SPREAD, choose
from llamalab.analytic.data_sheet import data_sheet, product_dtype
from llamalab.analytic.grades import Grade
from llamalab.analytic.op import Op
from llamalab.analytic.rate_constants import Host
from llamalab.analytic.roofline import SHARP, Rates, predict_op
from llamalab.analytic.shipped_constants import SHIPPED, SHIPPED_HOST, SOURCES, nearest_fitted
from llamalab.errors import FormatError, InputError, MissingError, UnavailableError
from llamalab.hardware import HARDWARE, PEAK_DTYPES, find_hardware

RATES = {
    "gemm": Rates(1e12, 1e11, 1e-6, 0.5, 0.75, 2.0),
    **dict.fromkeys(("gather", "elementwise"), Rates(None, 1e11)),
    **dict.fromkeys(("attention_prefill", "attention_decode"), Rates(1e11, 1e11)),
}


@pytest.mark.parametrize("device", SHIPPED)
def test_every_shipped_constant_is_a_loss_never_a_gain(device: str) -> None:
    assert device in SOURCES
    for name, fit in SHIPPED[device].items():
        assert 0 < fit.compute_efficiency <= 1, name
        assert 0 < fit.memory_efficiency <= 1, name
        assert fit.q >= 1, name
        assert fit.t0_s >= 1e-6, name


@given(st.sampled_from(sorted(HARDWARE)), st.integers(1, 10**15), st.integers(1, 10**12))
def test_nothing_is_predicted_below_its_bound(device: str, flops: int, moved: int) -> None:
    spec = find_hardware(device)
    dtype = "bf16" if spec.peak_flops_per_s["bf16"] else "fp16"
    shipped = choose(spec, "shipped", dtype).rates
    bounds = data_sheet(spec, dtype, dtype)
    for name, rates in shipped.items():
        op = Op(name, name.partition("_")[0], 1, flops, flops, 0, 0, moved, 0, link_bytes=moved)
        prediction = predict_op(op, rates)
        assert prediction.time_s >= prediction.bound_s
        assert prediction.bound_s == predict_op(op, bounds[name]).bound_s


def test_the_bound_loses_nothing() -> None:
    constants = choose(find_hardware("h200"), "bound", "bf16")
    assert constants.interval(2.0, 2.0) == (2.0, None)
    assert {(r.t0_s, r.compute_efficiency, r.memory_efficiency, r.q) for r in constants.rates.values()} == {
        (0.0, 1.0, 1.0, SHARP)
    }


def test_an_interval_never_reaches_below_the_bound() -> None:
    constants = choose(find_hardware("h200"), "shipped", "bf16")
    assert constants.interval(1.0, 0.95) == (0.95, 1 + SPREAD)


@pytest.mark.parametrize(
    ("device", "basis", "spread"),
    [
        ("h100-80gb-sxm", "shipped", SPREAD),
        ("a100-40gb-sxm", "shipped (transferred from a100-80gb-sxm)", SPREAD),
        ("l40s-48gb", "shipped (transferred from a100-80gb-sxm)", TRANSFERRED_SPREAD),
        ("b200-180gb", "shipped (transferred from h200-141gb-sxm)", TRANSFERRED_SPREAD),
    ],
)
def test_transferred_constants_say_so(device: str, basis: str, spread: float) -> None:
    constants = choose(find_hardware(device), "shipped", "bf16")
    assert (constants.basis, constants.spread) == (basis, spread)


def test_fitted_devices_keep_their_own() -> None:
    assert [nearest_fitted(find_hardware(device)) for device in SHIPPED] == list(SHIPPED)


@pytest.mark.parametrize(
    ("device", "dtype", "weight_dtype", "runs_in"),
    [
        ("h100-80gb-sxm", "bf16", "int4", "bf16"),
        ("h100-80gb-sxm", "bf16", "int8", "bf16"),
        ("h100-80gb-sxm", "int8", "int8", "int8"),
        ("h100-80gb-sxm", "fp16", "fp8", "fp8"),
        ("a100-80gb-sxm", "fp16", "fp8", "fp16"),
    ],
)
def test_products_run_in_the_weights_dtype_where_the_device_has_it(
    device: str, dtype: str, weight_dtype: str, runs_in: str
) -> None:
    assert product_dtype(find_hardware(device), dtype, weight_dtype) == runs_in


def test_fp8_products_reach_less_of_their_peak() -> None:
    spec = find_hardware("h100-80gb-sxm")
    wide, narrow = (choose(spec, "shipped", "bf16", weight).rates["gemm"] for weight in ("bf16", "fp8"))
    assert narrow.peak_flops_per_s == pytest.approx(spec.boost * spec.peak_flops_per_s["fp8"])  # type: ignore[operator]
    assert narrow.compute_efficiency < wide.compute_efficiency


def test_a_dtype_that_the_device_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(UnavailableError, match="fp16"):
        choose(find_hardware("t4"), "shipped", "bf16")


def test_an_unknown_tier_is_refused() -> None:
    with pytest.raises(InputError, match="bound, shipped, calibrated"):
        choose(find_hardware("h200"), "guess", "bf16")


def test_a_device_without_a_known_link_has_no_rate_for_collectives() -> None:
    assert not any(name.startswith("collective") for name in data_sheet(find_hardware("mi250x"), "bf16", "bf16"))


def test_calibrated_constants_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "constants.json"
    validation = {"prefill_error": 0.04, "decode_error": 0.06, "points": 9}
    path.write_text(constants_to_json("box", "bf16", "2026-01-02", RATES, validation))
    constants = choose(find_hardware("h200"), "calibrated", "bf16", file=path)
    assert (constants.rates, constants.basis, constants.spread) == (RATES, "calibrated on box 2026-01-02", 0.12)
    with pytest.raises(InputError, match="calibrate with fp16"):
        read_constants(path, "fp16")


@pytest.mark.parametrize(("scatter", "spread"), [(0.05, 0.2), (0.37, 0.37)])
def test_an_interval_is_as_wide_as_rounds_were_apart(tmp_path: Path, scatter: float, spread: float) -> None:
    path, errors = tmp_path / "constants.json", {"prefill_error": 0.1, "decode_error": 0.02}
    grade = Grade("fair", ("passes 37 % above their best round",)) if scatter > 0.3 else Grade("good")
    more = {"spread_between_rounds": scatter, "grade": grade.json}
    path.write_text(constants_to_json("box", "bf16", "2026-01-02", RATES, errors, **more))
    constants = read_constants(path, "bf16")
    assert constants.spread == pytest.approx(spread)
    assert ("above their best round" in constants.basis) == (scatter > 0.3)


def test_without_a_calibration_the_command_that_makes_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path("h200-141gb-sxm", "bf16") == tmp_path / "llamalab" / "h200-141gb-sxm-bf16.json"
    with pytest.raises(MissingError, match="llamalab calibrate"):
        choose(find_hardware("h200"), "calibrated", "bf16")


def keep(device: str, **more: object) -> Path:
    path = default_path(device, "bf16")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        constants_to_json(device, "bf16", "2026-01-02", RATES, {"prefill_error": 0.1, "decode_error": 0.1}, **more)
    )
    return path


def test_this_machine_is_a_row_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(MissingError, match="llamalab calibrate"):
        measured_spec("bf16")
    path = keep("cpu", title="A CPU", memory_bytes=2**34)
    spec = measured_spec("bf16")
    assert (spec.name, spec.title, spec.memory_bytes, spec.measured) == ("cpu", "A CPU", 2**34, True)
    assert (spec.peak_flops_per_s, spec.bandwidth_bytes_per_s) == (dict.fromkeys(PEAK_DTYPES) | {"bf16": 1e12}, 1e11)
    assert spec.source == "measured by llamalab calibrate on 2026-01-02"
    assert choose(spec, "calibrated", "bf16").rates == RATES
    bound = choose(spec, "bound", "bf16")
    assert bound.rates == {name: rates.bound() for name, rates in RATES.items()}
    assert bound.spread is None
    with pytest.raises(UnavailableError, match="no constants are shipped"):
        choose(spec, "shipped", "bf16")
    later = keep("h200-141gb-sxm", title="NVIDIA H200", memory_bytes=150_754_820_096)
    os.utime(later, (path.stat().st_mtime + 9,) * 2)
    assert measured_spec("bf16") == find_hardware("h200")
    assert measured_spec("bf16", device="cpu") == spec


@pytest.mark.parametrize("more", [{}, {"title": 3, "memory_bytes": 1}, {"title": "x", "memory_bytes": "1"}])
def test_a_machine_without_name_or_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    keep("cpu", **more)
    with pytest.raises(FormatError, match="title"):
        measured_spec("bf16")


def test_only_shipped_constants_have_a_host() -> None:
    spec = find_hardware("h200")
    assert choose(spec, "shipped", "bf16").host == choose(find_hardware("l4"), "shipped", "bf16").host == SHIPPED_HOST
    assert choose(spec, "bound", "bf16").host == Host(0.0, 0.0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data["validation"].update(decode_error="0.1"),
        lambda data: data.pop("classes"),
        lambda data: data.update(schema_version=2),
        lambda data: data.update(classes=[]),
        lambda data: data["classes"]["gemm"].update(compute_efficiency=1.5),
        lambda data: data["classes"]["gemm"].update(q=0.5),
        lambda data: data["classes"]["gemm"].update(surplus=1),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: object) -> None:
    data = json.loads(constants_to_json("box", "bf16", "2026", RATES, {"prefill_error": 0.1, "decode_error": 0.1}))
    damage(data)  # type: ignore[operator]
    path = tmp_path / "constants.json"
    path.write_text(json.dumps(data))
    with pytest.raises(FormatError):
        read_constants(path, "bf16")


@pytest.mark.parametrize(
    ("device", "dtype", "weight", "peak"),
    [
        ("h100-80gb-sxm", "bf16", "bf16", 989.4e12 * 1980 / 1830),
        ("a100-80gb-sxm", "fp16", "fp16", 312e12),
        ("rtx4090-24gb", "bf16", "bf16", 165.2e12 * 3105 / 2520),
        ("rtx4090-24gb", "fp16", "fp16", 330.3e12 * 3105 / 2520),  # accumulated in fp16
        ("rtx4090-24gb", "fp16", "int4", 660.6e12 * 3105 / 2520),  # multiplied as int8
    ],
)
def test_the_bound_is_at_the_highest_clock_in_the_fastest_type(
    device: str, dtype: str, weight: str, peak: float
) -> None:
    spec = find_hardware(device)
    assert choose(spec, "bound", dtype, weight).rates["gemm"].peak_flops_per_s == pytest.approx(peak, rel=1e-3)


@pytest.mark.parametrize("device", ["h100-80gb-sxm", "h200-141gb-sxm", "a100-80gb-sxm"])
def test_efficiencies_stay_told_of_the_data_sheet(device: str) -> None:
    spec = find_hardware(device)
    rates = choose(spec, "shipped", "bf16").rates["gemm"]
    sheet = spec.peak_flops_per_s["bf16"]
    assert rates.peak_flops_per_s is not None
    assert sheet is not None
    reached = rates.peak_flops_per_s * rates.compute_efficiency
    assert reached == pytest.approx(sheet * SHIPPED[device]["gemm"].compute_efficiency)
