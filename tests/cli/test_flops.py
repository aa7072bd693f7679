"""`llamalab flops`: phases, totals, and the steps of attention."""

import csv
import io

import pytest

from tests.analytic.test_ops import DECODE_4096, MODELS, PREFILL_2048
from tests.cli.calls import Capture, loaded, printed, refused


@pytest.mark.parametrize("attention", ["naive", "flash"])
@pytest.mark.parametrize("model", MODELS)
def test_prefill(capsys: Capture, model: str, attention: str) -> None:
    argv = ("flops", "--phase", "prefill", "--context", "2048", "--model", model, "--attention", attention)
    dense, causal, last = PREFILL_2048[model]
    every = loaded(capsys, *argv, "--logits", "all")
    assert (every["flops_full"], every["flops_causal"]) == (dense, causal)
    assert loaded(capsys, *argv)["flops_causal"] == last


@pytest.mark.parametrize("context", [("--context", "4096"), ("--seq", "4096"), ("--prompt", "1", "--context", "4096")])
@pytest.mark.parametrize("model", MODELS)
def test_decode_is_one_token_at_the_end_of_a_context(capsys: Capture, model: str, context: tuple[str, ...]) -> None:
    data = loaded(capsys, "flops", "--phase", "decode", "--model", model, *context)
    assert (data["new_tokens"], data["context_tokens"]) == (1, 4096)
    assert (data["flops_full"], data["weight_bytes"]) == DECODE_4096[model][:2]


def test_totals_are_the_sum_of_count_times_figure(capsys: Capture) -> None:
    data = loaded(capsys, "flops", "--phase", "prefill", "--prompt", "100", "--context", "300", "--batch", "3")
    assert set(data["ops"][0]) >= {
        "name", "count", "flops_full", "flops_causal", "weight_bytes", "read_bytes", "written_bytes", "intensity",
    }  # fmt: skip
    for figure in ("flops_full", "flops_causal", "weight_bytes", "read_bytes", "written_bytes"):
        assert data[figure] == sum(op["count"] * op[figure] for op in data["ops"])
    assert data["bytes"] == data["weight_bytes"] + data["read_bytes"] + data["written_bytes"]
    assert data["intensity"] == data["flops_causal"] / data["bytes"]


def test_a_chunk_behind_a_cache_is_the_difference_of_two_prefills(capsys: Capture) -> None:
    def flops(*argv: str) -> int:
        return int(loaded(capsys, "flops", "--logits", "all", *argv)["flops_causal"])

    assert flops("--context", "300") == flops("--context", "200") + flops("--prompt", "100", "--context", "300")


def test_the_steps_of_one_head_of_7b_in_fp16(capsys: Capture) -> None:
    data = loaded(capsys, "flops", "--context", "4096", "--dtype", "fp16")
    steps = {(row["algorithm"], row["step"]): row for row in data["attention_steps"]}
    assert list(steps) == [
        ("naive", "QK^T"), ("naive", "softmax"), ("naive", "PV"), ("naive", "total"), ("flash", "total"),
    ]  # fmt: skip
    assert steps["naive", "QK^T"] | {"intensity": None} == {
        "algorithm": "naive",
        "step": "QK^T",
        "read_bytes": 2 * 2 * 4096 * 128,
        "operations": 2 * 128 * 4096**2,
        "written_bytes": 2 * 4096**2,
        "intensity": None,
    }
    assert steps["naive", "softmax"]["read_bytes"] == steps["naive", "softmax"]["written_bytes"] == 2 * 4096**2
    assert round(steps["naive", "total"]["intensity"]) == 62
    assert steps["flash", "total"]["written_bytes"] == 2 * 4096 * 128


def test_the_table_shows_the_intensity_of_naive_attention(capsys: Capture) -> None:
    text = printed(capsys, "flops", "--context", "4096", "--dtype", "fp16")
    naive = next(line for line in text.splitlines() if line.startswith("naive      total"))
    assert naive.endswith("  62.42")
    assert text.startswith("prefill of 7b in fp16: 4,096 new of 4,096 tokens in context, batch 1, flash attention")


def test_csv_adds_up_to_the_total(capsys: Capture) -> None:
    text = printed(capsys, "flops", "--phase", "decode", "--context", "4096", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(int(row["count"]) * int(row["flops_causal"]) for row in rows) == DECODE_4096["7b"][0]


def test_storage_of_parts(capsys: Capture) -> None:
    argv = ("flops", "--phase", "decode", "--context", "4096")
    plain, small = loaded(capsys, *argv), loaded(capsys, *argv, "--weight-dtype", "int8", "--kv-dtype", "int8")
    assert small["flops_causal"] == plain["flops_causal"]
    matrices = 6_607_077_376
    assert plain["weight_bytes"] - small["weight_bytes"] == matrices
    assert plain["read_bytes"] - small["read_bytes"] == 2**30  # half of 4096 tokens' cache


def test_a_context_shorter_than_its_new_tokens_is_refused(capsys: Capture) -> None:
    assert refused(capsys, "flops", "--prompt", "8", "--context", "4").startswith(
        "context must count the new tokens too"
    )
