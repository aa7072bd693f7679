"""Attention over three words by hand and by torch, and what follows for bytes.

    python -m experiments.attention_by_hand [--words the cat sat] [--x "1 0 1 0; ..."] [--wq ...] [--wk ...] [--wv ...]
        [--causal] [--tokens 4096] [--head-dim 128] [--dtype fp16] [--model 7b] [--memory 10GB]

Predicted: scores, weights and outputs of a small worked example in exact fractions up to the exponential; FLOPs and
bytes of naive attention, step by step; tokens of KV cache in a memory. Measured: the same by PyTorch's attention; the
FLOPs that torch's counter sees; the bytes of a cache that is really made. Every number of the example can be changed;
a matrix is written row by row with semicolons.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from experiments.common import results as answers
from llamalab.analytic.attention_cost import AttentionShape, naive_steps, total
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.arch import LlamaArch
from llamalab.attention import naive
from llamalab.errors import InputError, LlamaLabError
from llamalab.model import StaticKVCache
from llamalab.presets import resolve_model
from llamalab.units import parse_memory

QUESTION = "What does attention do with three words, and what follows for bytes? Every number by hand, then by torch."

Matrix = list[list[Fraction]]
X = "1 0 1 0; 0 2 0 2; 1 1 1 1"
WQ, WK, WV = "1 0; 1 0; 0 0; 0 1", "0 0; 1 1; 0 1; 1 0", "0 2; 0 3; 1 0; 1 1"
ROUNDED = 0.52e6  # bytes of one token of 7B in fp16, as a figure of two digits: 0.52 MB


def matrix(text: str) -> Matrix:
    """A matrix of exact numbers. Raises InputError for rows of different lengths or what is no number.

    >>> matrix("1 1/2; 0 3")
    [[Fraction(1, 1), Fraction(1, 2)], [Fraction(0, 1), Fraction(3, 1)]]
    """
    try:
        rows = [[Fraction(word) for word in row.split()] for row in text.split(";")]
    except (ValueError, ZeroDivisionError):
        raise InputError(f"a matrix must be numbers, rows apart by semicolons; got {text!r}") from None
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise InputError(f"a matrix must have rows of one length; got {text!r}")
    return rows


def product(a: Matrix, b: Matrix) -> Matrix:
    """The product of two matrices, exact. Raises InputError where they do not fit."""
    if len(a[0]) != len(b):
        raise InputError(f"the left matrix must have as many columns as the right has rows; got {len(a[0])}, {len(b)}")
    return [
        [sum((x * y for x, y in zip(row, column, strict=True)), Fraction(0)) for column in zip(*b, strict=True)]
        for row in a
    ]


def by_hand(x: Matrix, wq: Matrix, wk: Matrix, wv: Matrix, *, causal: bool) -> dict[str, Any]:
    """Queries, keys, values and products as they are written down; the pattern and the output in decimals."""
    q, k, v = (product(x, weight) for weight in (wq, wk, wv))
    products = product(q, [list(column) for column in zip(*k, strict=True)])
    root = math.sqrt(len(q[0]))
    scores = [[float(one) / root for one in row] for row in products]
    pattern = [_softmax(row[: place + 1] if causal else row) for place, row in enumerate(scores)]
    out = [
        [
            sum(weight * float(value[column]) for weight, value in zip(row, v, strict=False))
            for column in range(len(v[0]))
        ]
        for row in pattern
    ]
    exact = {
        name: [[str(one) for one in row] for row in made]
        for name, made in (("q", q), ("k", k), ("v", v), ("products", products))
    }
    return exact | {"scores": scores, "pattern": pattern, "out": out}


def _softmax(scores: list[float]) -> list[float]:
    raised = [math.exp(score - max(scores)) for score in scores]
    return [one / sum(raised) for one in raised]


def by_torch(x: Matrix, wq: Matrix, wk: Matrix, wv: Matrix, *, causal: bool) -> list[list[float]]:
    """The output of PyTorch's own attention."""
    x_TD, *weights = (
        torch.tensor([[float(one) for one in row] for row in given], dtype=torch.float64) for given in (x, wq, wk, wv)
    )
    q_TE, k_TE, v_TE = (x_TD @ weight for weight in weights)
    out: list[list[float]] = scaled_dot_product_attention(q_TE, k_TE, v_TE, is_causal=causal).tolist()
    return out


def steps(tokens: int, head_dim: int, dtype: str) -> list[dict[str, Any]]:
    """Naive attention of one head, step by step, and together."""
    found = naive_steps(
        AttentionShape(
            batch=1,
            new_tokens=tokens,
            context_tokens=tokens,
            n_heads=1,
            n_kv_heads=1,
            head_dim=head_dim,
            dtype=dtype,
            kv_dtype=dtype,
        )
    )
    return [
        {
            "step": one.name,
            "operations": one.operations,
            "read_bytes": one.read_bytes,
            "written_bytes": one.written_bytes,
            "intensity_flop_per_byte": one.intensity,
        }
        for one in (*found, total(found))
    ]


