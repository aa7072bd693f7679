"""What a campaign on a GPU is to reach, beside what the files of its machine's folder say was reached.

Decode is held to the bandwidth of a copy, prefill to the best product, and our own kernels to the fastest of PyTorch,
each measured on the same device: a goal is a share of what that device was seen to do.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

MODEL = "7b"
PROMPT = 2048
RIVALS = ("flash", "cudnn", "efficient", "math")  # kernels of PyTorch; sdpa is one of them
_OURS = "triton"
Found = tuple[float | None, str]


class Goal(NamedTuple):
    """A share to be reached, the file that has it, and how it is read there: the share, and what it is a share of."""

    name: str
    share: float
    file: str
    read: Callable[[Mapping[str, Any]], Found]


class Reached(NamedTuple):
    """A goal with what was measured; null with the reason in `about`, else what was measured."""

    goal: Goal
    share: float | None
    about: str

    @property
    def verdict(self) -> str:
        """Reached, missed or not measured."""
        if self.share is None:
            return "not measured"
        return "reached" if self.share >= self.goal.share else "missed"

    @property
    def line(self) -> str:
        """In a line."""
        share = "" if self.share is None else f"{self.share:.1%} measured, "
        return f"goal {self.verdict}: {self.goal.name}: {share}{self.goal.share:.0%} asked ({self.about})"


def _decode(answer: Mapping[str, Any]) -> Found:
    """The best series of the model at batch 1, over the contexts that were run."""
    rows = [row for row in answer["measured"] if row["model"] == MODEL and row["batch"] == 1 and "of_copy" in row]
    if not rows:
        return None, f"{MODEL} at batch 1 was not run"
    best = max(rows, key=lambda row: row["of_copy"])
    return best["of_copy"], f"{best['series']} at {best['context']} tokens, of a copy's bytes per second"


def _prefill(answer: Mapping[str, Any]) -> Found:
    """The prompt of so many tokens, alone in its batch."""
    rows = [row for row in answer["rows"] if row["test"] == f"pp{PROMPT}" and row["batch"] == 1]
    if not rows:
        return None, f"pp{PROMPT} was not run"
    if rows[0]["gemm_fraction"] is None:
        return None, rows[0]["reason"] or "there is no measured product to hold it against"
    return rows[0]["gemm_fraction"], f"pp{PROMPT}, of the best measured product"


def _attention(decode: bool) -> Callable[[Mapping[str, Any]], Found]:
    """Our kernel's rate over that of the fastest of PyTorch, at the shape where that is least."""

    def read(answer: Mapping[str, Any]) -> Found:
        by_shape: dict[tuple[int, ...], dict[str, float]] = {}
        for row in answer["measured"]:
            if row["samples_s"] and (row["new_tokens"] == 1) == decode:
                shape = tuple(row[part] for part in ("n_heads", "n_kv_heads", "batch", "new_tokens", "context_tokens"))
                by_shape.setdefault(shape, {})[row["backend"]] = median(row["samples_s"])
        shares = [
            (min(rivals) / times_s[_OURS], shape)
            for shape, times_s in by_shape.items()
            if _OURS in times_s and (rivals := [times_s[name] for name in RIVALS if name in times_s])
        ]
        if not shares:
            return None, next((row["reason"] for row in answer["measured"] if row["backend"] == _OURS), None) or (
                f"{_OURS} was not run beside a kernel of PyTorch"
            )
        share, (heads, kv_heads, batch, new, context) = min(shares)
        return share, (
            f"least of {len(shares)} shapes, at {heads}/{kv_heads} heads, batch {batch}, {new} of {context} tokens"
        )

    return read


GOALS = (
    Goal(f"decode of {MODEL} at batch 1, of the bandwidth of a copy", 0.88, "decode_series.json", _decode),
    Goal(f"prefill of {PROMPT} tokens of {MODEL}, of the best product", 0.75, f"bench-{MODEL}.json", _prefill),
    Goal("prefill of our Triton kernel, of PyTorch's fastest", 0.75, "attention_backends.json", _attention(False)),
    Goal("decode of our Triton kernel, of PyTorch's fastest", 1.0, "attention_backends.json", _attention(True)),
)


def reached(folder: Path) -> list[Reached]:
    """Every goal, from the files in the folder of a machine."""
    return [_read(goal, folder / goal.file) for goal in GOALS]


def _read(goal: Goal, path: Path) -> Reached:
    if not path.is_file():
        return Reached(goal, None, f"{goal.file} was not made")
    return Reached(goal, *goal.read(json.loads(path.read_text(encoding="utf-8"))))
