"""How much memory does loading take at its peak, in a process of its own? At most the weights and a part of 1 GB."""

import subprocess
import sys
from pathlib import Path

import pytest

from llamalab.analytic.params import parameter_count
from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.gguf_write import write_gguf
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.checkpoints.meta import write_meta
from llamalab.model import build

# As many layers as 7B, so that what is kept of each shows: a second copy would be 235 MB.
ARCH = LlamaArch(512, 32, 8, 8, 1376, 16_000)
SMALL = LlamaArch(64, 2, 4, 2, 96, 100)
ALLOWED_BYTES = 64 * 2**20

SCRIPT = """
import gc, sys
import llamalab
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
for small, large, dtype in zip(*[iter(sys.argv[1:])] * 3):
    llamalab.load(small, dtype=dtype)  # everything is imported
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is what it is now
    before = peak()
    model = llamalab.load(large, dtype=dtype)
    assert all(weight.isfinite().all() for weight in model.parameters())
    print(peak() - before)
    del model
    gc.collect()
"""


def write(path: Path, arch: LlamaArch, form: str) -> Path:
    weights = weights_of(build(arch))
    if form in ("gguf", "q8_0"):
        write_gguf(path, weights, dtype=None, quantised="q8_0" if form == "q8_0" else None, words=None)
        return path
    path.mkdir()
    if form == "hf":
        write_huggingface(path, weights, dtype=None, shard_bytes=100 * 10**6)
    else:
        write_meta(path, weights, dtype=None, shards=2 if form == "shards" else 1)
    return path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_loading_takes_the_weights_and_little_more(tmp_path: Path) -> None:
    arguments = []
    for form, dtype in (("shards", "bf16"), ("hf", "fp16"), ("q8_0", "bf16")):
        paths = [write(tmp_path / f"{form}-{arch.dim}", arch, form) for arch in (SMALL, ARCH)]
        arguments += [*map(str, paths), dtype]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    weights = 2 * parameter_count(ARCH)
    extra = [int(line) - weights for line in done.stdout.split()]
    assert len(extra) == 3
    assert max(extra) < ALLOWED_BYTES
