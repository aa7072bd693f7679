"""Fused decode steps: in Triton's interpreter all families compute what plain steps do; for every chip they compile."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

import torch

from llamalab.model import StaticKVCache, Transformer
from llamalab.model.fused import step
from llamalab.presets import PRESETS
from tests.kernels import step_grid
from tests.kernels.test_compiled import assert_fits
from tests.kernels.without_gpu import SHARED_BYTES, compiling_for

HALVES = [list(step_grid.CASES)[part::2] for part in range(2)]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """Case -> "ok" or what was wrong; two processes, as Triton decides when it decorates whether it interprets."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.kernels.step_grid", *half],
            env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for half in HALVES
    ]
    found: dict[str, str] = {}
    for process in running:
        out, err = process.communicate()
        assert process.returncode == 0, err[-3000:]
        found |= json.loads(out.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", step_grid.CASES)
def test_a_fused_step_equals_a_plain_one(case: str, verdicts: dict[str, str]) -> None:
    assert verdicts[case] == "ok"


STEPS = {
    "7b": (PRESETS["7b"].arch, "bf16"),
    "70b, fp16": (PRESETS["70b"].arch, "fp16"),
    "norms of heads": (PRESETS["qwen3-8b"].arch, "bf16"),
    "heads partly turned": (PRESETS["phi-4"].arch.replace(rotary_fraction=0.75), "bf16"),
    "fp32": (PRESETS["13b"].arch, "fp32"),
}


@pytest.mark.parametrize("capability", SHARED_BYTES)
@pytest.mark.parametrize("name", STEPS)
def test_a_fused_step_compiles_and_is_few_kernels(name: str, capability: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launched on "meta" as on a GPU: five kernels of ours a layer, none of which spills."""
    monkeypatch.setattr(step, "fused_refusal", lambda model, cache: None)
    arch, dtype = STEPS[name]
    model = Transformer(arch.replace(n_layers=1), dtype=dtype, device="meta")
    cache = StaticKVCache(model.arch, batch=1, max_tokens=4096, dtype=dtype, device="meta")
    with compiling_for(capability) as made, torch.inference_mode():
        logits = step.FusedStep(model, cache)(torch.zeros(1, 1, dtype=torch.int64, device="meta"))
    assert logits.shape == (1, 1, arch.vocab_size)
    assert [kernel.name for kernel in made] == [
        "add_norm_kernel", "turn_append_kernel", "decode_kernel", "add_norm_kernel", "gate_kernel", "add_norm_kernel",
    ]  # fmt: skip
    for kernel in made:
        assert_fits(kernel)
        assert kernel.name != "gate_kernel" or kernel.count(r"ld\.global\.v4") > 0  # whole lines at a time
