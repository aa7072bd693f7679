"""A bench of a model that is in memory already: a Transformer, or a model of transformers or PEFT.

It runs in its dtype and with its attention; it is neither rebuilt nor compiled nor changed.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from llamalab.attention import get_backend
from llamalab.errors import InputError
from llamalab.measure.bench.reference import Reference
from llamalab.measure.bench.rows import BenchCase, BenchRow
from llamalab.measure.bench.run import REPEAT_S, measured_rows
from llamalab.measure.bench.settings import BenchSettings
from llamalab.measure.device.machine import available_bytes
from llamalab.measure.target.blocks import Depth
from llamalab.measure.target.target import target_of
from llamalab.measure.timing.deadline import ProgressCallback
from llamalab.records.record import Record


def measure_bench_of(
    model: nn.Module,
    cases: Sequence[BenchCase],
    *,
    name: str = "model",
    repetitions: int = 5,
    repeat_s: float = REPEAT_S,
    reference: Record | None = None,
    progress: ProgressCallback = lambda label, done: None,
) -> Iterator[BenchRow]:
    """One row a case of a model in memory, as llamalab.measure.bench.run.measure_bench gives them.

    Raises InputError for another kind of model, for a compiled one of transformers, and for sizes that make no test.

    Args:
        model: the built-in one, or one of transformers, with its weights.
        cases: the tests.
        name: what the rows call the model.
        repetitions: of each test, at least.
        repeat_s: seconds for which a disturbed test is repeated at most.
        reference: a record whose roofs the rates are compared with.
        progress: called with a label and the share done.
    """
    target = target_of(model)
    if repetitions < 1 or not cases:
        raise InputError(f"a bench must have a test and a repetition; got {len(cases)} and {repetitions}")
    for case in cases:
        case.check()
    bench = BenchSettings(
        name=name,
        arch=target.arch,
        place=target.device,
        dtype=target.dtype,
        backend=get_backend("naive" if target.algorithm == "naive" else "sdpa"),
        compiled="none",
        threads=torch.get_num_threads(),
        repetitions=repetitions,
        depth=Depth(target.arch, target.arch.n_layers),
        free_bytes=available_bytes(target.device) + target.weight_bytes,
        repeat_s=repeat_s,
        given=target,
    )
    known = None if reference is None else Reference(reference, target.arch, target.dtype, target.algorithm)
    return measured_rows(bench, cases, known, progress)
