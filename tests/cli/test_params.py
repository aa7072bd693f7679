"""`llamalab params` for presets and for files."""

import csv
import io
import json
from pathlib import Path

import pytest

from llamalab.presets import PRESETS
from tests.cli.calls import Capture, loaded, printed
from tests.presets.test_presets import KNOWN


@pytest.mark.parametrize("model", PRESETS)
def test_every_preset(capsys: Capture, model: str) -> None:
    data = loaded(capsys, "params", "--model", model)
    assert data["parameters"] == KNOWN[model][0] == sum(data["components"].values())
    assert data["weight_bytes"] == 2 * data["parameters"]
    assert sum(tensor["parameters"] for tensor in data["tensors"]) == data["parameters"]


def test_a_file_stands_in_for_a_preset(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text(
        json.dumps({"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-5, "vocab_size": -1})
    )
    data = loaded(capsys, "params", "--model", str(path))
    assert (data["model"], data["parameters"]) == (str(path), 6_738_415_616)


def test_the_table_of_7b(capsys: Capture) -> None:
    text = printed(capsys, "params")
    assert text.startswith("7b has 6,738,415,616 parameters, exact: 12.55 GiB (13,476,831,232 bytes) in bf16\n")
    assert "attention     2,147,483,648   31.9 %    4.00 GiB\n" in text
    assert "total         6,738,415,616  100.0 %   12.55 GiB\n" in text
    assert "layers.*.feed_forward.w2.weight  4096 × 11008     32  1,442,840,576\n" in text


def test_csv_has_the_components_and_no_total(capsys: Capture) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "params", "--format", "csv"))))
    assert [row["component"] for row in rows] == ["embedding", "attention", "feed_forward", "norms", "output"]
    assert sum(int(row["parameters"]) for row in rows) == 6_738_415_616


def test_fewer_kv_heads_have_fewer_parameters(capsys: Capture) -> None:
    data = loaded(capsys, "params", "--kv-heads", "8")
    assert data["parameters"] == 6_738_415_616 - 32 * 2 * 4096 * (4096 - 1024)
