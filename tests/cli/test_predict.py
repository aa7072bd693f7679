import csv
import io
import json
from pathlib import Path

import pytest

from llamalab.cli import main
from llamalab.cli.sweep import SWEEP_KEYS
from tests.cli.calls import loaded, refused

RUN = "--model 7b --hardware a100-40gb-sxm --prompt 1024 --generate 1024 --batch 16 --dtype fp16"
OWN = {"name": "mine", "peak_flops_per_s": {"bf16": 1e14}, "bandwidth_bytes_per_s": 1e12, "memory_bytes": 64 * 10**9}


def predict(capsys: pytest.CaptureFixture[str], options: str) -> tuple[int, str, str]:
    code = main(["predict", *options.split()])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_answer_has_what_was_asked_and_what_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = predict(capsys, f"{RUN} --format json")
    data = json.loads(out)
    assert code == 0
    assert data["total_s"] == pytest.approx(data["prefill_s"] + 1023 * data["decode_s_per_token"])
    assert data["tokens_per_s"] == pytest.approx(16 * 1024 / data["total_s"])
    assert data["bound"]["total_s"] <= data["interval"]["low_s"] < data["total_s"] < data["interval"]["high_s"]
    assert data["basis"] == "shipped (transferred from a100-80gb-sxm)"
    assert {row["phase"] for row in data["ops"]} == {"prefill", "decode"}
    prefill = sum(row["total_s"] for row in data["ops"] if row["phase"] == "prefill")
    assert prefill + data["host"]["request_s"] + 16 * data["host"]["sequence_s"] == pytest.approx(data["prefill_s"])


def test_logits_of_every_position_cost_a_larger_head(capsys: pytest.CaptureFixture[str]) -> None:
    heads = []
    for which in ("last", "all"):
        data = json.loads(predict(capsys, f"--prompt 700 --batch 3 --generate 1 --logits {which} --format json")[1])
        heads.append(next(row["flops"] for row in data["ops"] if row["op"] == "output"))
        assert data["inputs"]["logits"] == which
    assert heads[1] == 700 * heads[0]


