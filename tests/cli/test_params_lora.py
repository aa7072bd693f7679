"""`llamalab params --lora`: what an adapter adds."""

import pytest

from tests.cli.calls import Capture, loaded, printed


def test_the_figures_of_the_usual_adapter(capsys: Capture) -> None:
    data = loaded(capsys, "params", "--lora", "r=16,targets=q,v")
    # 32 layers, two targets, r (in + out) each.
    assert data["parameters"] == 32 * 2 * 16 * 8192 == 8_388_608
    assert data["adapter_bytes"] == 16_777_216
    assert data["training_bytes"] == 16 * 8_388_608
    assert data["full_training_bytes"] == 16 * 6_738_415_616
    assert [pair["target"] for pair in data["pairs"]] == ["q", "v"]


def test_grouped_heads_make_k_narrow(capsys: Capture) -> None:
    data = loaded(capsys, "params", "--model", "70b", "--lora", "r=8,targets=k")
    assert data["parameters"] == 80 * 8 * (8192 + 1024)


def test_the_table_says_what_it_rests_on(capsys: Capture) -> None:
    text = printed(capsys, "params", "--lora", "r=16,targets=q,v", "--dtype", "fp32")
    assert "adds 8,388,608 parameters to 7b, 0.124 % of its 6,738,415,616: 32.00 MiB" in text
    assert "activations are not counted" in text


@pytest.mark.parametrize("text", ["r=16", "16,q", "r=0,targets=q", "r=16,targets=w", "r=5000,targets=q"])
def test_bad_adapters(capsys: Capture, text: str) -> None:
    from llamalab.cli import main

    assert main(["params", "--lora", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1
