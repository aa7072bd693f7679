"""`llamalab compare`: files and predictions held against each other, and our prediction beside what others measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import llamalab
from llamalab.cli import main
from tests.cli.calls import Capture, loaded, printed, refused
from tests.records.peers import files

EXAMPLE = str(Path(__file__).resolve().parents[2] / "reports" / "example-7b-cpu.json")


def test_two_predictions_differ_by_what_adds_up(capsys: Capture) -> None:
    data = loaded(capsys, "compare", "7b@a100-80gb-sxm", "7b@h100-80gb-sxm", "--prompt", "512", "--generate", "9")
    (one,) = data["comparisons"]
    singles = [
        loaded(capsys, "predict", "--hardware", name, "--prompt", "512", "--generate", "9")
        for name in ("a100-80gb-sxm", "h100-80gb-sxm")
    ]
    for phase, key in zip(one["phases"], ("prefill_s", "decode_s_per_token"), strict=True):
        assert phase["delta_s"] == pytest.approx(singles[1][key] - singles[0][key])
        assert sum(row["delta_s"] for row in phase["ops"]) == pytest.approx(phase["delta_s"])
        assert "(faster)" in phase["verdict"]


def test_a_record_against_itself(capsys: Capture) -> None:
    text = printed(capsys, "compare", EXAMPLE, EXAMPLE)
    assert text.startswith("B against A: prefill no difference seen; decode no difference seen\n")


READABLE = [(files.llama_bench_json, 2), (files.llama_bench_sql, 2), (files.optimum, 2)]


@pytest.mark.parametrize(("make", "rows"), READABLE)
def test_what_others_measured_has_our_prediction_beside(
    capsys: Capture, tmp_path: Path, make: Callable[[], str], rows: int
) -> None:
    path = tmp_path / "theirs.json"
    path.write_text(make())
    found = loaded(capsys, "compare", str(path))["rows"]
    assert len(found) == rows
    assert all(row["predicted_s"] > 0 for row in found)
    assert all(row["error"] == pytest.approx(row["predicted_s"] / row["time_s"] - 1) for row in found)


def test_what_a_file_does_not_tell_is_asked_for_and_can_be_told(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "vllm.json"
    path.write_text(files.vllm_serve())
    unknown = loaded(capsys, "compare", str(path))["rows"]
    assert [row["predicted_s"] for row in unknown] == [None, None]
    assert {row["predicted_from"] for row in unknown} == {"the device is not known; name it"}
    lead = printed(capsys, "compare", str(path)).splitlines()
    assert lead[0].endswith("2 rows, 0 with a prediction beside")
    assert "  not predicted: the device is not known; name it" in lead
    told = loaded(capsys, "compare", str(path), "--hardware", "h100-80gb-sxm", "--dtype", "float16")["rows"]
    # The decode of two sequences at a context of 640, as the forecast has it.
    assert told[1]["predicted_s"] == pytest.approx(
        loaded(
            capsys, "predict", "--hardware", "h100-80gb-sxm", "--prompt", "639", "--generate", "2", "--batch", "2",
            "--dtype", "fp16",
        )["decode_s_per_token"]
    )  # fmt: skip


def test_a_bench_of_ours_is_compared_with_one_of_llama_bench(capsys: Capture, tmp_path: Path) -> None:
    row = {
        "model": "7b", "test": "pp512", "prompt_tokens": 512, "generated_tokens": 0, "depth_tokens": 0, "batch": 1,
        "passes_s": [[0.10], [0.11], [0.10], [0.10], [0.105]], "basis": "measured", "device": "cpu", "threads": 2,
        "dtype": "bf16", "attention": "sdpa", "compiled": "none", "blocks": "32",
    }  # fmt: skip
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.json"
    ours.write_text(json.dumps(row) + "\n")
    theirs.write_text(files.llama_bench_json())
    (one,) = loaded(capsys, "compare", str(theirs), str(ours))["comparisons"]
    (phase,) = one["phases"]
    assert phase["phase"] == "pp512"
    assert phase["low_s"] > 0
    assert phase["verdict"].endswith("(slower)")
    assert one["unmatched"] == ["tg128 @ d4096"]


def test_benches_on_several_numbers_of_ranks_are_a_curve_with_their_own_predictions(
    capsys: Capture, tmp_path: Path
) -> None:
    """Predictions of a bench are of the machine that it ran on: they need no device that is known."""
    paths, page = [tmp_path / f"{ranks}.jsonl" for ranks in (1, 2, 4)], tmp_path / "page.html"
    for path, ranks in zip(paths, (1, 2, 4), strict=True):
        rows = [
            {
                "model": "7b", "test": test, "prompt_tokens": prompt, "generated_tokens": made, "depth_tokens": 0,
                "batch": 2, "passes_s": [[0.4 / ranks] * max(1, made)] * 3, "basis": "measured", "device": "nothing",
                "threads": 1, "dtype": "bf16", "attention": "sdpa", "compiled": "none", "blocks": "32", "ranks": ranks,
                "predicted_tokens_per_s": rate * ranks,
            }
            for test, prompt, made, rate in (("pp512", 512, 0, 2048.0), ("tg8", 0, 8, 4.0))
        ]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = loaded(capsys, "compare", *map(str, paths), "--page", str(page))
    assert [row["predicted_s"] for row in found["rows"]] == [0.5 / ranks for ranks in (1, 2, 4) for _ in range(2)]
    assert [row["error"] for row in found["rows"]] == pytest.approx([0.25] * 6)
    assert found["comparisons"][1]["settings"]["ranks"] == [1, 4]
    html = page.read_text()
    assert "tg8, batch 2, 1 rank: measured 400.00 ms, predicted 500.00 ms; 2 ranks: measured 200.00 ms" in html
    assert main(["compare", str(paths[0]), str(paths[0]), "--page", str(page)]) == 0
    assert "Time over ranks" not in page.read_text()


def test_a_folder_stands_for_its_files_in_the_order_of_their_numbers(capsys: Capture, tmp_path: Path) -> None:
    for name in ("tp16.json", "tp2.json", "notes.txt"):
        (tmp_path / name).write_text(files.llama_bench_json())
    runs = loaded(capsys, "compare", str(tmp_path))["runs"]
    assert [Path(run["name"]).name for run in runs] == ["tp2.json", "tp16.json"]


def test_a_folder_without_runs_is_refused(capsys: Capture, tmp_path: Path) -> None:
    assert "must hold JSON files" in refused(capsys, "compare", str(tmp_path), code=3)


def test_a_trace_has_our_prediction_of_one_of_its_passes_beside(capsys: Capture, tmp_path: Path) -> None:
    """Its shapes and device are told; 64 calls of attention are two passes of the 32 blocks of Llama 3 8B."""
    data = json.loads(files.trace_of_kernels())
    calls = [one for one in data["traceEvents"] if "attention" in one["name"]]
    data["traceEvents"] += [one | {"ts": one["ts"] + 1} for one in calls for _ in range(31)]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(data))
    argv = ("compare", str(path), "--model", "llama-3-8b")
    (row,) = loaded(capsys, *argv)["rows"]
    single = loaded(
        capsys, "predict", "--model", "llama-3-8b", "--hardware", "h100-80gb-sxm", "--prompt", "512", "--batch", "2",
        "--dtype", "fp16",
    )  # fmt: skip
    assert row["predicted_s"] == pytest.approx(single["prefill_s"])
    assert row["time_s"] == pytest.approx(550e-6 / 2)
    assert row["tokens_per_s"] == pytest.approx(1024 / row["time_s"])
    (unknown,) = loaded(capsys, "compare", str(path))["rows"]
    assert unknown["predicted_from"] == "the model is not known; name it"
    (other,) = loaded(capsys, "compare", str(path), "--model", "13b")["rows"]
    assert other["predicted_from"] == "64 calls of attention are no whole passes of 40 blocks"


def test_a_trace_without_shapes_is_what_it_is_said_to_be(capsys: Capture, tmp_path: Path) -> None:
    data = json.loads(files.trace_of_kernels())
    data["traceEvents"] = [one for one in data["traceEvents"] if one.get("cat") != "cpu_op"]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(data))
    argv = ("compare", str(path), "--model", "7b", "--dtype", "fp16")
    (unsaid,) = loaded(capsys, *argv)["rows"]
    assert (unsaid["predicted_s"], unsaid["tokens_per_s"]) == (None, None)
    assert "does not tell the shape" in unsaid["predicted_from"]
    (said,) = loaded(capsys, *argv, "--phase", "decode", "--prompt", "500", "--generate", "12", "--batch", "4")["rows"]
    assert (said["new_tokens"], said["context_tokens"], said["tokens_per_s"]) == (1, 512, pytest.approx(4 / 550e-6))
    assert said["predicted_s"] > 0
    path.write_text(json.dumps(data | {"traceEvents": data["traceEvents"] + [
        files.attention(20, (1, 32, tokens, 128), (1, 32, 9, 128)) for tokens in (1, 9)
    ]}))  # fmt: skip
    (several,) = loaded(capsys, *argv, "--phase", "decode")["rows"]
    assert "passes of several shapes" in several["predicted_from"]


def test_forms_and_page(capsys: Capture, tmp_path: Path) -> None:
    page, argv = tmp_path / "page.html", ("compare", "7b@l4", "7b@h200")
    assert "| operation | phase |" in printed(capsys, *argv, "--format", "md")
    assert printed(capsys, *argv, "--format", "csv").startswith("b,phase,op,a_s,b_s,delta_s")
    assert main([*argv, "--page", str(page)]) == 0
    html = page.read_text()
    assert "7b@h200-141gb-sxm" in html
    assert "src=" not in html
    assert html.count("<script>") == 1  # every page's own, under its hash
    assert html.count('role="img"') == 2
    assert "B against A" in html
    shown = html.partition('id="record">')[2].partition("</script>")[0]
    assert len(json.loads(shown)["comparisons"][0]["phases"]) == 2


def test_from_python() -> None:
    result = llamalab.compare("7b@l4", "7b@h200", "13b@h200")
    assert [one["letter"] for one in result.comparisons] == ["B", "C"]
    assert {"op", "delta_s", "why"} <= set(result.frames[0].columns)


def test_what_cannot_be_compared_is_refused(capsys: Capture, tmp_path: Path) -> None:
    assert "there is no" in refused(capsys, "compare", "absent.json", code=3)
    (tmp_path / "x.json").write_text("{}")
    assert "it is none" in refused(capsys, "compare", str(tmp_path / "x.json"))
    assert "did you mean 7b" in refused(capsys, "compare", "7bb@h200")
    assert "RUN must be given" in refused(capsys, "compare")
