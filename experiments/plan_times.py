"""The first attention call at a new number of keys, kernel by kernel.

    python -m experiments.plan_times [--device auto|cpu|cuda] [--out PATH.json]

Prediction: cuDNN plans for every number of keys, 20 ms and more each; the others keep what they have, so that a first
call takes no longer than a tenth call does. One query over 20 lengths that nothing ran at before, each called twice and
waited for; the first call of all is left out.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from experiments.common import results as answers
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import Backend, get_backend
from llamalab.errors import UnavailableError
from llamalab.measure.attention.calls import random_inputs
from llamalab.measure.device.machine import clock_for, device_of, resolve_device
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.deadline import now_s

QUESTION = "What does the first attention call at a new number of keys cost, kernel by kernel?"

LENGTHS, FIRST_KEYS, DTYPE = 20, 1001, "bf16"
BACKENDS = ("sdpa", "flash", "efficient", "cudnn")
_NOTABLE_S = 1e-3  # more than this at a new length is a plan


def measure(machine: Machine, backend: Backend, heads: tuple[int, int] = (32, 32), head_dim: int = 128) -> Any:
    """Seconds of the first and the second call at every length, or why the kernel does not run."""
    device, first_s, again_s = device_of(machine.device), [], []
    for keys in range(FIRST_KEYS - 1, FIRST_KEYS + LENGTHS):
        shape = AttentionShape(1, 1, keys, *heads, head_dim, DTYPE, DTYPE)
        try:
            backend.check(shape, machine.device)
            call = random_inputs(machine, shape).call(backend)
            for seconds in (first_s, again_s):
                device.synchronise()
                began = now_s()
                call()
                device.synchronise()
                seconds.append(now_s() - began)
        except UnavailableError as refusal:
            return str(refusal)
    return {"first_s": first_s[1:], "again_s": again_s[1:]}


def conclude(rows: list[dict[str, Any]]) -> str:
    """Which kernels plan, in words."""
    findings = []
    for row in rows:
        if row["reason"]:
            findings.append(f"{row['backend']} does not run ({row['reason']})")
            continue
        more_s = median(row["first_s"]) - median(row["again_s"])
        findings.append(
            f"{row['backend']} {'plans' if more_s > _NOTABLE_S else 'does not plan'} ({more_s * 1e3:+.2f} ms)"
        )
    return "At a new number of keys, the first call against the second: " + ", ".join(findings) + "."


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    place = resolve_device(args.device)
    machine, rows = Machine(place, clock_for(place), DTYPE), []
    with torch.inference_mode():
        for name in BACKENDS:
            found = measure(machine, get_backend(name))
            times = {} if isinstance(found, str) else found
            rows.append({"backend": name, "reason": found if isinstance(found, str) else None, **times})
            print(f"{name:10} {rows[-1]['reason'] or format(median(times['first_s']) * 1e6, '.1f') + ' us at first'}")
    kernels = device_of(place).versions.kernels
    answers.finish(QUESTION, "plan_times", args.out, conclude(rows), device=args.device, cudnn=kernels, rows=rows)


if __name__ == "__main__":
    main()
