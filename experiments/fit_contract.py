"""Random runs of `llamalab fit`'s answers, each for real in a process with a limit of memory.

    python -m experiments.fit_contract [--runs 300] [--seed 1] [--workers 1] [--out PATH.json]

A run builds a model with its cache, fills the cache in passes and decodes. In forked processes of their own, with the
kernel's limit on private memory (RLIMIT_DATA) above what Python and torch held before:

    peak    without a limit: the growth of the resident peak, against the predicted sum; bar 2 %
    fits    with the sum and its margin as the limit: must not die
    unfit   with the sum less its margin: must die. Where oneDNN gets no memory torch warns, switches it off and goes on
            with another library; the run that was asked for has died there, and the warning is an error
    slow    with the least less its margin, and torch may go on so: must die. Kernels and scratch are not in the least

The margin is 4 % and 4 MiB; `llamalab fit --runtime cpu` states 4 % of a sum with 400 MiB more, which is wider.
Kernel scratch and compiled kernels are probed on this machine, shape by shape; its context is what was held before. The
process gives back what it frees, as a caching allocator's statistics would: glibc maps blocks of 64 KiB and more, and
MKL keeps no buffers (GIVES_BACK). Without these two settings a heap that is torn holds more than any sum.
"""

import ctypes
import json
import os
import random
import resource
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from itertools import islice, product
from statistics import median
from typing import Any, NamedTuple

import torch

from experiments.common import results as answers
from llamalab.analytic.batches import chunks
from llamalab.analytic.fit import needs
from llamalab.analytic.fit_run import FitRun
from llamalab.analytic.kernel_shapes import kernel_shapes
from llamalab.analytic.runtimes import RUNTIMES
from llamalab.arch import LlamaArch
from llamalab.formatting import format_bytes
from llamalab.measure.device.peak_memory import process_peak_bytes
from llamalab.measure.profile.compiled import compile_shapes, held_here
from llamalab.measure.profile.scratch import ProbedScratch
from llamalab.model import StaticKVCache, Transformer

QUESTION = "Does what `llamalab fit` says hold? Random runs, each for real in a process with a limit of memory."

LEAST, MOST, BAR = 96 * 2**20, 224 * 2**20, 0.02
MARGIN_BYTES = 4 * 2**20  # beside the share: what a process of any size has of stacks, tables and small objects
FALLS_BACK = r"mkldnn_\w+ failed, switching to"  # torch's warning
BACKENDS = {"flash": "sdpa", "naive": "naive", "chunked": "chunked"}
HERE = RUNTIMES["cpu"]._replace(context_bytes=0, workspace_bytes=0, fragmentation=0.0)
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MKL_DISABLE_FAST_MM": "1"}
WARM, DIED = LlamaArch(dim=128, n_layers=1, n_heads=4, n_kv_heads=2, ffn_dim=128, vocab_size=99), 3


class Found(NamedTuple):
    """What a run held at its peak, and whether it ended in each of its limits."""

    peak_bytes: int | None
    fits_ran: bool
    unfit_ran: bool
    slow_ran: bool


