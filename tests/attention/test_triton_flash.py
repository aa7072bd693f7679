"""Our Triton kernels against fp64, on the CPU through Triton's interpreter.

Triton decides when a kernel is decorated whether it is interpreted, so the grid runs in a process
of its own that has TRITON_INTERPRET=1 from its first line. Where there is a GPU, test_cuda.py runs
the same grid on it.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import get_backend, triton_flash
from llamalab.attention.triton_flash import plan
from llamalab.errors import MissingError, UnavailableError
from tests.attention import triton_grid

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    """Case -> "ok" or what was wrong, from the interpreter's process."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.attention.triton_grid"],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    results: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
    return results


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, and runs the kernels themselves")
@pytest.mark.parametrize("case", triton_grid.CASES)
def test_interpreted_kernel(case: str, interpreted: dict[str, str]) -> None:
    assert interpreted[case] == "ok"


def test_nothing_of_triton_is_imported_unless_it_is_used() -> None:
    code = (
        "import sys, torch; from llamalab.attention import BACKENDS, get_backend; "
        "q = torch.ones(1, 1, 1, 16); get_backend('tiled').attend(q, q, q, query_offset=0); "
        "get_backend('sdpa').attend(q, q, q, query_offset=0); "
        "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'triton'), "
        "'llamalab.attention.triton_flash' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]", "False"]


def test_splits_of_whole_tiles_that_are_done_first() -> None:
    choose = plan.choose_splits
    assert choose(groups=1, tiles=1, slots=264) == 1  # never more splits than tiles
    assert choose(groups=8, tiles=64, slots=264) == 32  # one wave of two tiles: 29 splits would take three
    assert choose(groups=264, tiles=64, slots=264) == 1  # busy as it is
    assert choose(groups=192, tiles=64, slots=264) == 4  # 3 waves of 16 tiles: half as long again as 1 of 64 is worse


@pytest.mark.parametrize("groups", [1, 8, 32, 40, 160, 256, 1000])
@pytest.mark.parametrize("tiles", [1, 7, 64, 129])
def test_no_number_of_splits_is_done_sooner(groups: int, tiles: int) -> None:
    def length(splits: int) -> int:
        return plan.waves(groups * splits, 264) * (-(-tiles // splits) + 1)

    few = [splits for splits in range(1, tiles + 1) if splits == 1 or plan.waves(groups * splits, 264) <= 4]
    assert length(plan.choose_splits(groups, tiles, 264)) == min(map(length, few))


def test_a_plan_is_remembered_and_folds_what_one_program_reads_quickly() -> None:
    one = plan.decode_plan(groups=32, rows=1, tiles=64, slots=264)
    assert plan.decode_plan(groups=32, rows=1, tiles=64, slots=264) is one
    assert one.folded
    assert one.n_splits * one.fold_rows <= one.fold_splits * 32
    many = plan.decode_plan(groups=1, rows=64, tiles=512, slots=264)  # one KV head: megabytes of parts
    assert many.n_splits > 100
    assert not many.folded


@needs_triton
@pytest.mark.parametrize(("dtype", "head_dim", "what"), [("fp64", 64, "fp64"), ("bf16", 288, "head dims up to 256")])
def test_what_the_kernels_cannot_do(monkeypatch: pytest.MonkeyPatch, dtype: str, head_dim: int, what: str) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UnavailableError, match=what):
        triton_flash.check(AttentionShape(1, 5, 5, 2, 2, head_dim, dtype, dtype), torch.device("cpu"))


@needs_triton
def test_a_cpu_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    q = torch.ones(1, 1, 1, 16)
    with pytest.raises(UnavailableError, match="runs on NVIDIA GPUs; the tensors are on cpu; take"):
        get_backend("triton").attend(q, q, q, query_offset=0)


def test_a_missing_triton_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install \"llamalab\[triton\]\""):
        triton_flash.check(AttentionShape(1, 5, 5, 2, 2, 64), torch.device("cpu"))
