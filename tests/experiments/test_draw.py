"""Pictures of the docs: drawn from the records, today's, and only from answers of experiments."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from experiments import draw
from experiments.common.folders import RECORDS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw.draw([], tmp_path_factory.mktemp("pictures"))


def test_every_picture_of_the_docs_is_that_of_its_record(drawn: list[Path]) -> None:
    assert {path.name for path in drawn} == {path.name for path in draw.PICTURES.glob("*.svg")}
    stale = [path.name for path in drawn if path.read_text() != (draw.PICTURES / path.name).read_text()]
    assert stale == [], "python -m experiments.draw makes them anew"


def test_a_picture_stands_alone(drawn: list[Path]) -> None:
    for path in drawn:
        root = ElementTree.parse(path).getroot()
        text = path.read_text()
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert "#01fe" not in text  # every colour of a drawing is a variable that the file defines
        assert "href=" not in text.replace('href="#', "")


def test_what_is_no_answer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = next(path for path in RECORDS.glob("*/7b.json"))
    with pytest.raises(SystemExit, match="must be the answer of an experiment"):
        draw.main([str(machine), "--to", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