def counted_flops(tokens: int, head_dim: int) -> int:
    """Products of our naive attention as torch counts them; nothing is computed."""
    q_BHTE = torch.empty(1, 1, tokens, head_dim, device="meta")
    with FlopCounterMode(display=False) as counter:
        scores_BHTS = naive.scores(q_BHTE, q_BHTE, query_offset=0)
        naive.values(naive.pattern(scores_BHTS), q_BHTE)
    return int(counter.get_total_flops())


def cached(arch: LlamaArch, memory_bytes: int, dtype: str) -> dict[str, Any]:
    """Tokens of KV cache in a memory: exact, and with a token's bytes rounded to two digits of MB."""
    one = kv_bytes(arch, seq=1, dtype=dtype)
    rounded = float(f"{one:.2g}")
    made = StaticKVCache(arch, batch=1, max_tokens=3, dtype=dtype, device="meta")
    return {
        "bytes_per_token": one,
        "measured_bytes_per_token": made.nbytes // 3,
        "bytes_per_token_rounded": rounded,
        "tokens": memory_bytes // one,
        "tokens_of_rounded": int(memory_bytes / rounded),
        "tokens_in_as_many_gib": memory_bytes * 2**30 // 10**9 // one,
    }


def conclude(error: float, table: list[dict[str, Any]], counted: int, kept: dict[str, Any]) -> str:
    """What the numbers say."""
    *parts, whole = table
    products = sum(row["operations"] for row in parts if row["step"] != "softmax")
    return (
        f"By hand and by PyTorch the outputs differ by {error:.1e} at most. Naive attention does "
        f"{whole['intensity_flop_per_byte']:.0f} FLOP/byte, as its softmax does "
        f"{parts[1]['intensity_flop_per_byte']:.2f}; torch counts {counted:,} FLOPs of products, the formula "
        f"{products:,}. {kept['tokens']:,} tokens of cache fit, at {kept['bytes_per_token']:,} bytes each "
        f"({'as' if kept['measured_bytes_per_token'] == kept['bytes_per_token'] else 'unlike'} a real cache); with a "
        f"token rounded to {kept['bytes_per_token_rounded'] / 1e6:g} MB it would seem {kept['tokens_of_rounded']:,}."
    )


def _shown(name: str, rows: Sequence[Sequence[Any]], words: Sequence[str]) -> None:
    print(f"\n{name}")
    for word, row in zip(words, rows, strict=False):
        print(f"  {word:10}" + "".join(f"{one:>10}" if isinstance(one, str) else f"{one:10.4f}" for one in row))


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    args = _options().parse_args(argv)
    try:
        _run(args)
    except LlamaLabError as error:
        sys.exit(f"attention_by_hand: {error}")


def _options() -> argparse.ArgumentParser:
    parser = answers.parser(__doc__)
    parser.add_argument("--words", nargs="+", default=["the", "cat", "sat"])
    for name, given in (("x", X), ("wq", WQ), ("wk", WK), ("wv", WV)):
        parser.add_argument(f"--{name}", default=given, metavar="MATRIX")
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--dtype", default="fp16")
    parser.add_argument("--model", default="7b")
    parser.add_argument("--memory", type=parse_memory, default=parse_memory("10GB"))
    return parser


def _run(args: argparse.Namespace) -> None:
    given = [matrix(getattr(args, name)) for name in ("x", "wq", "wk", "wv")]
    if len(given[0]) != len(args.words):
        raise InputError(f"x must have a row for each word; got {len(given[0])} rows for {len(args.words)} words")
    hand = by_hand(*given, causal=args.causal)
    for name in ("q", "k", "v", "products", "scores", "pattern", "out"):
        _shown({"products": "q kᵀ", "scores": "q kᵀ / √E"}.get(name, name), hand[name], args.words)
    out = by_torch(*given, causal=args.causal)
    error = max(
        abs(a - b) for ours, theirs in zip(hand["out"], out, strict=True) for a, b in zip(ours, theirs, strict=True)
    )
    table = steps(args.tokens, args.head_dim, args.dtype)
    print(f"\n{'step':8}{'operations':>16}{'read':>14}{'written':>14}  FLOP/byte")
    for row in table:
        print(
            f"{row['step']:8}{row['operations']:16,}{row['read_bytes']:14,}{row['written_bytes']:14,}"
            f"{row['intensity_flop_per_byte']:11.2f}"
        )
    kept = cached(resolve_model(args.model)[1], args.memory, args.dtype)
    counted = counted_flops(args.tokens, args.head_dim)
    conclusion = conclude(error, table, counted, kept)
    answers.finish(
        QUESTION,
        "attention_by_hand",
        args.out,
        conclusion,
        words=args.words,
        causal=args.causal,
        hand=hand,
        largest_error=error,
        steps=table,
        counted_flops=counted,
        cache=kept,
    )


if __name__ == "__main__":
    main()
