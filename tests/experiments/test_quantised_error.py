"""The cost of 8 and 4 bits: held against torch's own loss, exact bytes, and the order that is expected."""

from pathlib import Path

import pytest
import torch

from experiments.quantised_error import conclude, rows_of
from llamalab.checkpoints import load
from llamalab.text import load_tokenizer
from llamalab.units import QUANTISED


@pytest.mark.shared
def test_errors_on_the_real_checkpoint(shared_real: Path) -> None:
    path = shared_real / "stories260K.bin"
    ids = load_tokenizer(shared_real / "tok512.bin").prompt_ids((shared_real / "stories260K.story.txt").read_text())[
        :200
    ]
    rows = {row.storage: row for row in rows_of(path, ids, "fp32")}
    logits = load(path, dtype="fp32")(torch.tensor([ids]))[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
    assert rows["fp32"].perplexity == pytest.approx(float(loss.detach().exp()), rel=1e-4)
    assert rows["fp32"].logits_largest_error == 0.0
    assert list(rows) == ["fp32", *QUANTISED]
    assert all(row.weight_bytes == row.predicted_weight_bytes for row in rows.values())
    assert rows["q8_0"].divergence_nats < rows["int8"].divergence_nats < rows["q4_0"].divergence_nats
    assert "as predicted" in conclude(list(rows.values()))
