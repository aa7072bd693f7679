"""Wrong options of the verbs that run a model are refused before torch is imported: in the time of a calculator."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamalab.measure.device import kinds

RUN = """
import contextlib, io, json, sys
from llamalab.cli import main
told = []
for argv in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main(argv)
    told.append([code, said.getvalue(), "torch" in sys.modules])
print(json.dumps(told))
"""
CHECKPOINT = ("--model", "model.bin")
CASES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("report", "--model", "tiny", "--text", "hello"), "must come with the weights of a checkpoint"),
    (("report", "--model", "tiny", "--tokenizer", "model.bin"), "must come with the weights of a checkpoint"),
    (("report", "--model", "tiny", "--out", "x.json"), "--out must end in .html"),
    (("report", "--model", "gemma-2-2b"), "use the calculators"),
    (("report", "--model", "tiny", "--attention", "nosuch"), "--attention must be one of"),
    (("report", "--model", "tiny", "--kv-dtype", "int3"), "--kv-dtype must be one of"),
    (("report", "--from", "nosuch.json"), "there is no file nosuch.json"),
    (("report", "--from", "a.json", "--from", "b.json"), "--from must name one record"),
    (("report", "--model", "nosuch"), "got 'nosuch'"),
    (("bench", "--model", "gemma-2-2b"), "use the calculators"),
    (("bench", "--model", "tiny", "-n", "0", "-p", "0"), "a bench must have a test"),
    (("bench", "--model", "tiny", "--weight-dtype", "q9"), "--weight-dtype must be one of"),
    (("bench", "--model", "tiny", "--depth", "5", "--context", "9"), "must not be given together"),
    (("profile", "--model", "gemma-2-2b"), "use the calculators"),
    (("profile", "--model", "tiny", "--phase", "nosuch"), "--phase must be one of"),
    (("profile", "--model", "tiny", "--prompt", "9", "--context", "3"), "--context must count the prompt of 9 tokens"),
    (("profile", "--model", "tiny", "--trace", "model.bin"), "--trace must name a folder"),
    (("profile", "--model", "tiny", "--roofs", "nosuch.json"), "there is no file nosuch.json"),
    (("generate", "--model", "nosuch"), "the checkpoint must exist"),
    (("generate", *CHECKPOINT, "--tokenizer", "nosuch"), "the tokenizer must exist"),
    (("generate", *CHECKPOINT, "--attention", "nosuch"), "--attention must be one of"),
    (("generate", *CHECKPOINT, "--text-file", "nosuch"), "there is no file nosuch"),
    (("generate", *CHECKPOINT, "--stop", ""), "--stop must have at least one character"),
    (("generate", *CHECKPOINT, "--infill", "a", "b", "--text", "c"), "--infill must be given alone"),
    (("generate", *CHECKPOINT, "--out", "."), "the output must be a file"),
    (("generate", *CHECKPOINT), "a tokenizer must be there"),
    (("generate", *CHECKPOINT, "--tokenizer", "model.bin"), "the tokenizer must be"),
    (("generate", *CHECKPOINT, "--device", "gpu"), "--device must be cpu, cuda, mps or cuda:N; got 'gpu'"),
    (("generate", *CHECKPOINT, "--top-k", "0"), "--top-k must be at least 1; got 0"),
    (("generate", "--model", "folder", "--tp", "3"), "tensor-parallel ranks must divide n_heads=4; got 3"),
    *(
        ((verb, *CHECKPOINT, option, value), f"{option} must be {range}; got {float(value)}")
        for verb in ("generate", "chat")
        for option, value, range in (
            ("--temperature", "-1", "0 (greedy) or a positive number"),
            ("--top-p", "1.5", "above 0 and at most 1"),
            ("--min-p", "2", "from 0 to 1"),
            ("--repetition-penalty", "0", "a positive number, 1 for none"),
        )
    ),
    (("chat", *CHECKPOINT, "--seed", "-1"), "--seed must be a whole number from 0 to 2**63 - 1; got -1"),
    (("chat", *CHECKPOINT), "a tokenizer must be there"),
    (("attention", "--device", "tpu"), "--device must be auto, cpu, cuda"),
    *(
        ((verb, "--model", "tiny", "--tp", "5"), "ranks must divide n_heads=6")
        for verb in ("bench", "profile", "report")
    ),
    (("bench", "--model", "tiny", "--tp", "0"), "--tp must be at least 1; got 0"),
    (("tour", *CHECKPOINT), "a tokenizer must be there"),
    (("chat", "--model", "nosuch"), "the checkpoint must exist"),
    (("chat", *CHECKPOINT, "--attention", "nosuch"), "--attention must be one of"),
    (("tour", "--model", "nosuch"), "the checkpoint must exist"),
    (("inspect", "nosuch"), "the checkpoint must exist"),
    (("convert", "nosuch", "--to", "gguf", "--out", "x"), "must exist"),
    (("train", "--text", "nosuch"), "--tokenizer must be given"),
    (("attention", "--attention", "nosuch"), "--attention must be one of"),
    (("attention", "--dtype", "int8"), "--dtype must be one of"),
    (("calibrate", "--out", "."), "the output must be a file"),
    (("gallery", "nosuch"), "nosuch"),
    (("score", "nosuch.csv"), "nosuch.csv"),
    (("compare", "nosuch.json"), "there is no file nosuch.json"),
    (("compare", "7b@nosuch"), "nosuch"),
)


HAS_DRIVER = os.path.exists(kinds.ROCM) or any(map(kinds._loads, kinds.DRIVERS["cuda"]))
if not HAS_DRIVER:
    CASES += tuple(
        ((*argv, "--device", "cuda"), "device cuda must be there; none of its driver's libraries (libcuda.so.1")
        for argv in (
            ("generate", *CHECKPOINT), ("chat", *CHECKPOINT), ("tour", *CHECKPOINT), ("bench",), ("profile",),
            ("report",), ("calibrate",), ("attention",), ("train", "--text", "model.bin", "--tokenizer", "model.bin"),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, bool]]:
    """What each case answers, all in one process, which would keep torch once it were imported."""

    folder = tmp_path_factory.mktemp("refusals")
    (folder / "model.bin").write_bytes(b"nothing")
    (folder / "folder").mkdir()
    (folder / "folder" / "params.json").write_text(
        '{"dim": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 300, "multiple_of": 32, "norm_eps": 1e-5}'
    )
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        input=json.dumps([argv for argv, _ in CASES]),
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


@pytest.mark.parametrize("place", range(len(CASES)), ids=[" ".join(argv) for argv, _ in CASES])
def test_a_refusal_is_a_sentence_before_torch(place: int, told: list[tuple[int, str, bool]]) -> None:
    code, said, torch_is_there = told[place]
    assert CASES[place][1] in said
    assert code in (2, 3)
    assert said.count("\n") == 1
    assert not torch_is_there
