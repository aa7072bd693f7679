"""The model on processors that know fewer instructions: same logits, whatever kernels are left."""

import json
import os
import subprocess
import sys

import pytest

# What a user of such a machine would not set: the machine is like this.
PRODUCTS = ("SSE41", "AVX2", "AVX512_CORE")  # the most that oneDNN may use
LOOPS = ("default", "avx2")  # and PyTorch's own loops
THREADS = (1, 4)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("products", PRODUCTS)
def test_a_model_is_built_run_and_benched_in_every_dtype(products: str, loops: str, threads: int) -> None:
    forward_in_every_dtype({"ONEDNN_MAX_CPU_ISA": products, "ATEN_CPU_CAPABILITY": loops}, threads)


@pytest.mark.parametrize("threads", THREADS)
def test_the_same_without_onednn(threads: int) -> None:
    forward_in_every_dtype({}, threads, "--without-onednn")


def forward_in_every_dtype(machine: dict[str, str], threads: int, *options: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.machines.forward", *options],
        env=os.environ | machine | {"OMP_NUM_THREADS": str(threads)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert {dtype: one.get("failed") for dtype, one in found.items()} == dict.fromkeys(found)
    assert all(one["within"] for one in found.values()), found
    assert all(one["benched"] == ["pp8", "tg2"] for one in found.values()), found
