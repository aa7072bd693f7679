"""A file of measured runs is scored row by row; what cannot be predicted keeps its place, with the reason."""

import csv
import os
from pathlib import Path

import pytest

from llamalab.comparison.measured_runs import COLUMNS, METRICS, formats_of, measured_point, read_rows, stack_of
from llamalab.comparison.scoring import ROUNDING, grouped, predict_row, summary
from llamalab.errors import FormatError, InputError, MissingError, UnknownNameError
from llamalab.units import dtype_bits

POINTS = Path(__file__).resolve().parents[2] / "experiments" / "points.csv"
ROW = dict(zip(COLUMNS, ("h100-80gb-sxm", "1", "vLLM", "7b", "fp16", "16", "128", "128", "run_s", "1.0"), strict=True))


def changed(**cells: str) -> dict[str, str]:
    return ROW | cells


@pytest.fixture(scope="module")
def scored() -> list:  # type: ignore[type-arg]
    return [predict_row(row) for row in read_rows(str(POINTS))]


def test_no_published_point_lies_under_the_bound(scored: list) -> None:  # type: ignore[type-arg]
    known = [one for one in scored if one.predicted is not None]
    assert len(known) > 670
    assert [one.point.row for one in known if one.point.measured < (1 - ROUNDING) * one.bound] == []


def test_a_prediction_is_never_under_its_bound(scored: list) -> None:  # type: ignore[type-arg]
    assert all(one.predicted >= one.bound * (1 - 1e-9) for one in scored if one.predicted is not None)


def test_rows_without_a_prediction_keep_their_place_and_tell_why(scored: list) -> None:  # type: ignore[type-arg]
    rows = read_rows(str(POINTS))
    assert len(scored) == len(rows)
    refused = {rows[i]["device"]: one.reason for i, one in enumerate(scored) if one.predicted is None}
    assert set(refused) == {"xeon-3rdgen-2s-vm"}  # its cores and clock are not stated
    assert "peak" in str(refused["xeon-3rdgen-2s-vm"])


def test_groups_add_up(scored: list) -> None:  # type: ignore[type-arg]
    groups = grouped(scored)
    every = summary(scored)
    assert sum(len(members) for members in groups.values()) == every["n"]
    weighed = sum(summary(members)["mape"] * len(members) for members in groups.values()) / every["n"]
    assert weighed == pytest.approx(every["mape"])
    assert {key[4] for key in groups} == {"one", "several"}


@pytest.mark.parametrize(
    ("framework", "stack"),
    [
        ("vLLM", "vllm-2024"), ("vllm", "vllm"), ("vllm 0.12.0", "vllm-0.12"),
        ("vllm 0.14", "vllm"), ("vLLM 0.10.0 ROCm 6.4.1", "vllm"),
        ("vLLM 2023-10", "vllm-2024"), ("TensorRT-LLM", "tensorrt-llm"), ("trtllm", "tensorrt-llm-1"),
        ("trtllm 1.0.0rc3", "tensorrt-llm-1"), ("HF transformers", "transformers"), ("llama.cpp b3441", "llama.cpp"),
        ("llama.cpp 2024-05", "llama.cpp-2024"), ("llama.cpp", "llama.cpp"), ("llama.cpp b3000", "llama.cpp-2024"),
        ("llama.cpp b1691", "llama.cpp-2023"), ("ik_llama.cpp", "llama.cpp"),
        ("llama.cpp b1026", "llama.cpp-2023-08"), ("ExLlamaV2", "exllamav2"), ("gpt-fast", "gpt-fast"),
        ("AutoAWQ GEMM", "autoawq"), ("AutoAWQ GEMV", "autoawq-gemv"), ("AutoAWQ IPEX", "autoawq-ipex"),
        ("TinyChat", "tinychat"), ("MLC", "mlc"), ("ipex-llm", "ipex"), ("llamalab", "llamalab"),
    ],
)  # fmt: skip
def test_a_framework_names_its_stack(framework: str, stack: str) -> None:
    assert stack_of(framework) == stack


@pytest.mark.parametrize("framework", ["", "ollama 0.1", "my own"])
def test_another_framework_is_refused(framework: str) -> None:
    with pytest.raises(UnknownNameError):
        stack_of(framework)


def test_every_dtype_of_the_file_has_known_formats() -> None:
    for row in read_rows(str(POINTS)):
        assert all(dtype_bits(name) for name in formats_of(row["dtype"], stack_of(row["framework"])))


@pytest.mark.parametrize(
    "cells",
    [
        {"batch": "0"}, {"batch": "1.5"}, {"prompt": "-3"}, {"generate": ""}, {"n_gpus": "two"}, {"value": "0"},
        {"value": "nan"}, {"value": "fast"}, {"metric": "joules"}, {"model": "9b"}, {"device": "h300"},
        {"dtype": "int3"}, {"n_gpus": "3"}, {"framework": "?"},
    ],
)  # fmt: skip
def test_a_row_that_means_nothing_is_refused_and_scored_with_the_reason(cells: dict[str, str]) -> None:
    one = predict_row(changed(**cells))
    assert one.predicted is None
    assert one.reason
    if cells != {"n_gpus": "3"}:
        with pytest.raises(InputError):
            measured_point(changed(**cells))


