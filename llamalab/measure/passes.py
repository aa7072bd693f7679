"""What does one forward pass cost? Clean times by part, times by op, memory and kernel: one Pass.

Clean timing and the op-by-op pass run in the same rounds, beside a pass without any tap, so that
the cost of looking is itself measured. Memory and kernel are profiled apart from all timing.
B batch, T new tokens.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.measure.blocks import Share
from llamalab.measure.clock import clock_for
from llamalab.measure.kernels import fused_kernel
from llamalab.measure.memory import measure_peak
from llamalab.measure.op_clock import OpClock, cost_rows, part_of
from llamalab.measure.timer import Plan, paired_ratio, time_variants
from llamalab.model import StaticKVCache, Transformer
from llamalab.records import Basis, Measurement, Pass

_MARKS = 1 << 14


class Bench(NamedTuple):
    """A model of the share's blocks with its cache, and the element type's name."""

    model: Transformer
    cache: StaticKVCache
    share: Share
    dtype: str

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.norm.weight.device

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights and cache."""
        return sum(weight.nbytes for weight in self.model.parameters()) + self.cache.nbytes

    def tokens(self, batch: int, new_tokens: int) -> Tensor:
        """tokens_BT, random but the same on every machine."""
        ids_BT = torch.randint(
            self.share.arch.vocab_size, (batch, new_tokens), generator=torch.Generator().manual_seed(new_tokens)
        )
        return ids_BT.to(self.device)


def measure_pass(bench: Bench, phase: str, plan: Plan, *, new_tokens: int, past_tokens: int = 0) -> Pass:
    """Measure passes of `new_tokens` onto `past_tokens` that the cache already holds."""
    tokens_BT = bench.tokens(bench.cache.batch, new_tokens)
    parts, ops = (OpClock(clock_for(bench.device, marks=_MARKS), rows) for rows in _row_maps(bench))

    def run(tap: OpClock | None = None) -> None:
        bench.cache.rewind(past_tokens)
        if tap is not None:
            tap.start()
        bench.model(tokens_BT, cache=bench.cache, tap=tap, logits="last")

    variants = {"whole": run, "parts": lambda: run(parts), "ops": lambda: run(ops)}
    samples = time_variants(variants, clock_for(bench.device), plan)
    rounds = len(samples["whole"])
    memory = measure_peak(run, bench.device, resident_bytes=bench.resident_bytes)
    return Pass(
        phase=phase,
        batch=bench.cache.batch,
        new_tokens=new_tokens,
        context_tokens=past_tokens + new_tokens,
        dtype=bench.dtype,
        attention=bench.model.backend.name,
        algorithm=bench.model.backend.algorithm,
        kernel=fused_kernel(run),
        layers_measured=bench.share.layers,
        layers_total=bench.share.layers_total,
        # The warm-up's passes came first.
        parts=_rows(parts.read()[-rounds:], bench.share),
        ops=_rows(ops.read()[-rounds:], bench.share),
        memory=memory,
        observer_ratio=paired_ratio(samples["ops"], samples["whole"]),
        whole_s=samples["whole"],
    )


def _row_maps(bench: Bench) -> tuple[Callable[[str], str | None], Callable[[str], str | None]]:
    return part_of, cost_rows(bench.model.backend.algorithm)


def _rows(passes: list[dict[str, float]], share: Share) -> list[Measurement]:
    """One row per name; a block's sample is the mean over the blocks of its pass."""
    whole = share.layers == share.layers_total
    rows = []
    for name in passes[0]:
        per_block = name == "block" or name.startswith("layers.")
        basis: Basis = "extrapolated" if per_block and not whole else "measured"
        samples = [one[name] / (share.layers if per_block else 1) for one in passes]
        rows.append(
            Measurement(name=name, samples_s=samples, count=share.layers_total if per_block else 1, basis=basis)
        )
    return rows
