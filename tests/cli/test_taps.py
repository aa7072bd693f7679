"""`llamalab taps`: the closed list of points, with letters or sizes."""

import csv
import io

import torch

from llamalab.instrument.points import POINTS
from llamalab.instrument.taps import capture
from llamalab.model import build
from llamalab.presets import PRESETS
from tests.cli.calls import Capture, loaded, printed, refused


def test_the_list_is_closed_and_long_enough(capsys: Capture) -> None:
    rows = loaded(capsys, "taps")["points"]
    assert [row["point"] for row in rows] == [point.name for point in POINTS]
    assert sum(row["point"].startswith("layers.*.") for row in rows) >= 20
    assert {"embed", "final_norm", "logits", "layers.*.attention.k_cache"} <= {row["point"] for row in rows}


def test_sizes_are_those_of_the_model(capsys: Capture) -> None:
    """What the command says is what fires."""
    model = build("stories260k", dtype="fp32")
    with torch.no_grad(), capture(model, "*") as got:
        model(torch.zeros(2, 7, dtype=torch.long))
    options = ("--model", "stories260k", "--prompt", "7", "--batch", "2", "--dtype", "fp32")
    for row in loaded(capsys, "taps", *options)["points"]:
        tensor = got[row["point"].replace("*", "3")]
        assert row["sizes"] == " × ".join(map(str, tensor.shape)), row
        assert row["bytes"] == tensor.nbytes, row


def test_decode_of_7b_in_csv(capsys: Capture) -> None:
    text = printed(capsys, "taps", "--model", "7b", "--prompt", "1", "--context", "4k", "--format", "csv")
    rows = {row["point"]: row for row in csv.DictReader(io.StringIO(text))}
    assert rows["layers.*.attention.pattern"]["sizes"] == "1 × 32 × 1 × 4096"
    assert rows["logits"]["bytes"] == str(4 * PRESETS["7b"].arch.vocab_size)


def test_a_context_below_the_new_tokens_is_refused(capsys: Capture) -> None:
    message = refused(capsys, "taps", "--model", "7b", "--context", "100")
    assert message == "context must count the new tokens, 512; got 100"
