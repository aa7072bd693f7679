"""`llamalab models` shows every preset."""

from llamalab.presets import PRESETS
from tests.cli.calls import Capture, loaded, printed
from tests.presets.test_presets import KNOWN


def test_every_preset_is_shown_with_its_size(capsys: Capture) -> None:
    rows = {row["model"]: row for row in loaded(capsys, "models")["models"]}
    assert rows.keys() == PRESETS.keys()
    assert {name: (row["parameters"], row["kv_bytes_per_token"]) for name, row in rows.items()} == KNOWN
    assert all(rows[name]["source"] == preset.source for name, preset in PRESETS.items())
    text = printed(capsys, "models")
    assert all(f"\n{name} " in text and f"{size:,}" in text for name, (size, _) in KNOWN.items())


def test_sizes_follow_the_dtype(capsys: Capture) -> None:
    rows = loaded(capsys, "models", "--dtype", "int8")["models"]
    assert rows[0]["weight_bytes"] == 6_738_415_616 + 32_000 * 4096 + 65 * 4096  # embedding and norms stay in bf16


def test_several_dtypes_are_rows_of_their_own(capsys: Capture) -> None:
    rows = loaded(capsys, "models", "--dtype", "bfloat16,int8")["models"]
    assert [row["dtype"] for row in rows[:4]] == ["bf16", "int8"] * 2
    assert rows[1] == loaded(capsys, "models", "--dtype", "int8")["models"][0]
    assert "dtype" in printed(capsys, "models", "--dtype", "bf16,int8").splitlines()[2].split()


def test_csv_has_a_line_for_each(capsys: Capture) -> None:
    assert len(printed(capsys, "models", "--format", "csv").splitlines()) == len(PRESETS) + 1
