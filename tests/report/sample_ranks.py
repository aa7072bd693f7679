"""What two ranks might have left behind: passes of which every figure follows from a few given ones."""

from typing import Any

from llamalab.analytic.calibration_files import constants_to_json
from llamalab.analytic.roofline import Rates
from llamalab.records.ranks import RanksPass, RanksRun, RankTime

WAITING_SHARE = 0.25
RATES = {
    "gather": Rates(None, 1e10),
    "gemm": Rates(1e12, 1e10),
    "elementwise": Rates(None, 1e10),
    "attention_prefill": Rates(1e12, 1e10),
    "attention_decode": Rates(1e12, 1e10),
    "collective": Rates(None, 1e9, t0_s=1e-3),
    "collective_one_shot": Rates(None, 1e9, t0_s=2e-4),
}


def sample_run(layers: int = 2, **changes: Any) -> RanksRun:
    """A prefill of 512 tokens and the step after it on two ranks of which the second works longer."""
    return RanksRun(
        ranks=2,
        backend="gloo",
        threads_per_rank=1,
        layers_total=32,
        passes=[_pass("prefill", 512, 512, layers), _pass("decode", 1, 513, layers)],
        constants=constants(**changes),
    )


def constants(**changes: Any) -> dict[str, Any]:
    """Of one of the ranks, as a calibration keeps them."""
    import json

    checked = {"prefill_error": 0.02, "decode_error": 0.03, "points": []}
    data: dict[str, Any] = json.loads(constants_to_json("cpu", "bf16", "2026-01-15", RATES, checked))
    return data | {"ranks": 2, "waiting_share": WAITING_SHARE} | changes


def _pass(phase: str, new_tokens: int, context_tokens: int, layers: int) -> RanksPass:
    split = [RankTime(rank=rank, compute_s=0.1 + rank / 100, communication_s=0.03, waiting_s=0.01) for rank in (0, 1)]
    return RanksPass(
        phase=phase,
        ranks=2,
        batch=1,
        new_tokens=new_tokens,
        context_tokens=context_tokens,
        layers_measured=layers,
        attention="flash",
        passes_s=[0.15, 0.14, 0.16],
        by_rank=split,
        collectives={"all_reduce of 8192 B": 2 * layers},
        collectives_expected={"all_reduce of 8192 B": 2 * layers},
    )
