"""The constants of this machine: under a minute of kernels, a fit, and a check on other shapes.

Every row of the cost table is timed where it runs: in a block of llamalab's model, between two taps,
with activations that the row before has just written. Constants are fitted on three small blocks
(FITTED) at awkward token counts, one class of operation at a time; products only where no cache holds
the weights. They are checked on blocks of other sizes at other token counts (CHECKED), run as a clean pass and scaled
to the whole model: nothing that is checked was fitted.

All of it runs in the same rounds, so that a machine that slows down slows both sides; of each time
the best round counts, because a disturbance only ever adds time.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import torch

from llamalab.analytic.constants import to_json
from llamalab.analytic.ops import Op, forward_ops
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.roofline import Rates, predict_pass, total_s
from llamalab.errors import DoesNotFitError
from llamalab.measure.calibration.blocks import Block, Shape, blocks_for
from llamalab.measure.calibration.fit import Fit, Kernel, best_rates, fit_class
from llamalab.measure.device.machine import (
    available_bytes,
    cache_bytes,
    calibration_name,
    device_name,
    memory_bytes,
    resolve_device,
)
from llamalab.measure.roofs.probes import Machine
from llamalab.measure.timing.clock import clock_for
from llamalab.measure.timing.op_clock import OpClock, cost_rows, part_of
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.compiled import compile
from llamalab.model.dtypes import activation_dtype
from llamalab.units import format_bytes

Progress = Callable[[str, float], None]
BUDGET_S = 42.0  # of rounds; with imports, weights and the fit it stays under a minute
FEWEST_ROUNDS, MOST_ROUNDS = 3, 60
_MARKS = 1 << 14
_WEIGHT = 0.02  # values about as large as a trained model's


class Trial:
    """A pass of a block that can be run again and again; `best` keeps the least seconds of each row."""

    def __init__(self, machine: Machine, block: Block, model: Transformer, shape: Shape, *, clean: bool) -> None:
        self.block, self.shape, self._model = block, shape, model
        self._in_cache = _block_bytes(block, machine.dtype) <= cache_bytes(machine.device)
        kept = {"batch": shape.batch, "max_tokens": shape.past + shape.new}
        self._cache = StaticKVCache(model.arch, **kept, dtype=machine.dtype, device=machine.device)
        # Pages that nobody has written are one page of zeros, which every cache holds.
        for store in (*self._cache.keys, *self._cache.values):
            store.copy_(machine.random(*store.shape))
        self._cache.advance(shape.past)
        size = (shape.batch, shape.new)
        self._tokens_BT = torch.randint(model.arch.vocab_size, size, generator=torch.Generator().manual_seed(shape.new))
        self._tokens_BT = self._tokens_BT.to(machine.device)
        rows = part_of if clean else cost_rows(model.backend.algorithm)
        self._clock = OpClock(clock_for(machine.device, marks=_MARKS), rows)
        self._passes = 1 if machine.device.type == "cpu" else 4  # a device that is ahead of the host needs a few
        self.best: dict[str, float] = {}

    def run(self) -> None:
        """Run the pass once more, and keep what was faster than before."""
        for _ in range(self._passes):
            self._cache.rewind(self.shape.past, lossy=True)
            self._clock.start()
            self._model(self._tokens_BT, cache=self._cache, tap=self._clock, logits="last")
        for rows in self._clock.read():
            for name, seconds in rows.items():
                self.best[name] = min(seconds, self.best.get(name, seconds))

    def ops(self, layers: int) -> tuple[Op, ...]:
        """The cost table of the pass on a model of so many blocks."""
        arch = self.block.arch.replace(n_layers=layers)
        new, past = self.shape.new, self.shape.past
        dtype, algorithm = self._cache.dtype, self._model.backend.algorithm
        return forward_ops(
            arch, new_tokens=new, context_tokens=past + new, batch=self.shape.batch, dtype=dtype, attention=algorithm
        )

    def kernels(self) -> list[Kernel]:
        """Every row of the pass with its best time, products only where their weights come from memory."""
        ops, pass_s = self.ops(1), sum(self.best.values())
        times = [(op, self.best[op.name]) for op in ops if op.kind != "gemm" or not self._in_cache]
        return [Kernel(op, seconds, seconds / pass_s) for op, seconds in times]

    def whole_s(self) -> float:
        """Seconds of the whole model: embedding, as many blocks as it has, head."""
        return self.best["embedding"] + self.block.arch.n_layers * self.best["block"] + self.best["head"]


class Outcome(NamedTuple):
    """A checked pass: predicted and measured seconds of the whole model."""

    model: str
    shape: Shape
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_s / self.measured_s - 1


class Calibration(NamedTuple):
    """The constants of this machine, what they were fitted on, and how well they predict other passes."""

    device: str
    title: str
    memory_bytes: int
    dtype: str
    made_on: str
    fits: dict[str, Fit]
    fitted_on: tuple[Block, ...]
    outcomes: tuple[Outcome, ...]
    rounds: int
    took_s: float
    load_average: tuple[float, float] | None

    @property
    def rates(self) -> dict[str, Rates]:
        """Rates by class."""
        return {name: fit.rates for name, fit in self.fits.items()}

    def error(self, phase: str) -> float:
        """Mean absolute relative error of a phase's checked passes."""
        errors = [abs(outcome.error) for outcome in self.outcomes if outcome.shape.phase == phase]
        return sum(errors) / len(errors)

    @property
    def json(self) -> str:
        """The file that llamalab.analytic.constants reads."""
        points = [
            {"model": one.model, **one.shape._asdict(), "predicted_s": one.predicted_s, "measured_s": one.measured_s}
            for one in self.outcomes
        ]
        errors = {f"{phase}_error": self.error(phase) for phase in ("prefill", "decode")}
        return to_json(
            self.device, self.dtype, self.made_on, self.rates, errors | {"points": points},
            title=self.title, memory_bytes=self.memory_bytes, rounds=self.rounds, load_average=self.load_average,
            fitted={name: {"kernels": fit.kernels, "error": fit.error} for name, fit in self.fits.items()},
            fitted_on=[_described(block) for block in self.fitted_on],
        )  # fmt: skip