def draw(chance: random.Random) -> FitRun:
    """A run of hundreds of MiB: MHA to MQA, bf16 or fp32, a prompt at once or in chunks, and some tokens after it."""
    head_dim, kv_heads, group = chance.choice((32, 64, 128)), chance.choice((1, 2, 4, 8)), chance.choice((1, 2, 4, 8))
    heads = min(kv_heads * group, 2048 // head_dim // kv_heads * kv_heads)
    dim = heads * head_dim
    wider = chance.choice((dim, 5 * dim // 2, 4 * dim)) + 8 * chance.randint(0, 9)
    arch = LlamaArch(
        dim=dim,
        n_layers=chance.randint(1, 8),
        n_heads=heads,
        n_kv_heads=kv_heads,
        ffn_dim=wider,
        vocab_size=chance.choice((512, 4000, 32_000)),
    )
    dtype, prompt = chance.choice(("bf16", "fp32")), chance.randint(2, 1500)
    return FitRun(
        arch, prompt + chance.randint(1, 4), batch=chance.choice((1, 1, 2, 3, 8)), prompt=prompt, dtype=dtype,
        chunk=chance.choice((None, None, 64, 200, 512)), kv_dtype=chance.choice((dtype, dtype, "int8", "fp8")),
        attention=chance.choice(tuple(BACKENDS)), logits=chance.choice(("last", "last", "all")),
    )  # fmt: skip


def predict(run: FitRun, floor: int = 0) -> dict[str, int]:
    """What `llamalab fit` says that this process takes: resident, private, and the least that it can run with."""
    here = HERE._replace(workspace_bytes=floor)
    grown = [held_here()]
    for shape in kernel_shapes(run):
        compile_shapes([shape])
        grown.append(held_here())

    def kept(name: str, run: FitRun, context: int, moment: int) -> int:
        compiled = grown[len(kernel_shapes(run, until=context, moment=moment))]
        return max(0, int(getattr(compiled, name) - getattr(grown[0], name)))

    resident, private = (
        needs(run, here, scratch=ProbedScratch(resident=name == "resident"), kept=partial(kept, name))
        for name in ("resident", "private")
    )
    return {
        "resident": resident.total_bytes, "private": private.total_bytes, "least": private.least_bytes,
        "margin": private.margin_bytes + MARGIN_BYTES, "kernel": resident.bytes_of("compiled kernels"),
    }  # fmt: skip


def floor_bytes(chance: random.Random) -> int:
    """What a run of any size takes here beside its tensors: pages of code, tables, small objects; the median of ten."""
    beyond: list[int] = []
    while len(beyond) < 10:
        run = draw(chance)
        if needs(run, HERE).total_bytes <= LEAST:
            said = isolated(partial(predict, run))
            beyond.append(isolated(partial(process_peak_bytes, partial(work, run))) - said["resident"])
    return max(0, int(median(beyond)))


def work(run: FitRun) -> None:
    """Build, fill the cache in passes, and decode: the run as it was asked for."""
    with torch.inference_mode():
        model = Transformer(run.arch, attention=BACKENDS[run.attention], dtype=run.dtype, device="meta")
        model.to_empty(device="cpu")
        for weight in model.parameters():
            weight.fill_(0.01)
        cache = StaticKVCache(run.arch, batch=run.batch, max_tokens=run.context, dtype=run.kv_dtype or run.dtype)
        prompt = run.prompt or run.context
        parts = chunks(prompt, min(run.chunk or prompt, prompt))
        for new in [*(new for new, _ in parts), *[1] * (run.context - prompt)]:
            model(torch.zeros(run.batch, new, dtype=torch.long), cache=cache, logits=run.logits)


def warm_up() -> None:
    """Take what libraries take at their first use, their pages of code included, and give back what is free."""
    for dtype in ("bf16", "fp32"):
        for attention, kv_dtype in product(BACKENDS, (dtype, "int8", "fp8")):
            work(FitRun(WARM, 41, prompt=40, dtype=dtype, attention=attention, kv_dtype=kv_dtype))
    ctypes.CDLL(None).malloc_trim(0)


def isolated(task: Callable[[], Any]) -> Any:
    """What a forked process answered before it ended well; None where it died."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = DIED
        try:
            os.close(reader)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            warm_up()  # a forked process has its own page tables
            os.write(writer, json.dumps(task()).encode())
            code = 0
        except (RuntimeError, MemoryError, UserWarning):  # torch's allocator has no type of its own
            pass
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    return json.loads(text) if os.waitpid(child, 0)[1] == 0 else None


def within(run: FitRun, limit_bytes: int, *, slower: bool = False) -> bool:
    """Whether the run ends where private memory may grow by so much, with the kernels that it has or any other."""

    def task() -> bool:
        warnings.filterwarnings("ignore" if slower else "error", FALLS_BACK)
        resource.setrlimit(resource.RLIMIT_DATA, (held_here().private + limit_bytes,) * 2)
        work(run)
        return True

    return isolated(task) is True


def row_of(run: FitRun, floor: int) -> dict[str, Any]:
    """One configuration with what was predicted and what was found."""
    said = isolated(partial(predict, run, floor))  # elsewhere: what probing frees would serve the next run
    peak = isolated(partial(process_peak_bytes, partial(work, run)))
    found = Found(
        peak,
        within(run, said["private"] + said["margin"]),
        within(run, said["private"] - said["margin"]),
        within(run, said["least"] - said["margin"], slower=True),
    )
    arch = run.arch
    return {
        "dim": arch.dim, "layers": arch.n_layers, "heads": arch.n_heads, "kv_heads": arch.n_kv_heads,
        "ffn_dim": arch.ffn_dim, "vocab": arch.vocab_size,
        **{name: getattr(run, name) for name in (
            "context", "batch", "prompt", "chunk", "dtype", "kv_dtype", "attention", "logits")},
        **{f"{name}_bytes": size for name, size in said.items()}, **found._asdict(),
        "error": None if peak is None else said["resident"] / peak - 1,
    }  # fmt: skip


def conclude(rows: list[dict[str, Any]]) -> str:
    """How often the contract was broken, and how far the peaks were off."""
    died = sum(not row["fits_ran"] for row in rows)
    ran, slow = (sum(row[name] for row in rows) for name in ("unfit_ran", "slow_ran"))
    errors = sorted(abs(row["error"]) for row in rows if row["error"] is not None)
    past = sum(error > BAR for error in errors)
    if not errors:
        return f"{died} of {len(rows)} runs that fit died, {ran} or {slow} that do not fit ran; no peak was measured."
    return (
        f"Of {len(rows)} runs {died} died that were said to fit, {ran} ran that were said not to by more than the "
        f"margin, {slow} with slower kernels in less than the least. Peaks are off by "
        f"{errors[len(errors) // 2]:.2%} in the middle, {errors[int(0.95 * len(errors))]:.2%} at 95 %, "
        f"{errors[-1]:.2%} at most; {past} are past {BAR:.0%}."
    )


def _of_size(run: FitRun) -> bool:
    return LEAST <= needs(run, HERE).total_bytes <= MOST


def main() -> None:
    """Draw, predict, run, conclude."""
    parser = answers.parser(__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    args = parser.parse_args()
    if not GIVES_BACK.items() <= os.environ.items():  # read by libraries as they are loaded
        os.execve(
            sys.executable, [sys.executable, "-m", "experiments.fit_contract", *sys.argv[1:]], os.environ | GIVES_BACK
        )
    torch.set_num_threads(1)  # a forked process inherits no threads
    warm_up()
    chance, rows = random.Random(args.seed), []
    floor = floor_bytes(random.Random(args.seed + 1))
    asked = list(islice((run for run in iter(lambda: draw(chance), None) if _of_size(run)), args.runs))
    with ThreadPoolExecutor(args.workers) as pool:
        waiting = [pool.submit(row_of, run, floor) for run in asked]
        try:
            for done in as_completed(waiting):
                rows.append(last := done.result())
                ran = ", ".join(f"{name} {last[name]}" for name in ("fits_ran", "unfit_ran", "slow_ran"))
                size, place = format_bytes(last["resident_bytes"]), f"{len(rows)}/{args.runs}"
                print(f"  {place} {size} error {last['error']} {ran}", file=sys.stderr)
        except KeyboardInterrupt:  # the runs that are done are reported
            pool.shutdown(cancel_futures=True)
    answers.finish(QUESTION, "fit_contract", args.out, conclude(rows), seed=args.seed, threads=1, floor_bytes=floor,
                   measured=rows)  # fmt: skip


if __name__ == "__main__":
    main()
