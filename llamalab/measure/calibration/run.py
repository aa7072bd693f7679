"""The constants of this machine: under a minute of kernels, a fit, and a check on other shapes.

Every row of the cost table is timed in place: in a block of llamalab's model, between two taps, with activations that
the row before has just written. Constants are fitted on three small blocks (FITTED) at odd token counts, one class of
operation at a time; products only where their weights come from memory. They are checked on blocks of other sizes at
other token counts (CHECKED), run as a clean pass and scaled to the whole model: no checked pass was fitted.

All passes run in the same rounds, so that a slowdown of the machine affects all; the best round of each time is used,
because a disturbance only ever adds time; of ranks that run in step it is the median (peers). Time is a budget: every
pass is tried once, passes that exceed it are left out and named, and rounds follow while there is time. The result is
graded (llamalab.analytic.grades).
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import torch

from llamalab.analytic.grades import Signs, grade
from llamalab.analytic.kept_weights import FEW_ROWS, WIDENED_ROWS
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates, known_rates, predict_pass, total_s
from llamalab.errors import DoesNotFitError
from llamalab.formatting import format_bytes
from llamalab.measure.calibration.blocks import Block, BlockPass, blocks_for
from llamalab.measure.calibration.copies import CopyBudget
from llamalab.measure.calibration.fit import Fit, Kernel, best_rates, fit_class
from llamalab.measure.calibration.peers import Peers
from llamalab.measure.calibration.result import Calibration, Outcome
from llamalab.measure.calibration.trials import Trial, Trials, first_round, trial_bytes
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import (
    available_bytes,
    calibration_name,
    clock_for,
    device_name,
    memory_bytes,
    probe_budget_bytes,
    release_memory,
    resolve_device,
)
from llamalab.measure.roofs.kernel_rows import kernel_rows_here
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.deadline import Deadline, ProgressCallback
from llamalab.model.dtypes import check_number_formats

BUDGET_S = 48.0  # of building and rounds; with imports and the fit it stays under a minute
QUICK_BUDGET_S = 8.0  # the same for ten seconds
MOST_ROUNDS = 60
_MEASURING = 0.93  # share of the time for building and rounds; the rest is for the fit


def calibrate(
    *,
    device: str = "auto",
    dtype: str = "bf16",
    quick: bool = False,
    deadline: Deadline | None = None,
    fit: Sequence[Block] | None = None,
    check: Sequence[Block] | None = None,
    copies_bytes: int | None = None,
    weight_dtype: str | None = None,
    kernel_rows: int | None = None,
    peers: Peers | None = None,
    progress: ProgressCallback = lambda label, done: None,
) -> Calibration:
    """Measure, fit and check on blocks of other sizes: those of the device, where none are named.

    Args:
        device: auto, cpu, cuda or cuda:N.
        dtype: of weights, activations and cache.
        quick: on one block, and checked on one, as far as ten seconds go.
        deadline: when it is to be done (default: BUDGET_S or QUICK_BUDGET_S from now); a slow machine makes
            fewer passes and rounds.
        fit: blocks to fit the constants on.
        check: blocks to check them on.
        copies_bytes: the most that copies of blocks may take, which are made where a cache would hold one block
            (default: the budget of a probe).
        weight_dtype: the storage of quantised matrices (default: they are in `dtype`).
        kernel_rows: rows that their kernel multiplies at most (default: as measured here).
        peers: the processes that calibrate in step with this one (default: none).
        progress: called with the label of each step and the share that is done.

    Raises InputError, MissingError or DoesNotFitError before any work.
    """
    check_number_formats(dtype, weight_dtype)
    deadline, peers = deadline or Deadline(QUICK_BUDGET_S if quick else BUDGET_S), peers or Peers()
    place = resolve_device(device)
    usual = blocks_for(place, quick=quick)
    fit, check = (*usual.fit, usual.naive) if fit is None else fit, usual.check if check is None else check
    chosen = peers.agree(_fitting(available_bytes(place) // (2 * peers.sharing), dtype, fit, check))
    if weight_dtype is not None and kernel_rows is None:
        kernel_rows = peers.agree(kernel_rows_here(place, dtype, weight_dtype))
    load = _load()
    machine = Machine(place, clock_for(place), dtype, weight_dtype=weight_dtype, kernel_rows=kernel_rows)
    with torch.inference_mode():
        measuring = deadline.part(_MEASURING)
        release_memory(place)
        progress("size of the cache", 0.0)
        spare = min(
            probe_budget_bytes(place) // peers.sharing if copies_bytes is None else copies_bytes, chosen.free_bytes
        )
        room = CopyBudget(effective_cache_bytes(place), spare)
        trials = first_round(machine, chosen.fit, chosen.check, room, measuring, progress, peers)
        rounds = _rounds(trials, measuring, progress)
    progress("fitting", 0.95)
    fits = fit_classes(kernel for trial in trials.fitted for kernel in trial.kernels())
    rates = {name: fit.rates for name, fit in fits.items()}
    outcomes, after = tuple(_outcomes(trials.checked, rates)), _load()
    signs = Signs(
        rounds=rounds,
        spread=trials.spread,
        load=None if load is None else load / (os.cpu_count() or 1),
        errors=tuple(one.error for one in outcomes),
        rates=rates,
        lacking=tuple(sorted(CLASSES - rates.keys())),
    )
    return Calibration(
        device=calibration_name(place),
        title=device_name(place),
        memory_bytes=memory_bytes(place),
        dtype=dtype,
        made_on=datetime.now(UTC).date().isoformat(),
        fits=fits,
        fitted_on=tuple(_run(trials.fitted)),
        outcomes=outcomes,
        rounds=rounds,
        took_s=deadline.spent_s,
        load_average=None if load is None or after is None else (load, after),
        grade=grade(signs),
        spread=trials.spread,
        left_out=(*chosen.left_out, *trials.left_out),
        quick=quick,
        weight_dtype=weight_dtype,
    )


def fit_classes(kernels: Iterable[Kernel]) -> dict[str, Fit]:
    """Constants by rate class. The roofs of a kind, for all its classes, are the best rates measured in it.

    Products of several rows with a quantised weight are two classes, with their union as the class of the rest.
    """
    by_kind: dict[str, list[Kernel]] = defaultdict(list)
    by_class: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        by_kind[kernel.op.kind].append(kernel)
        by_class[kernel.op.rate_class].append(kernel)
        if kernel.op.mode in (FEW_ROWS, WIDENED_ROWS):
            by_class[kernel.op.kind].append(kernel)
    roofs = {kind: best_rates(rows) for kind, rows in by_kind.items()}
    return {name: fit_class(rows, *roofs[rows[0].op.kind]) for name, rows in by_class.items()}


class _Fitting(NamedTuple):
    """The blocks that fit into memory, the bytes that stay free beside them, and the blocks that were left out."""

    fit: tuple[Block, ...]
    check: tuple[Block, ...]
    free_bytes: int
    left_out: tuple[str, ...]


def _fitting(free: int, dtype: str, fit: Sequence[Block], check: Sequence[Block]) -> _Fitting:
    """As many blocks as fit into `free` bytes, in order. Raises DoesNotFitError where none does."""
    used, kept = 0, set()
    for block in dict.fromkeys((*fit, *check)):
        if used + (size := trial_bytes(block, dtype)) <= free:
            used += size
            kept.add(block)
    serving = [block for block in fit if block.attention is None]  # a block for attention alone is no calibration
    if not kept.intersection(serving):
        needed = min(trial_bytes(block, dtype) for block in serving)
        raise DoesNotFitError(
            f"a calibration needs {format_bytes(needed)} of the free memory and may take {format_bytes(free)}",
            hint="free some, or take a narrower {dtype}",
        )
    left_out = tuple(
        f"{block.name}: what it may take of the free memory does not hold it"
        for block in (*fit, *check)
        if block not in kept
    )
    return _Fitting(
        tuple(block for block in fit if block in kept),
        tuple(block for block in check if block in kept),
        free - used,
        left_out,
    )


def _rounds(trials: Trials, deadline: Deadline, progress: ProgressCallback) -> int:
    """Run all trials in turn while a round fits into the time; the number of rounds, the first included."""
    done, runs, last_s = 1, trials.all, trials.round_s
    while done < MOST_ROUNDS and deadline.fits(last_s):
        began_s = deadline.spent_s
        for trial in runs if done % 2 == 0 else runs[::-1]:
            trial.run()
        done, last_s = done + 1, deadline.spent_s - began_s
        spent_s = deadline.spent_s
        progress(f"round {done}", 0.05 + 0.89 * spent_s / (spent_s + deadline.left_s))
    return done


def _outcomes(trials: Iterable[Trial], rates: Mapping[str, Rates]) -> Iterable[Outcome]:
    """The checked passes that the constants can predict."""
    for trial in trials:
        ops = trial.ops(trial.block.arch.n_layers)
        if all(known_rates(op, rates) for op in ops):
            yield Outcome(trial.block.name, trial.shape, total_s(ops, predict_pass(ops, rates)), trial.whole_s())


def _run(trials: Iterable[Trial]) -> Iterable[Block]:
    """The blocks with the passes that were run."""
    shapes: dict[Block, list[BlockPass]] = defaultdict(list)
    for trial in trials:
        shapes[trial.block].append(trial.shape)
    return (block._replace(shapes=tuple(found)) for block, found in shapes.items())


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
