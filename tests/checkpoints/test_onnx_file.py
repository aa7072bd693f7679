"""The exported graph in onnxruntime, which nobody here wrote, against our logits."""

from pathlib import Path

import pytest
import torch

from llamalab.checkpoints import onnx_file
from llamalab.checkpoints.onnx_file import TOLERANCE, largest_difference, write_onnx
from llamalab.errors import FormatError
from llamalab.model import Transformer
from tests.checkpoints.samples import ARCH, random_model

pytestmark = [pytest.mark.slow, pytest.mark.reference]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Transformer, float]:
    path, model = tmp_path_factory.mktemp("onnx") / "model.onnx", random_model(ARCH)
    return path, model, write_onnx(path, model)


def test_any_batch_and_length_give_our_logits(graph: tuple[Path, Transformer, float]) -> None:
    import onnxruntime

    path, model, difference = graph
    assert difference < 1e-4
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch, tokens in ((1, 1), (3, 2), (2, 11)):
        tokens_BT = torch.randint(38, (batch, tokens), generator=torch.Generator().manual_seed(tokens))
        theirs = torch.from_numpy(session.run(None, {"tokens": tokens_BT.numpy()})[0])
        torch.testing.assert_close(theirs, model(tokens_BT).detach(), rtol=1e-4, atol=2e-5)


def test_another_models_graph_is_told(graph: tuple[Path, Transformer, float]) -> None:
    assert largest_difference(graph[0], random_model(ARCH, seed=12)) > 100 * TOLERANCE


def test_a_graph_that_is_wrong_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Saved:
        def save(self, path: Path) -> None:
            path.write_bytes(b"")

    monkeypatch.setattr(onnx_file, "_exported", lambda _: Saved())
    monkeypatch.setattr(onnx_file, "largest_difference", lambda *_: float("nan"))
    with pytest.raises(FormatError, match="differ by nan"):
        write_onnx(tmp_path / "model.onnx", random_model(ARCH))
    assert not list(tmp_path.iterdir())
