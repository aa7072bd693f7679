"""One process that times pieces of one revision of llamalab on request: python -m speedgate.worker.

It reads one request per line, {"benchmark": ..., "rounds": ...}, and answers with the thread's CPU nanoseconds of the
reference and of the benchmark, round by round, or with the reason why this revision has no such benchmark. The first
module search path decides which llamalab it is; this harness is the same for every revision, so imports are relative
and nothing of llamalab's own measuring is used.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import torch

from .benchmarks import BENCHMARKS
from .references import REFERENCES

Work = Callable[[], object]
Pair = tuple[Work, Work]
WARM_UP = 5


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer every line of `requests` until it ends."""
    made: dict[str, Pair] = {}
    for line in requests:
        request = json.loads(line)
        try:
            answer = _answer(made, request["benchmark"], request["rounds"])
        except Exception as error:  # what an old revision cannot do is reported, not an error
            answer = {"missing": f"{type(error).__name__}: {error}".splitlines()[0]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(made: dict[str, Pair], name: str, rounds: int) -> dict[str, Any]:
    if name not in made:
        benchmark = BENCHMARKS[name]
        made[name] = REFERENCES[benchmark.reference](), benchmark.make()
        interleaved(*made[name], WARM_UP)
    # What ran meanwhile in another process has left the caches to itself.
    interleaved(*made[name], 1)
    reference_ns, benchmark_ns = interleaved(*made[name], rounds)
    return {"reference_ns": reference_ns, "benchmark_ns": benchmark_ns}


def interleaved(first: Work, second: Work, rounds: int) -> tuple[list[int], list[int]]:
    """CPU nanoseconds of two pieces of work, one sample of each per round, in alternating order."""
    times: dict[Work, list[int]] = {first: [], second: []}
    for turn in range(rounds):
        for work in (first, second) if turn % 2 == 0 else (second, first):
            # Time on the processor: another process that takes it does not count.
            began = time.thread_time_ns()
            work()
            times[work].append(time.thread_time_ns() - began)
    return times[first], times[second]


def main() -> None:
    """Serve standard input on one thread, without gradients and without the collector."""
    torch.set_num_threads(1)
    gc.disable()
    # Only answers may go to the pipe.
    answers, sys.stdout = sys.stdout, sys.stderr
    with torch.inference_mode():
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
