"""The speed of the calculators."""

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

import llamalab
from llamalab.analytic.kv_cache import kv_variants
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.cli import main
from llamalab.presets import PRESETS

Benchmark = Callable[..., Any]
FLOPS = {2048: 285_876_231_864_320, 1: 137_428_992_000}  # causal, by new tokens


@pytest.mark.parametrize("new_tokens", FLOPS)
def test_op_table(benchmark: Benchmark, new_tokens: int) -> None:
    ops = benchmark(forward_ops, PRESETS["70b"].arch, PassShape(new_tokens=new_tokens))
    assert add_up(ops).flops_causal == FLOPS[new_tokens]


def test_kv_variants(benchmark: Benchmark) -> None:
    variants = benchmark(kv_variants, PRESETS["7b"].arch, seq=4096, batch=16)
    assert variants[0].kv_bytes == 34_359_738_368


def test_parameter_count(benchmark: Benchmark) -> None:
    assert benchmark(parameter_count, PRESETS["13b"].arch) == 13_015_864_320


def test_a_hundred_predictions_from_python(benchmark: Benchmark) -> None:
    """Each of another prompt: a hundredth of what 10,000 calls take."""
    prompts = count(1)

    def predictions() -> list[float]:
        return [llamalab.predict("7b", "h100-80gb-sxm", prompt=next(prompts), batch=4).total_s for _ in range(100)]

    assert min(benchmark(predictions)) > 0


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_sweep_of_500_prompts(benchmark: Benchmark, capsys: pytest.CaptureFixture[str], form: str) -> None:
    """A twentieth of a sweep of 10,000."""
    benchmark(main, ["predict", "--hardware", "h100-80gb-sxm", "--prompt", "1-500+1", "--format", form])
    assert capsys.readouterr().out.count("tensorrt-llm") % 500 == 0


def test_kv_command_from_a_cold_start(benchmark: Benchmark) -> None:
    command = [sys.executable, "-m", "llamalab", "kv", "--context", "4096", "--batch", "16"]
    finished = benchmark(subprocess.run, command, capture_output=True, text=True, check=True)
    assert "34,359,738,368" in finished.stdout
