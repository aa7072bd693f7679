"""Any options of fit, tune and train-memory end in an answer without nonsense, or in one sentence: exit code 2 or 3."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamalab.cli import main


def mostly(right: list[str], wrong: list[str]) -> st.SearchStrategy[str]:
    """One of the right words, one time in five of the wrong ones."""
    return st.integers(0, 4).flatmap(lambda roll: st.sampled_from(right if roll else wrong))


COUNTS = mostly(
    ["1", "2", "3", "7", "64", "1,000", "4096", "131072", "1e9"],
    ["0", "-1", "1000000000000", "10**12", "nan", "inf", "2.5", "", "1e400"],
)
SIZES = mostly(["24GiB", "80GB", "999TB", "24"], ["0", "-1GB", "1", "1kB", "1e30GB", "inf", "nan", ""])
NAMES = mostly(["l4", "h100-80gb-sxm", "b200"], ["all", "xeon", "", "nosuch"])
MODELS = mostly(["tiny", "7b", "70b", "qwen2.5-0.5b", "mixtral-8x7b", "gemma-2-2b"], ["nosuch", "", "."])
LENGTHS = {"--context": COUNTS, "--batch": COUNTS, "--tensor-parallel": COUNTS, "--kv-heads": COUNTS}
TRAINED = {
    **LENGTHS, "--packing": COUNTS, "--document-tokens": st.sampled_from(["0", "1", "5,0", "7,9", "9999999", "-3"]),
    "--attention": st.sampled_from(["flash", "masked", "naive", "chunked"]),
    "--implementation": st.sampled_from(["llamalab", "hugging-face", "fused"]),
    "--recompute": st.sampled_from(["none", "selective", "full"]), "--memory": SIZES, "--hardware": NAMES,
}  # fmt: skip
OPTIONS = {
    "fit": {
        **LENGTHS, "--memory": SIZES, "--free": SIZES, "--hardware": NAMES, "--host": NAMES, "--prompt": COUNTS,
        "--generate": COUNTS, "--chunk": COUNTS, "--graphs": COUNTS, "--threads": COUNTS, "--block-tokens": COUNTS,
        "--gpu-layers": COUNTS, "--dtype": st.sampled_from(["bf16", "fp32", "int4", "q4_k", "nosuch"]),
        "--weight-dtype": st.sampled_from(["int8", "q4_k", "fp8", "nosuch"]),
        "--kv-dtype": st.sampled_from(["int8", "int4", "fp8", "fp32"]),
        "--attention": st.sampled_from(["flash", "naive", "chunked", "masked"]),
        "--logits": st.sampled_from(["last", "all"]), "--runtime": st.sampled_from(["cuda", "cpu", "nosuch"]),
        "--solve": st.sampled_from(["batch", "context", "weights", "ranks", "device", "gpu-layers", "nosuch"]),
    },
    "tune": {
        **TRAINED, "--method": st.sampled_from(["full", "lora", "qlora"]), "--rank": COUNTS, "--accumulate": COUNTS,
        "--targets": st.sampled_from(["q,v", "q,q", "up", "x", "", "q,k,v,o,gate,up,down"]), "--dora": st.none(),
        "--embeddings": st.none(), "--single-quant": st.none(), "--split-norms": st.none(),
        "--zero": st.sampled_from(["0", "1", "2", "3", "4", "-1", "x"]), "--data-parallel": COUNTS,
        "--pipeline-parallel": COUNTS, "--utilisation": st.sampled_from(["0", "0.4", "1", "nan", "inf", "-1", "x"]),
        "--offload": st.sampled_from(["none", "optimizer", "weights"]),
        "--optimizer": st.sampled_from(["adamw", "adamw-8bit", "adafactor", "sgd", "sgd-momentum"]),
        "--dtype": st.sampled_from(["mixed", "masters", "pure", "fp32", "int8"]),
        "--solve": st.sampled_from(["batch", "context", "rank", "devices", "recompute", "optimizer", "nosuch"]),
    },
    "train-memory": {
        **TRAINED, "--dtype": st.sampled_from(["bf16", "fp32", "fp16", "int8"]),
        "--solve": st.sampled_from(["batch", "context", "weights", "ranks", "recompute", "device", "nosuch"]),
    },
}  # fmt: skip


@st.composite
def arguments(draw: st.DrawFn, verb: str) -> list[str]:
    """A verb with a few of its options, in which right values and wrong ones stand side by side."""
    known = OPTIONS[verb]
    names = draw(st.lists(st.sampled_from(sorted(known)), max_size=6, unique=True))
    argv = [verb, f"--model={draw(MODELS)}"]
    for name in names:
        value = draw(known[name])
        argv.append(name if value is None else f"{name}={value}")
    return argv


def told(argv: list[str]) -> tuple[int, str, str]:
    """The exit code, and what was printed to each stream."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*argv, "--format", "json"])
    return code, out.getvalue(), err.getvalue()


def no_number(text: str) -> NoReturn:
    raise AssertionError(f"{text} is no number of JSON")


def sizes(data: Any) -> list[tuple[str, Any]]:
    """Every amount, at any depth."""
    if isinstance(data, list):
        return [found for one in data for found in sizes(one)]
    if not isinstance(data, dict):
        return []
    counted = ("bytes", "flops", "tokens", "_s", "batch", "context")
    own = [(key, value) for key, value in data.items() if key.endswith(counted)]
    return own + [found for value in data.values() for found in sizes(value)]


@pytest.mark.parametrize("verb", OPTIONS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_options_end_in_an_answer_or_in_one_sentence(verb: str, data: st.DataObject) -> None:
    argv = data.draw(arguments(verb))
    code, out, err = told(argv)
    if code:
        errors = [line for line in err.splitlines() if not line.startswith("note: ")]
        assert code in (2, 3), argv
        assert out == ""
        assert len(errors) == 1, err
        assert errors[0].startswith("llamalab: ")
        assert "Traceback" not in err
        assert code == 2 or re.search(r"too (little|much|large)", err), err
        return
    answer = json.loads(out, parse_constant=no_number)
    for name, value in sizes(answer):
        assert value is None or not isinstance(value, int | float) or value >= 0, (argv, name, value)
    if "terms" in answer:
        assert sum(term["bytes"] for term in answer["terms"]) == answer["total_bytes"]
