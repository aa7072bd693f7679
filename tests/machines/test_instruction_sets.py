"""The model on processors that know fewer instructions: same logits, whatever kernels are left."""

import json
import os
import subprocess
import sys

import pytest

# What a user of such a machine would not set: the machine is like this.
MACHINES = {
    "SSE 4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"},
    "AVX2, products alone": {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "4"},
    "AVX2, loops alone": {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "4"},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OMP_NUM_THREADS": "1"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "4"},
    "no oneDNN": {"OMP_NUM_THREADS": "1"},
}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_model_is_built_run_and_benched_in_every_dtype(machine: str) -> None:
    options = ["--without-onednn"] if machine == "no oneDNN" else []
    ended = subprocess.run(
        [sys.executable, "-m", "tests.machines.forward", *options],
        env=os.environ | MACHINES[machine], capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert {dtype: one.get("failed") for dtype, one in found.items()} == dict.fromkeys(found)
    assert all(one["within"] for one in found.values()), found
    assert all(one["benched"] == ["pp8", "tg2"] for one in found.values()), found
