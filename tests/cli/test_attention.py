"""The verb `attention`: its options, its rows and its refusals; times are not looked at."""

import json

import pytest

from llamalab.cli import main
from llamalab.measure.attention import unit_costs as attention_rates

SMALL = ["attention", "--heads", "6", "--head-dim", "16", "--dtype", "fp32", "--device", "cpu", "--rounds", "2"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_rates, "PROBE_PREFILL", (24,))
    monkeypatch.setattr(attention_rates, "PROBE_DECODE", (24,))
    monkeypatch.setattr(attention_rates, "_VISITS", 1)
    monkeypatch.setattr("llamalab.measure.device.cpu.Cpu.keep_freed_memory", lambda self, touch_bytes: True)


def test_rows_of_every_combination(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--context", "32-64*2", "--kv-heads", "6,2", "--batch", "1,3", "--attention", "naive,tiled,flash,cudnn"]
    assert main([*SMALL, *options, "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = answer["rows"]
    assert len(rows) == 2 * 2 * 2 * 4
    assert {(row["n_kv_heads"], row["batch"], row["context_tokens"]) for row in rows} == {
        (heads, batch, length) for heads in (6, 2) for batch in (1, 3) for length in (32, 64)
    }
    ran = [row for row in rows if row["backend"] != "cudnn"]
    assert all(row["time_s"] > 0 and row["predicted_s"] > 0 and row["peak_bytes"] > 0 for row in ran)
    assert all("needs a PyTorch kernel" in row["reason"] for row in rows if row["backend"] == "cudnn")
    assert {row["kernel"] for row in rows if row["backend"] == "flash"} == {
        "aten::_scaled_dot_product_flash_attention_for_cpu"
    }
    assert len(answer["crossovers"]) == 2 * 2 * 2  # tiled and flash, by KV heads and batch


def test_decode_has_one_new_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--phase", "decode", "--context", "40", "--format", "csv"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=False)) for line in lines]
    assert [(row["backend"], row["new_tokens"], row["context_tokens"]) for row in rows] == [
        ("naive", "1", "40"), ("sdpa", "1", "40"),
    ]  # fmt: skip


def test_table_names_the_crossover(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--context", "32"]) == 0
    text = capsys.readouterr().out
    assert "crossover: sdpa (fp32, 6 KV heads, batch 1) is faster than naive" in text
    assert "scaled_dot_product_flash_attention_for_cpu" in text


def test_several_dtypes_are_rows_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--context", "32", "--dtype", "fp32,bfloat16", "--attention", "naive,tiled"]
    assert main([*SMALL, *options, "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(row["dtype"], row["backend"]) for row in answer["rows"]] == [
        (dtype, backend) for dtype in ("fp32", "bf16") for backend in ("naive", "tiled")
    ]
    assert all(row["predicted_s"] > 0 for row in answer["rows"])
    assert [crossing["dtype"] for crossing in answer["crossovers"]] == ["fp32", "bf16"]


def test_nothing_that_could_run_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--context", "1m", "--attention", "naive"]) == 3
    assert "naive at 1048576 tokens: one call needs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kv-heads", "4"], "--kv-heads must divide --heads 6; got 4"),
        (["--attention", "naive,flesh"], "did you mean flash"),
        (["--phase", "train"], "--phase must be one of prefill, decode"),
        (["--context", "64-32*2"], "a range must rise"),
        (["--device", "tpu"], "--device must be auto, cpu, cuda"),
    ],
)
def test_a_mistake_is_one_sentence(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, *options]) == 2
    assert said in capsys.readouterr().err
