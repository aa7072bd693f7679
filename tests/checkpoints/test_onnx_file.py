"""The exported graph in onnxruntime, which nobody here wrote, against our logits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.checkpoints import onnx_file
from llamalab.checkpoints.onnx_file import LOGIT_TOLERANCE, largest_difference, write_onnx
from llamalab.errors import FormatError, InputError
from llamalab.model import Transformer
from tests.checkpoints.samples import ARCH, random_model

pytestmark = [pytest.mark.slow, pytest.mark.reference]


@pytest.fixture(scope="module")
def program() -> tuple[Any, Transformer]:
    """An export takes seconds: one for all tests."""
    model = random_model(ARCH)
    with onnx_file._quiet():
        return onnx_file._exported(model), model


@pytest.fixture
def graph(
    program: tuple[Any, Transformer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Transformer, float]:
    exported, model = program
    monkeypatch.setattr(onnx_file, "_exported", lambda _: exported)
    return tmp_path / "model.onnx", model, write_onnx(tmp_path / "model.onnx", model)


def test_nothing_of_this_machine_is_in_it(graph: tuple[Path, Transformer, float]) -> None:
    data = graph[0].read_bytes()
    assert b"transformer.py" not in data
    assert str(Path(__file__).parents[2]).encode() not in data


def test_weights_in_a_second_file(
    program: tuple[Any, Transformer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, model = program

    class Large:
        def save(self, path: Path) -> None:
            exported.save(path, external_data=True)

    monkeypatch.setattr(onnx_file, "_exported", lambda _: Large())
    path = tmp_path / "model.onnx"
    write_onnx(path, model)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert largest_difference(path, model) < 1e-4
    path.unlink()
    with pytest.raises(InputError, match=r"model\.onnx\.data exists"):
        write_onnx(path, model)


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
    assert largest_difference(graph[0], random_model(ARCH, seed=12)) > 100 * LOGIT_TOLERANCE


def test_a_graph_that_is_wrong_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Saved:
        def save(self, path: Path) -> None:
            path.write_bytes(b"")

    monkeypatch.setattr(onnx_file, "_exported", lambda _: Saved())
    monkeypatch.setattr(onnx_file, "largest_difference", lambda *_: float("nan"))
    with pytest.raises(FormatError, match="differ by nan"):
        write_onnx(tmp_path / "model.onnx", random_model(ARCH))
    assert not list(tmp_path.iterdir())


class Scaled:
    """A session that gives a model's logits times one number plus another."""

    def __init__(self, model: Transformer, times: float, plus: float = 0.0) -> None:
        self.model, self.times, self.plus = model, times, plus

    def run(self, _: object, feeds: dict[str, Any]) -> list[Any]:
        with torch.no_grad():
            return [(self.model(torch.from_numpy(feeds["tokens"])) * self.times + self.plus).numpy()]


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_difference_is_relative_to_the_logits(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(ARCH)
    with torch.no_grad():
        model.output.weight.mul_(size)
    for times, least, most in ((1.0, 0.0, 0.0), (1 + 1e-5, 0.9e-5, 1.1e-5), (1.5, 0.49, 0.51)):
        monkeypatch.setattr(onnx_file, "_session", lambda _, times=times: Scaled(model, times))
        assert least <= largest_difference(Path("x.onnx"), model) <= most
    monkeypatch.setattr(onnx_file, "_session", lambda _: Scaled(model, 1.0, float("nan")))
    assert not largest_difference(Path("x.onnx"), model) <= LOGIT_TOLERANCE
