"""Peak memory of loading and of one look at all weights: the weights and a part of 1 GB."""

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

# A sum reads every value and needs no copy of them.
SCRIPT = """
import sys
import llamalab
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
small, large, dtype = sys.argv[1:]
assert all(weight.sum() == weight.sum() for weight in llamalab.load(small, dtype=dtype).parameters())
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # everything is imported: the peak is what it is now
before = peak()
model = llamalab.load(large, dtype=dtype)
assert all(weight.sum() == weight.sum() for weight in model.parameters())
print(peak() - before)
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
@pytest.mark.parametrize(("form", "dtype"), [("shards", "bf16"), ("hf", "fp16"), ("hf", "bf16"), ("q8_0", "bf16")])
def test_loading_takes_the_weights_and_little_more(tmp_path: Path, form: str, dtype: str) -> None:
    paths = [str(write(tmp_path / str(arch.dim), arch, form)) for arch in (SMALL, ARCH)]
    # A process for each: memory that one case has freed would hide what the next one takes.
    done = subprocess.run([sys.executable, "-c", SCRIPT, *paths, dtype], capture_output=True, text=True, check=True)
    weights = 2 * parameter_count(ARCH)
    assert weights / 2 < int(done.stdout) < weights + ALLOWED_BYTES