def calibrate(
    *, device: str = "auto", dtype: str = "bf16", budget_s: float = BUDGET_S, fit: Sequence[Block] | None = None,
    check: Sequence[Block] | None = None, progress: Progress = lambda label, done: None,
) -> Calibration:  # fmt: skip
    """Measure, fit and check on blocks of other sizes: those of the device, where none are named.

    Raises InputError, MissingError or DoesNotFitError before any work.
    """
    activation_dtype(dtype)
    place = resolve_device(device)
    usual = blocks_for(place.type)
    fit, check = usual.fit if fit is None else fit, usual.check if check is None else check
    blocks = _checked_here(place, dtype, fit, check)
    began, load = time.perf_counter(), _load()
    machine = Machine(place, clock_for(place), dtype)
    with torch.inference_mode():
        progress("building blocks", 0.0)
        fitted = [trial for block in fit for trial in _trials(machine, block, clean=False)]
        checked = [trial for block in blocks for trial in _trials(machine, block, clean=True)]
        rounds = _rounds([*fitted, *checked], budget_s, progress)
    progress("fitting", 0.95)
    fits = fit_classes(kernel for trial in fitted for kernel in trial.kernels())
    rates = {name: fit.rates for name, fit in fits.items()}
    after = _load()
    return Calibration(
        device=calibration_name(place),
        title=device_name(place),
        memory_bytes=memory_bytes(place),
        dtype=dtype,
        made_on=datetime.now(UTC).date().isoformat(),
        fits=fits,
        fitted_on=tuple(fit),
        outcomes=tuple(_outcome(trial, rates) for trial in checked),
        rounds=rounds,
        took_s=time.perf_counter() - began,
        load_average=None if load is None or after is None else (load, after),
    )


def fit_classes(kernels: Iterable[Kernel]) -> dict[str, Fit]:
    """Constants by rate class. The roofs of a kind, for all its classes, are the best rates seen in it."""
    by_kind: dict[str, list[Kernel]] = defaultdict(list)
    by_class: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        by_kind[kernel.op.kind].append(kernel)
        by_class[kernel.op.rate_class].append(kernel)
    roofs = {kind: best_rates(rows) for kind, rows in by_kind.items()}
    return {name: fit_class(rows, *roofs[rows[0].op.kind]) for name, rows in by_class.items()}


def _checked_here(place: torch.device, dtype: str, fit: Sequence[Block], check: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks to check that fit into half of the free memory beside those to fit."""
    free, used, chosen = available_bytes(place) // 2, sum(_block_bytes(block, dtype) for block in fit), []
    for block in check:
        used += _block_bytes(block, dtype)
        if used <= free:
            chosen.append(block)
    if not chosen:
        raise DoesNotFitError(
            f"a calibration needs {format_bytes(used)} in half of the free memory; that is {format_bytes(free)}; "
            "free some, or take a narrower --dtype"
        )
    return tuple(chosen)


def _block_bytes(block: Block, dtype: str) -> int:
    return weight_bytes(block.arch.replace(n_layers=1), dtype)


def _trials(machine: Machine, block: Block, *, clean: bool) -> list[Trial]:
    model = Transformer(block.arch.replace(n_layers=1), dtype=machine.dtype, device="meta")
    model = model.to_empty(device=machine.device).eval()
    for weight in model.parameters():
        weight.copy_(machine.random(*weight.shape).mul_(_WEIGHT))
    compile(model, scope="none")
    return [Trial(machine, block, model, shape, clean=clean) for shape in block.shapes]


def _rounds(trials: list[Trial], budget_s: float, progress: Progress) -> int:
    """Run all trials in turn until the budget is spent; the number of rounds."""
    began, done = time.perf_counter(), 0
    while done < MOST_ROUNDS:
        for trial in trials if done % 2 == 0 else trials[::-1]:
            trial.run()
        done += 1
        spent_s = time.perf_counter() - began
        progress(f"round {done}", min(0.94, 0.05 + 0.89 * spent_s / budget_s))
        if done >= FEWEST_ROUNDS and spent_s * (done + 1) / done > budget_s:
            break
    return done


def _outcome(trial: Trial, rates: Mapping[str, Rates]) -> Outcome:
    ops = trial.ops(trial.block.arch.n_layers)
    return Outcome(trial.block.name, trial.shape, total_s(ops, predict_pass(ops, rates)), trial.whole_s())


def _described(block: Block) -> dict[str, object]:
    shapes = [shape._asdict() for shape in block.shapes]
    return {"block": block.name, "arch": block.arch.as_dict(), "shapes": shapes}


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
