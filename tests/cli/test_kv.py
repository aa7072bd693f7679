"""`llamalab kv` in its four forms."""

import csv
import io

import pytest

from llamalab.cli import main
from tests.cli.calls import Capture, loaded, printed

TABLE = """\
KV cache of 7b in bf16, MHA: 32.00 GiB (34,359,738,368 bytes), exact
  = 2 (K,V) × 32 layers × 32 KV heads × 128 head dim × 4096 tokens × 16 sequences × 2 B
  per token 512.00 KiB · per sequence 2.00 GiB · 2.55 × the bf16 weights (12.55 GiB)
  with the weights 44.55 GiB, before activations: smallest device that holds both: l40s-48gb (44.99 GiB)
  verify: python3 -c "print(2*32*32*128*4096*16*2)"

attention  KV heads   KV cache           bytes   of MHA
MHA              32  32.00 GiB  34,359,738,368  100.0 %  <- this model
GQA-16           16  16.00 GiB  17,179,869,184   50.0 %
GQA-8             8   8.00 GiB   8,589,934,592   25.0 %
GQA-4             4   4.00 GiB   4,294,967,296   12.5 %
GQA-2             2   2.00 GiB   2,147,483,648    6.2 %
MQA               1   1.00 GiB   1,073,741,824    3.1 %
"""


def test_the_table_of_7b(capsys: Capture) -> None:
    assert printed(capsys, "kv", "--context", "4096", "--batch", "16") == TABLE


def test_the_formula_shown_gives_the_size_shown(capsys: Capture) -> None:
    text = printed(capsys, "kv", "--model", "70b", "--context", "1k", "--batch", "3", "--dtype", "int8")
    formula = text.partition("print(")[2].partition(')"')[0]
    product = 1
    for factor in formula.split("*"):
        product *= int(factor)
    assert f"({product:,} bytes)" in text


def test_json_has_the_keys_and_raw_integers(capsys: Capture) -> None:
    data = loaded(capsys, "kv", "--context", "4096", "--batch", "16")
    assert data == {
        "schema_version": 1,
        "model": "7b",
        "dtype": "bf16",
        "attention": "MHA",
        "n_kv_heads": 32,
        "context": 4096,
        "batch": 16,
        "tensor_parallel": 1,
        "kv_bytes": 34_359_738_368,
        "kv_bytes_per_token": 524_288,
        "kv_bytes_per_sequence": 2_147_483_648,
        "weight_bytes": 13_476_831_232,
        "basis": "exact",
        "variants": [
            {"attention": "MHA", "n_kv_heads": 32, "kv_bytes": 34_359_738_368},
            {"attention": "GQA-16", "n_kv_heads": 16, "kv_bytes": 17_179_869_184},
            {"attention": "GQA-8", "n_kv_heads": 8, "kv_bytes": 8_589_934_592},
            {"attention": "GQA-4", "n_kv_heads": 4, "kv_bytes": 4_294_967_296},
            {"attention": "GQA-2", "n_kv_heads": 2, "kv_bytes": 2_147_483_648},
            {"attention": "MQA", "n_kv_heads": 1, "kv_bytes": 1_073_741_824},
        ],
    }


@pytest.mark.parametrize(("batch", "gib"), [("1", 0.3125), ("16", 5), ("32", 10), ("64", 20)])
def test_70b_at_1024_tokens(capsys: Capture, batch: str, gib: float) -> None:
    argv = ("kv", "--model", "70b", "--context", "1024", "--batch", batch)
    assert loaded(capsys, *argv)["kv_bytes"] == gib * 2**30
    assert loaded(capsys, *argv, "--dtype", "int8")["kv_bytes"] == gib * 2**30 / 2


def test_kv_heads_take_the_place_of_the_models_own(capsys: Capture) -> None:
    data = loaded(capsys, "kv", "--context", "4096", "--batch", "16", "--kv-heads", "8")
    assert (data["attention"], data["n_kv_heads"], data["kv_bytes"]) == ("GQA-8", 8, 8 * 2**30)
    assert len(data["variants"]) == 6
    assert "GQA-8             8   8.00 GiB   8,589,934,592   25.0 %  <- this model" in printed(
        capsys, "kv", "--context", "4096", "--batch", "16", "--kv-heads", "8"
    )


def test_csv_has_every_variant_in_raw_numbers(capsys: Capture) -> None:
    rows = list(
        csv.DictReader(io.StringIO(printed(capsys, "kv", "--context", "4k", "--batch", "16", "--format", "csv")))
    )
    assert [int(row["kv_bytes"]) for row in rows] == [2**30 * heads for heads in (32, 16, 8, 4, 2, 1)]
    assert [row["own"] for row in rows] == ["True", *["False"] * 5]
    inputs = {tuple(row[key] for key in ("model", "context", "batch", "dtype")) for row in rows}
    assert inputs == {("7b", "4096", "16", "bf16")}


def test_markdown_is_a_table(capsys: Capture) -> None:
    lines = printed(capsys, "kv", "--format", "md").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 8
    assert {line.count("|") for line in table} == {7}
    assert table[1] == "| --- | ---: | ---: | ---: | ---: | --- |"


def test_a_context_beyond_training_is_noted_beside_the_data(capsys: Capture) -> None:
    assert main(["kv", "--context", "4097", "--format", "json"]) == 0
    assert capsys.readouterr().err == "note: 7b was trained for 4,096 positions; 4,097 tokens is beyond them\n"
    assert main(["kv", "--context", "4096"]) == 0
    assert capsys.readouterr().err == ""


def test_no_device_holds_everything(capsys: Capture) -> None:
    assert "more than any device of llamalab hardware holds" in printed(
        capsys, "kv", "--context", "4k", "--batch", "4k"
    )
