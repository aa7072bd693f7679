"""What the profiler, the allocator and the sensors of this device say, event by event.

    python -m experiments.device_traces [--device auto|cpu|cuda] [--out PATH.json]

Material for tests of machines without the device: the profiler's events of a prefill and of a decode step under each
attention kernel, every operation in a range of its name; the allocator's events of a prefill; and the sensors ten times
a second, idle, at work, idle. Tests read what lies in experiments/records/ (tests/measure/traces.py).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from experiments.common import results as answers
from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.errors import UnavailableError
from llamalab.measure.device.base import Device
from llamalab.measure.device.machine import device_of, resolve_device
from llamalab.measure.device.profiler import profiled
from llamalab.measure.device.watch import watching
from llamalab.measure.target.target import tokens_of
from llamalab.measure.timing.profiler_ranges import Ranges, own_labels
from llamalab.model import StaticKVCache, build

QUESTION = "What do the profiler, the allocator and the sensors of this device say, event by event?"

ARCH, PROMPT, DTYPE = (
    LlamaArch(dim=1024, n_layers=1, n_heads=8, n_kv_heads=8, ffn_dim=2816, vocab_size=2048),
    256,
    "bf16",
)
BACKENDS = ("sdpa", "math", "flash", "efficient", "cudnn")
IDLE_S = 2.0
READINGS = ("before", "work", "after")  # the device is idle, works, is idle again
Pass = Callable[..., object]  # of a number of past tokens, one of new tokens, and a tap


def event_row(event: Any) -> dict[str, Any]:
    """An event of the profiler with everything that tells host, device and ranges apart.

    The kind of its activity is None where torch does not tell it (before 2.12).
    """
    kind = getattr(event, "activity_type", None)
    return {
        "name": event.name(),
        "device_type": str(event.device_type()),
        "activity_type": None if kind is None else kind(),
        "start_ns": event.start_ns(),
        "duration_ns": event.duration_ns(),
        "correlation_id": event.correlation_id(),
        "linked_correlation_id": event.linked_correlation_id(),
        "thread": event.start_thread_id(),
        "annotation": event.is_user_annotation(),
    }


def events_of(run: Pass, past: int, new: int, algorithm: str, device: Device) -> list[dict[str, Any]]:
    """The profiler's events of one pass, the second of its kind."""
    tap = Ranges(ARCH.n_layers, own_labels(algorithm))

    def ranged() -> None:
        tap.start()
        run(past, new, tap)
        tap.stop()

    ranged()
    return [event_row(one) for one in profiled(ranged, device=device)]


def backend_events(run: Pass, name: str, device: Device) -> dict[str, Any]:
    """The events of a prefill and of a decode step under an attention backend, or why there are none."""
    algorithm = get_backend(name).algorithm
    try:
        prefill = events_of(run, 0, PROMPT, algorithm, device)
        return {"prefill": prefill, "decode": events_of(run, PROMPT, 1, algorithm, device)}
    except (UnavailableError, RuntimeError) as refusal:  # RuntimeError: what a driver or a library refuses
        return {"reason": " ".join(str(refusal).split())}


def readings_of(run: Pass, place: torch.device, seconds: float) -> dict[str, Any]:
    """The sensors ten times a second over so many seconds of each of READINGS, and what held the clocks down."""
    device, found = device_of(place), dict[str, Any]()
    for phase in READINGS:
        until = time.monotonic() + seconds
        with watching(place) as sensors:
            while (left_s := until - time.monotonic()) > 0:
                if phase == "work":
                    run(0, PROMPT)
                    device.synchronise()
                else:
                    time.sleep(left_s)
        found[phase] = {"readings": [asdict(one) for one in sensors.readings], "throttled": sensors.rose}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Record, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--idle", type=float, default=IDLE_S, metavar="SECONDS", help="of each part of the readings")
    args = parser.parse_args(argv)
    place = resolve_device(args.device)
    device, events = device_of(place), dict[str, Any]()
    with torch.inference_mode():
        model = build(ARCH, dtype=DTYPE, device=place).eval()
        cache = StaticKVCache(ARCH, batch=1, max_tokens=PROMPT + 1, dtype=DTYPE, device=place)
        tokens_BT = tokens_of(ARCH, 1, PROMPT, place)

        def run(past: int, new: int, tap: Any = None) -> object:
            cache.rewind(past)
            return model(tokens_BT[:, :new], cache=cache, logits="last", tap=tap)

        for name in BACKENDS:
            model.use_attention(get_backend(name))
            events[name] = backend_events(run, name, device)
        model.use_attention(get_backend("sdpa"))
        with device.trace_allocations() as trace:
            run(0, PROMPT)
        sensors = readings_of(run, place, args.idle)
    counted = sum(len(one.get("prefill", [])) + len(one.get("decode", [])) for one in events.values())
    read = sum(len(one["readings"]) for one in sensors.values())
    conclusion = f"{counted} events of the profiler, {len(trace.events)} of the allocator, {read} readings."
    answers.finish(
        QUESTION,
        "device_traces",
        args.out,
        conclusion,
        device=args.device,
        arch=ARCH.as_dict(),
        events=events,
        allocator=[one._asdict() for one in trace.events],
        sensors=sensors,
    )


if __name__ == "__main__":
    main()
