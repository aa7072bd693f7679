"""`llamalab tune`: what a training or fine-tuning step takes."""

import pytest

from tests.cli.calls import Capture, loaded, printed, refused


def test_terms_add_up(capsys: Capture) -> None:
    data = loaded(capsys, "tune", "--model", "7b", "--accumulate", "2")
    assert sum(term["bytes"] for term in data["terms"]) == data["total_bytes"]
    assert data["optimizer_bytes"] == 8 * 6_738_415_616


def test_a_device_gives_time_and_the_largest_batch(capsys: Capture) -> None:
    asked = ("tune", "--method", "qlora", "--targets", "q,v", "--recompute", "full", "--hardware", "h100-80gb-sxm")
    data = loaded(capsys, *asked, "--utilisation", "0.5")
    assert data["step_s"] == pytest.approx(data["flops"] / (989.4e12 * 0.5))
    assert data["trained_parameters"] == 8_388_608
    assert data["largest_batch"] > 1
    refused(capsys, *asked, "--batch", str(data["largest_batch"] + 1), code=3)


def test_shown(capsys: Capture) -> None:
    text = printed(capsys, "tune", "--model", "13b", "--offload", "optimizer")
    assert "of the host's memory" in text
    assert "parameters trained" in text


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--zero", "4"), "the ZeRO stage must be from 0 to 3"),
        (("--utilisation", "2"), "--utilisation must be more than 0"),
        (("--method", "lora", "--targets", "q,x"), "a target of an adapter must be one of"),
        (("--hardware", "all"), "--hardware must name one device"),
    ],
)
def test_refusals(capsys: Capture, argv: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused(capsys, "tune", *argv)


def test_too_large_is_3_with_the_missing_bytes(capsys: Capture) -> None:
    assert "bytes) too much" in refused(capsys, "tune", "--model", "70b", "--memory", "80GB", code=3)


def test_padding_is_no_token_of_the_rate(capsys: Capture) -> None:
    asked = ("tune", "--context", "4096", "--document-tokens", "600", "--hardware", "h100-80gb-sxm", "--zero", "3",
             "--data-parallel", "64", "--recompute", "full")  # fmt: skip
    packed, padded = loaded(capsys, *asked), loaded(capsys, *asked, "--packing", "1")
    assert (packed["taught_tokens"], padded["taught_tokens"]) == (64 * 3600, 64 * 600)
    assert packed["tokens_per_s"] == pytest.approx(packed["taught_tokens"] / packed["step_s"])
    assert packed["tokens_per_s"] > 6 * padded["tokens_per_s"]
    assert "87.9 % of the tokens are no padding" in printed(capsys, *asked)


@pytest.mark.parametrize("verb", ["tune", "train-memory"])
def test_documents_must_fit_into_their_sequence(capsys: Capture, verb: str) -> None:
    assert "must be at most 40" in refused(capsys, verb, "--context", "40", "--packing", "41")
    assert "must fit into their sequence" in refused(capsys, verb, "--context", "40", "--document-tokens", "9,40")


def test_documents_take_fewer_flops_than_one_that_fills_the_sequence(capsys: Capture) -> None:
    asked = ("train-memory", "--context", "8192", "--implementation", "fused")
    whole, packed = loaded(capsys, *asked), loaded(capsys, *asked, "--packing", "16")
    assert packed["flops"] < whole["flops"]
    # RoPE's turns are those of one sequence in both; 17 cumulative lengths of 4 bytes.
    assert packed["activation_bytes"] - whole["activation_bytes"] == 68


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--solve", "batch", "--recompute", "full"), "sequences a pass"),
        (("--solve", "context", "--recompute", "full"), "tokens in each sequence"),
        (("--solve", "rank", "--method", "lora"), "at most rank"),
        (("--solve", "devices", "--zero", "3"), "devices with ZeRO 3"),
        (("--solve", "recompute", "--method", "lora"), "recomputation"),
        (("--solve", "optimizer", "--method", "lora"), "has the widest states that fit"),
    ],
)
def test_what_was_looked_for_is_said_and_fits(capsys: Capture, argv: tuple[str, ...], said: str) -> None:
    asked = ("tune", "--memory", "141GB", *argv)
    assert said in printed(capsys, *asked)
    data = loaded(capsys, *asked)
    assert data["solved"] == argv[1]
    assert data["left_bytes"] == data["memory_bytes"] - data["total_bytes"] - data["margin_bytes"] >= 0
