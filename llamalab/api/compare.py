"""The call that compares runs."""

import os

from llamalab.api.calculate import Counts
from llamalab.api.calls import answered
from llamalab.api.results import Result
from llamalab.errors import InputError

_RUNS = 'name a file, a folder or a prediction as "7b@h100"'


def compare(
    *runs: str | os.PathLike[str],
    model: str | None = None,
    hardware: str | None = None,
    dtype: str | None = None,
    prompt: Counts | None = None,
    generate: Counts | None = None,
    context: Counts | None = None,
    batch: Counts = 1,
    tensor_parallel: Counts = 1,
    **others: object,
) -> Result:
    """Compare runs with the first one: the differences, their share of the whole, whether they are noise, their causes.

    A run is a file of ours or of llama-bench, vLLM, GuideLLM, AIPerf, optimum-benchmark or PyTorch's profiler, a
    folder of JSON files, or a prediction named "7b@h100". Of a single file the rows are shown beside our predictions.

    Args:
        runs: files, folders of JSON files, or predictions.
        model: the model of files that do not name it.
        hardware: the device of files that do not name it.
        dtype: the dtype of files that do not name it, and of predictions.
        prompt: prompt tokens of predictions (default: 512).
        generate: tokens that they generate (default: 128).
        context: both together, in place of either.
        batch: their sequences.
        tensor_parallel: devices that share the model.
        others: further options of `llamalab compare`, by name: weight_dtype, kv_dtype, attention, and phase, which
            says what the passes of a trace without shapes are.

    >>> import llamalab
    >>> phases = llamalab.compare("7b@a100", "7b@h100").comparisons[0]["phases"]
    >>> [phase["phase"] for phase in phases if phase["delta_s"] < 0]
    ['prefill', 'decode']
    """
    if not runs:
        raise InputError(f"a run must be given; got none; {_RUNS}")
    if wrong := [run for run in runs if not isinstance(run, str | os.PathLike)]:
        raise InputError(f"a run must be named by a text or a path; got {type(wrong[0]).__name__}; {_RUNS}")
    paths = [os.fspath(run) for run in runs]
    given = {f"_{place}": path for place, path in enumerate(paths)}
    return answered(
        "compare",
        model=model,
        hardware=hardware,
        dtype=dtype,
        prompt=prompt,
        generate=generate,
        context=context,
        batch=batch,
        tensor_parallel=tensor_parallel,
        **others,
        **given,
    )
