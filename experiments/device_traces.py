"""What the profiler, the allocator and the sensors of this device say, event by event.

    python -m experiments.device_traces [--device auto|cpu|cuda] [--out PATH.json]

Material for tests of machines without the device: the profiler's events of a prefill and of a decode step under each
attention kernel, the allocator's events of a prefill, and the sensors ten times a second, idle, at work, idle.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from experiments.common import results as answers
from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.errors import UnavailableError
from llamalab.measure.device.machine import device_of, resolve_device
from llamalab.measure.device.profiler import profiled
from llamalab.measure.device.watch import watching
from llamalab.measure.target.target import tokens_of
from llamalab.model import StaticKVCache, build

QUESTION = "What do the profiler, the allocator and the sensors of this device say, event by event?"

ARCH, PROMPT, DTYPE = LlamaArch(1024, 1, 8, 8, 2816, 2048), 256, "bf16"
BACKENDS = ("sdpa", "math", "flash", "efficient", "cudnn")
IDLE_S = 2.0


def events_of(work: Any, device: Any) -> list[dict[str, Any]]:
    """The profiler's events of one call, with everything that tells host, device and ranges apart."""
    work()
    return [
        {
            "name": one.name(), "device_type": str(one.device_type()), "activity_type": one.activity_type(),
            "start_ns": one.start_ns(), "duration_ns": one.duration_ns(), "correlation_id": one.correlation_id(),
            "linked_correlation_id": one.linked_correlation_id(), "thread": one.start_thread_id(),
            "annotation": one.is_user_annotation(),
        }
        for one in profiled(work, device=device)
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Record, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--idle", type=float, default=IDLE_S, metavar="SECONDS")
    args = parser.parse_args(argv)
    place = resolve_device(args.device)
    device, events = device_of(place), dict[str, Any]()
    with torch.inference_mode():
        model = build(ARCH, dtype=DTYPE, device=place).eval()
        cache = StaticKVCache(ARCH, batch=1, max_tokens=PROMPT + 1, dtype=DTYPE, device=place)
        tokens_BT = tokens_of(ARCH, 1, PROMPT, place)

        def run(past: int, new: int) -> Any:
            cache.rewind(past)
            return model(tokens_BT[:, :new], cache=cache, logits="last")

        for name in BACKENDS:
            model.use_attention(get_backend(name))
            try:
                prefill = events_of(lambda: run(0, PROMPT), device)
                events[name] = {"prefill": prefill, "decode": events_of(lambda: run(PROMPT, 1), device)}
            except UnavailableError as refusal:
                events[name] = {"reason": str(refusal)}
        model.use_attention(get_backend("sdpa"))
        with device.trace_allocations() as trace:
            run(0, PROMPT)
        with watching(place) as sensors:
            time.sleep(args.idle)
            until = time.monotonic() + args.idle
            while time.monotonic() < until:
                run(0, PROMPT)
                device.synchronise()
            time.sleep(args.idle)
    readings = [asdict(one) for one in sensors.readings]
    counted = sum(len(one.get("prefill", [])) + len(one.get("decode", [])) for one in events.values())
    conclusion = f"{counted} events of the profiler, {len(trace.events)} of the allocator, {len(readings)} readings."
    answers.finish(
        QUESTION, "device_traces", args.out, conclusion, device=args.device, arch=ARCH.as_dict(), events=events,
        allocator=[one._asdict() for one in trace.events], readings=readings, throttled=sensors.rose,
    )  # fmt: skip


if __name__ == "__main__":
    main()
