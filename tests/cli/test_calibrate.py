"""What `llamalab calibrate` prints, keeps and refuses, and that `predict` finds it; measuring is replaced."""

import json
from pathlib import Path

import pytest

from llamalab.analytic.calibration_files import default_path
from llamalab.analytic.grades import Grade
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates
from llamalab.cli import main
from llamalab.measure.calibration import run as module
from llamalab.measure.calibration.blocks import BlockPass
from llamalab.measure.calibration.fit import Fit
from llamalab.measure.calibration.result import Calibration, Outcome

RATES = Rates(8e11, 3e10, 3e-5, 0.9, 0.8, 1.5)
MADE = Calibration(
    "cpu", "A CPU", 24 * 2**30, "bf16", "2026-01-02",
    {name: Fit(RATES, 11, 0.03, (0, 2**40), (1, 2**36)) for name in sorted(CLASSES)},
    (),
    (Outcome("7b", BlockPass(1, 128), 2.2, 2.1), Outcome("7b", BlockPass(1, 1, 512), 0.53, 0.55)),
    24, 44.0, (0.2, 1.9), Grade("good"), 0.04,
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(
        module, "calibrate", lambda **options: MADE._replace(dtype=options["dtype"], quick=options["quick"])
    )
    return tmp_path


def test_the_constants_are_printed_with_their_errors_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "A CPU (cpu), bf16: 24 rounds in 44 s; load 0.2 before, 1.9 after" in out
    assert "prefill 4.8 %, decode 3.6 % mean error" in out
    assert "800.00 GFLOP/s" in out
    path = default_path("cpu", "bf16")
    assert str(path) in err
    assert json.loads(path.read_text())["classes"]["gemm"] == RATES._asdict()
    assert [one.name for one in path.parent.iterdir()] == ["cpu-bf16.json"]


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--format", "json", "--dtype", "fp32"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["dtype"], data["took_s"], len(data["classes"])) == ("fp32", 44.0, len(CLASSES))
    assert data["checked"][1]["error"] == pytest.approx(0.53 / 0.55 - 1)


def test_predict_and_roofline_rest_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--hardware", "cpu"]) == 3
    assert "run llamalab calibrate first" in capsys.readouterr().err
    assert main(["calibrate"]) == 0
    capsys.readouterr()
    answers = []
    for options in ("--hardware cpu", "--hardware this", "--hardware this --basis calibrated --unfused"):
        assert main(["predict", *options.split(), "--prompt", "300", "--generate", "9", "--format", "json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["basis"] == "calibrated on cpu 2026-01-02"
    assert not answers[0]["inputs"]["fused"]
    assert answers[0]["bound"]["total_s"] <= answers[0]["interval"]["low_s"] < answers[0]["total_s"]
    assert main(["roofline", "--hardware", "this", "--prompt", "300"]) == 0
    assert "7b on cpu: 800.00 GFLOP/s, 30.00 GB/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("predict --hardware this --dtype fp32", 3, "run llamalab calibrate first"),
        ("predict --hardware cpu --basis shipped", 3, "no constants are shipped"),
        ("predict --hardware cpu --tensor-parallel 2", 3, "interconnect"),
        ("predict --hardware cpu --model 70b", 3, "too much"),
        ("predict --hardware h200 --basis calibrated", 3, "run llamalab calibrate first"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys: pytest.CaptureFixture[str], options: str, code: int, said: str) -> None:
    assert main(["calibrate"]) == 0
    capsys.readouterr()
    assert main(options.split()) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_calibrated_gpu_is_predicted_but_not_several(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = home / "gpu.json"
    made.write_text(MADE._replace(device="h200-141gb-sxm").json)
    base = ["predict", "--hardware", "h200", "--basis", "calibrated", "--constants", str(made)]
    assert main(base) == 0
    assert main([*base, "--tensor-parallel", "2"]) == 3
    assert "collectives" in capsys.readouterr().err


def test_a_foreign_file_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "calibrate", lambda **options: pytest.fail("work began"))
    path = tmp_path / "mine.json"
    path.write_text("mine")
    assert main(["calibrate", "--out", str(path)]) == 2
    assert path.read_text() == "mine"


POOR = MADE._replace(grade=Grade("poor", ("3 rounds", "a checked pass +114 % off")), left_out=("13b: no time",))


def test_a_poor_one_is_kept_beside_nothing_better_and_every_answer_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "calibrate", lambda **_: POOR)
    assert main(["calibrate"]) == 0
    out = capsys.readouterr().out
    assert "grade poor: 3 rounds; a checked pass +114 % off" in out
    assert "left out: 13b: no time" in out
    assert main(["predict", "--hardware", "this", "--prompt", "300", "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["basis"] == "calibrated on cpu 2026-01-02 (poor: 3 rounds; a checked pass +114 % off)"
    assert answer["interval"]["high_s"] >= 1.5 * answer["total_s"] > 0


def test_a_worse_one_replaces_a_better_one_only_where_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate"]) == 0
    before = default_path("cpu", "bf16").read_text()
    capsys.readouterr()
    monkeypatch.setattr(module, "calibrate", lambda **_: POOR)
    assert main(["calibrate"]) == 0
    assert "graded good, are kept: the new ones are graded poor" in capsys.readouterr().err
    assert default_path("cpu", "bf16").read_text() == before
    assert main(["calibrate", "--replace"]) == 0
    assert json.loads(default_path("cpu", "bf16").read_text())["grade"] == POOR.grade.json


@pytest.mark.parametrize("lacking", [*([one] for one in sorted(CLASSES)), sorted(CLASSES)])
def test_a_class_that_lacks_costs_the_prediction_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lacking: list[str]
) -> None:
    left = {name: fit for name, fit in MADE.fits.items() if name not in lacking}
    monkeypatch.setattr(module, "calibrate", lambda **_: MADE._replace(fits=left, outcomes=()))
    assert main(["calibrate"]) == 0
    assert "prefill not checked" in capsys.readouterr().out
    for verb in ("predict", "roofline"):
        assert main([verb, "--hardware", "this", "--prompt", "300"]) == 3
        assert "calibrat" in capsys.readouterr().err
    if left:
        assert main(["predict", "--hardware", "this,h200", "--prompt", "300", "--format", "csv"]) == 0
        here, there = capsys.readouterr().out.splitlines()[1:]
        assert "must have constants of the class" in here
        assert "must have constants" not in there
    assert main(["hardware"]) == 0


def test_a_quick_one_takes_no_place_of_a_longer_one_of_its_grade(capsys: pytest.CaptureFixture[str]) -> None:
    path = default_path("cpu", "bf16")
    assert main(["calibrate", "--quick"]) == 0
    assert json.loads(path.read_text())["quick"] is True
    assert main(["calibrate"]) == 0
    assert json.loads(path.read_text())["quick"] is False
    capsys.readouterr()
    assert main(["calibrate", "--quick"]) == 0
    assert "are kept" in capsys.readouterr().err
    assert json.loads(path.read_text())["quick"] is False
