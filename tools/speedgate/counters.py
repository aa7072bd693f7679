"""What does llamalab do, counted: numbers that no clock and no neighbour can change.

    python -m tools.speedgate.counters        one JSON object: {scope: {name: number, counts by name or names}}

A scope names what its numbers may depend on: nothing, this Python's standard library, or this torch on this kind of
processor. What one block does is the difference between a model of two blocks and one of one block, so that the
model's inner structure is free to change. Passes run in fp32 on one thread without gradients.
"""

import json
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from llamalab import LlamaArch, StaticKVCache, Transformer, build
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count, weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.measure.device.peak_memory import running_peak
from llamalab.measure.device.profiler import profiled
from llamalab.presets import PRESETS
from tests.model.test_flops import count_fused

ROOT = Path(__file__).resolve().parents[2]
ARCH = LlamaArch(dim=96, n_layers=1, n_heads=6, n_kv_heads=2, ffn_dim=160, vocab_size=101)
PHASES = {"prefill": (24, 0), "decode": (1, 24)}  # new tokens, tokens in the cache
MODELS = ("7b", "13b", "70b")
KV = """
import sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import contextlib, io
before |= set(sys.modules)
import llamalab.cli
with contextlib.redirect_stdout(io.StringIO()):
    assert llamalab.cli.main(["kv", "--context", "4096", "--batch", "16"]) == 0
print(*sorted(set(sys.modules) - before))
"""
Counters = dict[str, dict[str, Any]]


def all_counters() -> Counters:
    """Every counter of this revision on this machine, by scope."""
    own, foreign = _kv_modules()
    return {
        "everywhere": _calculated() | {"modules of llamalab that `llamalab kv` imports": own},
        python_scope(): {"other modules that `llamalab kv` imports": foreign},
        torch_scope(): _passes() | _graphs(),
    }


def python_scope() -> str:
    """The version whose standard library imports what it imports."""
    return "python " + ".".join(platform.python_version_tuple()[:2])


def torch_scope() -> str:
    """The version and processor that decide what an operation is made of."""
    return f"torch {'.'.join(torch.__version__.split('.')[:2])}, {platform.machine()}"


def _calculated() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in MODELS:
        arch = PRESETS[name].arch
        prefill, decode = (
            forward_ops(arch, PassShape(new_tokens=2048)),
            forward_ops(arch, PassShape(new_tokens=1, context_tokens=4096)),
        )
        found[name] = {
            "parameters": parameter_count(arch),
            "parameters as built": sum(weight.numel() for weight in build(arch, device="meta").parameters()),
            "weight bytes, bf16": weight_bytes(arch, "bf16"),
            "KV bytes, 4096 tokens, bf16": kv_bytes(arch, seq=4096, dtype="bf16"),
            "KV bytes as allocated": StaticKVCache(arch, batch=1, max_tokens=4096, dtype="bf16", device="meta").nbytes,
            "FLOPs, prefill of 2048": add_up(prefill).flops_causal,
            "bytes, prefill of 2048": sum(op.count * op.bytes for op in prefill),
            "FLOPs, decode at 4096": add_up(decode).flops_causal,
            "bytes, decode at 4096": sum(op.count * op.bytes for op in decode),
        }
    return found


def _kv_modules() -> tuple[list[str], list[str]]:
    """Modules of llamalab and others, private ones apart, in an interpreter without site packages."""
    command = [sys.executable, "-S", "-P", "-c", KV, str(ROOT)]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    public = [name for name in names if not name.startswith("_")]
    own = [name for name in public if name.partition(".")[0] == "llamalab"]
    return own, [name for name in public if name not in own]


class Pass:
    """One forward pass of a model with so many blocks, ready to be repeated."""

    def __init__(self, n_layers: int, phase: str) -> None:
        self.new_tokens, self.cached = PHASES[phase]
        arch = ARCH.replace(n_layers=n_layers)
        self.model: Transformer = build(arch, dtype="fp32")
        self.cache = StaticKVCache(arch, batch=1, max_tokens=self.new_tokens + self.cached, dtype="fp32")
        self.tokens_BT = torch.arange(self.new_tokens)[None]
        if self.cached:
            self.model(torch.arange(self.cached)[None], cache=self.cache)

    def __call__(self) -> None:
        self.cache.rewind(self.cached)
        self.model(self.tokens_BT, cache=self.cache, logits="last")


class _OpCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def ops_of(work: Any) -> Counter[str]:
    """How often each aten operation runs in one call."""
    counter = _OpCounter()
    with counter:
        work()
    return counter.counts


def _allocations(work: Any) -> list[int]:
    work()  # what libraries keep from their first use is no part of a pass
    events = [event for event in profiled(work, memory=True) if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def _flops(work: Any) -> int:
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={fused: count_fused}) as counter:
        work()
    return int(counter.get_total_flops())


@torch.no_grad()
def _passes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for phase, (new_tokens, cached) in PHASES.items():
        one, two = Pass(1, phase), Pass(2, phase)
        ops = ops_of(two)
        ops.subtract(ops_of(one))
        memory = {name: _allocations(work) for name, work in (("one", one), ("two", two))}
        taken = {name: sum(size for size in changes if size > 0) for name, changes in memory.items()}
        table = forward_ops(
            two.model.arch, PassShape(new_tokens=new_tokens, context_tokens=new_tokens + cached, dtype="fp32")
        )
        found |= {
            f"{phase}, aten ops of a block": sum(ops.values()),
            f"{phase}, aten ops of a block by name": {name: count for name, count in sorted(ops.items()) if count},
            f"{phase}, bytes a block allocates": taken["two"] - taken["one"],
            f"{phase}, allocations and releases of a block": len(memory["two"]) - len(memory["one"]),
            f"{phase}, peak bytes of two blocks": running_peak(memory["two"]),
            f"{phase}, FLOPs of two blocks, counted": _flops(two),
            f"{phase}, FLOPs of two blocks, from the op table": add_up(table).flops_full,
        }
    return found


@torch.no_grad()
def _graphs() -> dict[str, Any]:
    """Graphs of the whole model: one prefill and four decode steps, whose cache grows."""
    counter = CompileCounterWithBackend("aot_eager")
    prefill = Pass(2, "prefill")
    model: Any = torch.compile(prefill.model, backend=counter)
    cache = StaticKVCache(prefill.model.arch, batch=1, max_tokens=32, dtype="fp32")
    model(prefill.tokens_BT, cache=cache, logits="last")
    after_prefill = counter.frame_count
    for _ in range(4):
        model(prefill.tokens_BT[:, :1], cache=cache, logits="last")
    return {
        "graphs, prefill": after_prefill,
        "graphs, prefill and four decode steps": counter.frame_count,
        "calls in these graphs": counter.op_count,
    }


def main() -> None:
    """Print the counters."""
    torch.set_num_threads(1)
    print(json.dumps(all_counters()))


if __name__ == "__main__":
    main()