def test_a_bound_has_no_upper_end(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = predict(capsys, "--basis bound --format json")
    data = json.loads(out)
    assert data["interval"] == {"low_s": data["total_s"], "high_s": None, "of": "total_s"}


@pytest.mark.parametrize("form", ["table", "md", "csv"])
def test_every_form_shows_the_operations(capsys: pytest.CaptureFixture[str], form: str) -> None:
    code, out, _ = predict(capsys, f"{RUN} --format {form}")
    assert code == 0
    assert "feed_forward.w13" in out


def test_what_does_not_fit_ends_with_3_and_says_by_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = predict(capsys, RUN.replace("16 ", "64 "))
    assert (code, out) == (3, "")
    assert "GiB too much" in err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("--hardware h10", 2, "h100-80gb-sxm"),
        ("--hardware t4-16gb", 3, "fp16"),
        ("--tensor-parallel 3", 2, "divide"),
        ("--hardware none.json", 3, "none.json"),
        ("--basis calibrated --constants none.json", 3, "calibrate"),
        ("--prompt 512-128*2", 2, "rise"),
        ("--weight-dtype int5", 2, "int4"),
    ],
)
def test_mistakes_end_in_one_sentence(capsys: pytest.CaptureFixture[str], options: str, code: int, said: str) -> None:
    got, out, err = predict(capsys, options)
    assert (got, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_device_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    path.write_text(json.dumps(OWN))
    code, out, _ = predict(capsys, f"--hardware {path} --format json")
    assert code == 0
    assert json.loads(out)["hardware"] == "mine"


@pytest.mark.parametrize(
    "change",
    [
        {"memory_bytes": "64GB"}, {"bandwidth_bytes_per_s": -1}, {"peak_flops_per_s": {}}, {"colour": "red"},
        {"peak_flops_per_s": {"bf16": None}}, {"interconnect_bytes_per_s": 0},
    ],
)  # fmt: skip
def test_a_wrong_device_file_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "my.json"
    path.write_text(json.dumps(OWN | change))
    assert predict(capsys, f"--hardware {path}")[0] == 2


def test_a_sweep_has_a_row_for_every_combination(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--seq 512-2048*2 --batch 1,8 --model 7b,70b --hardware h200,t4-16gb --tensor-parallel 1,2 --format csv"
    code, out, _ = predict(capsys, options)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert len(rows) == 3 * 2 * 2 * 2 * 2
    assert tuple(rows[0]) == SWEEP_KEYS
    for row in rows:
        assert bool(row["total_s"]) != bool(row["reason"])
        if row["total_s"]:
            assert float(row["bound_s"]) <= float(row["low_s"]) <= float(row["total_s"]) <= float(row["high_s"])
    assert {row["reason"][:9] for row in rows if row["hardware"] == "t4-16gb"} == {"t4-16gb m"}


def test_a_row_of_a_sweep_is_the_prediction_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shape = "--prompt 700 --generate 9 --batch 3 --hardware h200"
    alone = json.loads(predict(capsys, f"{shape} --format json")[1])
    rows = json.loads(predict(capsys, f"{shape} --model 7b,13b --format json")[1])["rows"]
    assert rows[0]["total_s"] == alone["total_s"]
    assert rows[0]["needed_bytes"] == alone["memory"]["total_bytes"]


def test_a_split_is_in_the_answer_and_its_sends_and_rings_in_the_op_table(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--model 70b --hardware h100-80gb-sxm --tp 2 --pp 2 --cp 2 --replicas 2 --batch 8"
    found = json.loads(predict(capsys, f"{options} --format json")[1])
    assert found["split"] == {"tensor": 2, "pipeline": 2, "context": 2, "replicas": 2}
    assert 0 < found["communication_share"] < 1
    assert 0 < found["bubble_share"] < 1
    sent = {row["op"]: row["link_bytes"] for row in found["ops"] if row["phase"] == "prefill" and row["link_bytes"]}
    assert {"pipeline.send", "layers.*.attention.ring", "layers.*.attention.all_reduce"} <= set(sent)
    table = predict(capsys, options)[1]
    assert "h100-80gb-sxm × 16" in table
    assert "split TP 2 × PP 2 × CP 2 × 2 replicas: sending takes" in table


def test_splits_are_swept_and_what_cannot_be_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--model 70b --hardware h100-80gb-sxm --tp 2 --pp 1,3,4 --replicas 1,2 --batch 1,8 --format json"
    rows = json.loads(predict(capsys, options)[1])["rows"]
    assert len(rows) == 3 * 2 * 2
    whys = {(row["pipeline_parallel"], row["replicas"], row["batch"]): row["reason"] for row in rows if row["reason"]}
    assert "n_layers=80" in whys[3, 1, 8]
    assert "batch of 1" in whys[4, 2, 1]
    assert (4, 2, 8) not in whys


def test_a_split_of_a_sweep_is_the_prediction_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shape = "--model 70b --hardware h100-80gb-sxm --tp 4 --pp 2 --batch 4"
    alone = json.loads(predict(capsys, f"{shape} --format json")[1])
    (row, _) = json.loads(predict(capsys, f"{shape.replace('--pp 2', '--pp 2,4')} --format json")[1])["rows"]
    assert [row[name] for name in ("total_s", "tokens_per_s")] == [alone["total_s"], alone["tokens_per_s"]]
    assert row["bound_s"] == alone["bound"]["total_s"]
    assert row["needed_bytes"] == alone["memory"]["total_bytes"]


def test_a_stack_that_shares_out_layers_takes_no_other_split(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = predict(capsys, "--hardware a100-80gb-sxm --stack llama.cpp --tp 2 --pp 2")
    assert code == 2
    assert "by layers" in said


def test_published_kernels_of_the_device_stand_beside_the_op_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(predict(capsys, "--hardware h100-80gb-sxm --prompt 512 --format json")[1])
    kernels = {(row["phase"], row["op"]): row for row in found["published_kernels"]}
    rows = {(row["phase"], row["op"]): row for row in found["ops"]}
    assert {phase for phase, _ in kernels} == {"prefill", "decode"}
    for key, row in kernels.items():
        assert row["time_s"] == rows[key]["time_s"]
        assert (row["basis"] == "published") == bool(row["source"]) == (row["reason"] is None)
    table = predict(capsys, "--hardware h100-80gb-sxm --prompt 512")[1]
    assert "nearest published" in table
    assert len(kernels) == len(rows)
    assert "nearest published" not in predict(capsys, "--hardware h100-80gb-sxm --dtype fp32 --basis bound")[1]


@pytest.mark.parametrize(("name", "known"), [("a100-80gb", 11), ("h100", 11), ("h200", 6), ("b200", 0)])
def test_a_row_without_a_published_kernel_is_null_with_the_reason(
    capsys: pytest.CaptureFixture[str], name: str, known: int
) -> None:
    found = json.loads(predict(capsys, f"--model 7b --hardware {name} --format json")[1])
    prefill = [row for row in found["published_kernels"] if row["phase"] == "prefill"]
    assert len([row for row in prefill if row["published_s"]]) == known
    for row in prefill:
        assert row["time_s"] > 0
        assert (row["published_s"] is None) == (row["error"] is None) == (row["basis"] is None) == bool(row["reason"])
    words = predict(capsys, f"--model 7b --hardware {name}")[1]
    assert ("nearest published" in words) == (known > 0)
    reasons = {row["reason"] for row in prefill} - {None}
    assert all(reason in words for reason in reasons)
    assert ("no kernel of b200-180gb is published" in reasons) == (name == "b200")


def test_a_stack_is_named_in_every_answer(capsys: pytest.CaptureFixture[str]) -> None:
    stack = loaded(capsys, "predict", "--hardware", "h100-80gb-sxm", "--stack", "vllm")["stack"]
    assert (stack["name"], stack["assumed"]) == ("vllm", False)
    assert stack["versions"]
    assert stack["points"] > 0
    assumed = loaded(capsys, "predict", "--hardware", "rtx4090")["stack"]
    assert (assumed["name"], assumed["assumed"]) == ("llama.cpp", True)
    assert loaded(capsys, "predict", "--hardware", "h200")["stack"] == {"name": "tensorrt-llm", "assumed": True}
    rows = loaded(capsys, "compare-hardware", "--hardware", "h200,apple-m4", "--stack", "vllm")
    assert {row["stack"] for row in rows["ranked"]} == {"vllm"}
    assert "vllm must have constants for apple" in rows["not_ranked"][0]["reason"]


@pytest.mark.parametrize("option", [("--unfused",), ("--attention", "naive"), ("--basis", "calibrated")])
def test_a_stack_settles_how_a_model_is_run(capsys: pytest.CaptureFixture[str], option: tuple[str, ...]) -> None:
    assert "must not be given together" in refused(capsys, "predict", "--stack", "vllm", *option)


def test_threads_of_a_cpu_change_its_prediction_and_a_gpu_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("predict", "--hardware", "threadripper-5975wx", "--prompt", "512", "--generate", "2", "--threads")
    few, all_ = (loaded(capsys, *options, count)["prefill_s"] for count in ("8", "32"))
    assert few == pytest.approx(4 * all_, rel=0.05)
    for wrong in (("predict", "--hardware", "h200", "--threads", "8"), (*options, "8", "--basis", "bound")):
        assert "--threads must be given for a CPU" in refused(capsys, *wrong)