def test_a_format_told_by_its_average_width() -> None:
    assert formats_of("exl2 4.65bpw", "exllamav2") == ("fp16", "4.65bpw")
    assert formats_of("q6_k", "llama.cpp") == ("fp16", "q6_k")
    sizes = [predict_row(changed(framework="ExLlamaV2", dtype=f"exl2 {bits}bpw", metric="decode_ms")).predicted
             for bits in ("2.4", "4.0", "6")]  # fmt: skip
    assert sizes == sorted(sizes)  # type: ignore[type-var]


def test_throughput_and_time_are_one_measurement() -> None:
    rate = predict_row(changed(metric="decode_tok_s", value="1600"))
    time = predict_row(changed(metric="decode_ms", value="10"))
    assert rate.point is not None
    assert rate.predicted == time.predicted
    assert rate.error == pytest.approx(time.error)
    assert rate.point.in_its_unit(rate.predicted or 0) == pytest.approx(16 / (rate.predicted or 1))


def test_others_prompts_come_between_the_tokens_of_a_server() -> None:
    row = changed(framework="vllm", metric="tpot_ms", dtype="fp8")
    alone = predict_row(row | {"metric": "decode_ms"}).predicted
    served = predict_row(row).predicted
    assert alone is not None
    assert served is not None
    assert served > alone


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_is_predicted_with_an_interval_around_it(metric: str) -> None:
    one = predict_row(changed(metric=metric))
    assert one.interval is not None
    assert one.interval[0] <= (one.predicted or 0) <= one.interval[1]


def test_a_file_must_be_there_and_have_the_columns(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        read_rows(str(tmp_path / "none.csv"))
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FormatError, match="lacks device"):
        read_rows(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError):
        read_rows(str(path))
    os.mkfifo(tmp_path / "pipe.csv")
    for endless in (str(tmp_path / "pipe.csv"), "/dev/zero"):
        with pytest.raises(FormatError, match="must be a regular file"):
            read_rows(endless)


def test_a_comma_in_a_number_is_a_reason_and_no_other_number(tmp_path: Path) -> None:
    path = tmp_path / "comma.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{','.join((ROW | {'value': '5,5'}).values())}\n{','.join(ROW.values())},,\n")
    first, second = (predict_row(row) for row in read_rows(str(path)))
    assert "'5' beyond them" in str(first.reason)
    assert second.predicted is not None  # empty cells that a spreadsheet adds are none
    path.write_text(f"{','.join(COLUMNS)},value\n{','.join(ROW.values())},7\n")
    with pytest.raises(FormatError, match="it repeats value"):
        read_rows(str(path))


def test_devices_without_a_link_share_no_model() -> None:
    one = predict_row(changed(device="ryzen-7950x", framework="llama.cpp", n_gpus="2"))
    assert "must have a known interconnect" in str(one.reason)


@pytest.mark.parametrize("dtype", ["int8 weights", "fp8"])
def test_narrow_weights_are_multiplied_in_a_type_that_the_device_has(dtype: str) -> None:
    assert predict_row(changed(device="apple-m1max", framework="llama.cpp", dtype=dtype)).predicted is not None
    assert measured_point(changed(dtype=dtype)).work.dtype == "bf16"


def test_memory_is_never_told_to_be_less_than_the_weights() -> None:
    one = predict_row(changed(metric="peak_memory_gb", batch="1", prompt="1", generate="1"))
    assert one.interval is not None
    assert one.interval[0] >= (one.bound or 0)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "bom.csv"
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(ROW)
    assert read_rows(str(path)) == [ROW]


def test_nothing_predicted_is_no_error() -> None:
    assert summary([predict_row(changed(device="h300"))]) == {
        "n": 0, "mape": None, "bias": None, "p90": None, "coverage": None, "under_bound": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "threads"),
    [
        ({"threads": "12"}, 12),
        ({"threads": "12", "source": "a page | 8 threads"}, 12),
        ({"threads": "", "source": "a page | NEON, 6 threads"}, 6),
        ({"source": "threads: not stated"}, None),
        ({"source": "threadripper-5975wx, 32threads"}, None),
    ],
)
def test_threads_are_read_from_their_column_or_from_what_the_source_tells(cells, threads) -> None:  # type: ignore[no-untyped-def]
    cpu = dict.fromkeys(COLUMNS, "1") | {
        "device": "ryzen-7950x", "framework": "llama.cpp", "model": "7b", "dtype": "q8_0", "metric": "decode_ms",
    }  # fmt: skip
    assert measured_point(cpu | cells).work.threads == threads


def test_a_row_with_fewer_threads_is_predicted_slower() -> None:
    cpu = dict.fromkeys(COLUMNS, "1") | {
        "device": "ryzen-7950x", "framework": "llama.cpp", "model": "7b", "dtype": "q8_0", "metric": "prefill_ms",
        "prompt": "512",
    }  # fmt: skip
    few, all_ = (predict_row(cpu | {"threads": threads}).predicted for threads in ("4", "16"))
    assert few > 3 * all_  # type: ignore[operator]
    refused = predict_row(cpu | {"threads": "none"})
    assert refused.predicted is None
    assert "threads must be a whole number" in (refused.reason or "")


@pytest.mark.parametrize("value", ["0", "-1", "1e-320", "1e300", "nan", "inf", ""])
def test_a_value_that_no_run_can_have_is_a_reason_and_no_infinite_error(value: str) -> None:
    row = dict.fromkeys(COLUMNS, "1") | {
        "device": "h200", "framework": "vllm", "model": "7b", "dtype": "fp8", "metric": "decode_ms", "value": value,
    }  # fmt: skip
    assert "value must be a positive number" in (predict_row(row).reason or "")
