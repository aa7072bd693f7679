"""Passes of single blocks that a calibration times repeatedly, as many as fit into its time.

Products are fitted only where their weights come from memory. Where one block's weights would stay in a cache, passes
alternate over copies of the block, until the bytes read in between exceed the cache, as far as memory allows.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import torch

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.op import Op, add_up
from llamalab.analytic.pass_shape import PassShape
from llamalab.measure.calibration.blocks import Block, BlockPass
from llamalab.measure.calibration.copies import CopyBudget, Ring, Turns, block_bytes, ring_of
from llamalab.measure.calibration.fit import Kernel
from llamalab.measure.calibration.peers import Peers
from llamalab.measure.device.machine import clock_for
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.deadline import Deadline, ProgressCallback, now_s
from llamalab.measure.timing.op_clock import MARKS_OF_A_PASS, OpClock, cost_rows, model_part_of
from llamalab.model import StaticKVCache
from llamalab.model.quantised.weights import kept_of
from llamalab.units import KeptWeights

ENOUGH_ROUNDS = 3  # a pass is kept only where it can be run this often in time
_FIT_SHARE = 0.6  # share of the time for fitted passes; the rest is for checked ones


class Trial:
    """A pass of a block that can be run again and again, by all peers at the same moment."""

    def __init__(
        self, machine: Machine, block: Block, ring: Ring, shape: BlockPass, peers: Peers, *, clean: bool
    ) -> None:
        self.block, self.shape, self.clean, self.ring_of, self._peers = block, shape, clean, ring, peers
        arch, kept = ring.first.arch, {"batch": shape.batch, "max_tokens": shape.past + shape.new}
        self._cache = StaticKVCache(arch, **kept, dtype=machine.dtype, device=machine.device)
        # Pages that were never written all map to one page of zeros, which every cache holds.
        for store in (*self._cache.keys, *self._cache.values):
            store.copy_(machine.random(*store.shape))
        self._cache.advance(shape.past)
        size = (shape.batch, shape.new)
        self._tokens_BT = torch.randint(arch.vocab_size, size, generator=torch.Generator().manual_seed(shape.new))
        self._tokens_BT = self._tokens_BT.to(machine.device)
        rows = model_part_of if clean else cost_rows(ring.first.backend.algorithm)
        self._clock = clock_for(machine.device, marks=MARKS_OF_A_PASS)
        self._ops, self._launch_s = OpClock(self._clock, rows), 0.0
        self._times_s: dict[str, list[float]] = {}
        self.rounds_s: list[float] = []

    def run(self) -> None:
        """Run the pass once more, and keep the seconds of each row."""
        self._peers.meet()
        self._cache.rewind(self.shape.past, lossy=True)
        model = next(self.ring_of.turns)
        # The device is held for the last measured launch time, so that it finds all of it launched.
        self._clock.hold(self._launch_s)
        began_s = now_s()
        self._ops.start()
        model(self._tokens_BT, cache=self._cache, tap=self._ops, logits="last")
        self._launch_s = now_s() - began_s
        (rows,) = self._ops.read()
        for name, seconds in rows.items():
            self._times_s.setdefault(name, []).append(seconds)
        self.rounds_s.append(sum(rows.values()))

    def ops(self, layers: int) -> tuple[Op, ...]:
        """The cost table of the pass on a model of so many blocks."""
        algorithm = self.ring_of.first.backend.algorithm
        return _ops(self.block, self.shape, layers, self._cache.dtype, algorithm, kept_of(self.ring_of.first))

    def kernels(self) -> list[Kernel]:
        """Every row of the pass with its typical time, products only where their weights come from memory."""
        times_s = self._typical_s
        pass_s = sum(times_s.values())
        ops = [op for op in self.ops(1) if op.kind != "gemm" or not self.ring_of.in_cache]
        return [Kernel(op, times_s[op.name], times_s[op.name] / pass_s) for op in ops]

    def whole_s(self) -> float:
        """Seconds of the whole model: embedding, as many blocks as it has, head."""
        times_s = self._typical_s
        return times_s["embedding"] + self.block.arch.n_layers * times_s["block"] + times_s["head"]

    @property
    def _typical_s(self) -> dict[str, float]:
        return {name: self._peers.typical(times_s) for name, times_s in self._times_s.items()}


class Trials(NamedTuple):
    """Passes that ran once and fit into the time: those to fit, those to check, and the names of the others."""

    fitted: list[Trial]
    checked: list[Trial]
    left_out: list[str]
    round_s: float

    @property
    def all(self) -> list[Trial]:
        """Both."""
        return [*self.fitted, *self.checked]

    @property
    def spread(self) -> float:
        """Median over the passes of their median time over their best, less 1."""
        return median(median(trial.rounds_s) / min(trial.rounds_s) - 1 for trial in self.all)


class _Pace:
    """Seconds per byte of weights to build, and per FLOP and byte of a pass, as measured so far."""

    def __init__(self) -> None:
        self.build_s = self.flop_s = self.round_s = 0.0

    def built(self, size_bytes: int, seconds: float) -> None:
        self.build_s = max(self.build_s, seconds / size_bytes)

    def ran(self, flops: int, seconds: float) -> None:
        # The last pass predicts the next, larger one: small ones consist of call overhead.
        self.flop_s, self.round_s = seconds / max(1, flops), self.round_s + seconds


def first_round(
    machine: Machine,
    fit: Sequence[Block],
    check: Sequence[Block],
    room: CopyBudget,
    deadline: Deadline,
    progress: ProgressCallback,
    peers: Peers,
) -> Trials:
    """Build the blocks and run every pass once; a pass for which ENOUGH_ROUNDS rounds exceed the time is left out.

    The first prompt and the first decode step are run in any case: without one of them its phase has no constants.
    """
    found, pace = Trials([], [], [], 0.0), _Pace()
    fit_by = deadline.part(_FIT_SHARE)
    sizes = {block: block_bytes(block, machine.dtype) for block in (*fit, *check)}
    # Largest first: it needs the fewest copies, and products have the largest share in it. A block with another
    # attention is last: it serves attention alone, and its products need no copies.
    turns = {
        block: room.copies(sizes[block]) if block.attention is None else Turns(1, in_cache=True)
        for block in sorted(sizes, key=lambda block: -sizes[block])
    }
    for block, clean in (*((block, False) for block in fit), *((block, True) for block in check)):
        progress(f"building {block.name}", 0.0)
        kept = found.checked if clean else found.fitted
        until = deadline if clean else fit_by
        size = turns[block].copies * sizes[block]
        if found.all and not until.fits(pace.build_s * size + ENOUGH_ROUNDS * pace.round_s):
            found.left_out.append(f"{block.name}: there was no time to build it")
            continue
        began = now_s()
        ring = ring_of(machine, block, turns[block])
        pace.built(size, now_s() - began)
        kept += _trials(machine, block, ring, until, pace, found, peers, clean=clean)
    return found._replace(round_s=pace.round_s)


def trial_bytes(block: Block, dtype: str) -> int:
    """Bytes of a block during calibration: weights, a cache for each pass, the largest activations."""
    arch = block.arch.replace(n_layers=1)
    caches = sum(kv_bytes(arch, batch=one.batch, seq=one.past + one.new, dtype=dtype) for one in block.shapes)
    activations = (
        peak_activation_bytes(
            arch,
            PassShape(
                new_tokens=one.new,
                context_tokens=one.past + one.new,
                batch=one.batch,
                dtype=dtype,
                attention=block.attention or "flash",
            ),
        ).bytes
        for one in block.shapes
    )
    return block_bytes(block, dtype) + caches + max(activations, default=0)


def _trials(
    machine: Machine,
    block: Block,
    ring: Ring,
    until: Deadline,
    pace: _Pace,
    found: Trials,
    peers: Peers,
    *,
    clean: bool,
) -> list[Trial]:
    """The block's passes that fit into the time or are the first of their phase, each run once, the cheapest first."""
    algorithm = ring.first.backend.algorithm
    kept: list[Trial] = []
    known = {trial.shape.phase for trial in found.fitted}
    flops = {
        shape: add_up(_ops(block, shape, 1, machine.dtype, algorithm, None)).flops_causal for shape in block.shapes
    }
    for shape in sorted(block.shapes, key=lambda shape: flops[shape]):
        estimate_s = pace.flop_s * flops[shape]
        fits = until.fits(estimate_s + (ENOUGH_ROUNDS - 1) * (pace.round_s + estimate_s))
        if shape.phase in known and not fits:
            found.left_out.append(f"{block.name}, {shape.batch} x {shape.new} tokens: there was no time for it")
            continue
        trial = Trial(machine, block, ring, shape, peers, clean=clean)
        first = not found.all and not kept
        if first:
            trial.run()  # the first pass of a process is not representative
        pace.ran(flops[shape], _best_s(trial, until, ENOUGH_ROUNDS if first else 1))
        kept.append(trial)
        known.add(shape.phase)
    return sorted(kept, key=lambda trial: block.shapes.index(trial.shape))


def _best_s(trial: Trial, until: Deadline, runs: int) -> float:
    """Seconds of the best of several runs, as many as fit: a single one may be disturbed."""
    runs_s: list[float] = []
    while not runs_s or (len(runs_s) < runs and until.fits(runs_s[-1])):
        began = now_s()
        trial.run()
        runs_s.append(now_s() - began)
    return min(runs_s)


def _ops(
    block: Block, shape: BlockPass, layers: int, dtype: str, algorithm: str, kept: KeptWeights | None
) -> tuple[Op, ...]:
    return model_ops(
        block.arch.replace(n_layers=layers),
        PassShape(
            new_tokens=shape.new,
            context_tokens=shape.past + shape.new,
            batch=shape.batch,
            dtype=dtype,
            attention=algorithm,
        ),
        kept=kept,
    )
