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
