"""Every program in examples/ runs as a reader would start it, and is named in the how-to."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def run(name: str, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, f"examples/{name}", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout


def bench(path: Path, seconds: float) -> str:
    row = {
        "model": "7b", "test": "pp512", "prompt_tokens": 512, "generated_tokens": 0, "depth_tokens": 0, "batch": 1,
        "passes_s": [[seconds * factor] for factor in (1.0, 1.01, 0.99, 1.02, 0.98)], "basis": "measured",
        "device": "cpu", "threads": 2, "dtype": "bf16", "attention": "sdpa", "compiled": "none", "blocks": "32",
    }  # fmt: skip
    path.write_text(json.dumps(row) + "\n")
    return str(path)


def test_every_example_is_tried_here_and_named_in_the_how_to() -> None:
    here, how_to = Path(__file__).read_text(), (ROOT / "docs" / "howto.md").read_text()
    for name in EXAMPLES:
        assert f'"{name}"' in here, name
        assert f"examples/{name}" in how_to, name


def test_profile_my_checkpoint() -> None:
    text = run("profile_my_checkpoint.py", "--prompt", "16", "--top", "2")
    assert text.startswith("prefill:\n  ")
    assert "decode:\n" in text
    assert text.count(" ms ") == 4


def test_pick_a_gpu() -> None:
    text = run("pick_a_gpu.py", "--model", "70b", "--tokens-per-s", "30")
    assert re.search(r"^\d × \S+ +[\d.,]+ tokens/s each,", text, re.M)
    assert "too small even as eight: " in text
    assert "t4-16gb" in text.partition("too small even as eight: ")[2]


def test_gate_a_pull_request(tmp_path: Path) -> None:
    before, same, slow = (bench(tmp_path / f"{n}.jsonl", s) for n, s in (("a", 1.0), ("b", 1.001), ("c", 1.3)))
    assert "no difference seen" in run("gate_a_pull_request.py", before, same)
    assert "(slower)" in run("gate_a_pull_request.py", before, slow, code=1)
    assert run("gate_a_pull_request.py", before, slow, "--bound", "0.5")


def test_tap_attention() -> None:
    assert run("tap_attention.py").count(" looks at positions ") == 8


@pytest.mark.shared
def test_llama_index_costs(shared_real: Path) -> None:
    pytest.importorskip("llama_index.core", reason="the extra llama-index is not installed")
    text = run(
        "llama_index_costs.py", "--model", str(shared_real / "stories260K.bin"),
        "--tokenizer", str(shared_real / "tok512.bin"),
    )  # fmt: skip
    assert text.count(" tokens, KV cache ") == 2
