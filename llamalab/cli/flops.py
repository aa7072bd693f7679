"""`llamalab flops`: what a forward pass computes and moves, operation by operation."""

import argparse
from typing import Any

from llamalab.analytic.attention_cost import AttentionShape, Step, flash_step, naive_steps, total
from llamalab.analytic.ops import ALGORITHMS, LOGITS, Op, Totals, add_up, forward_ops
from llamalab.arch import LlamaArch
from llamalab.cli.arguments import (
    add_choice,
    add_count,
    add_dtype,
    add_format,
    add_model,
    add_part_dtypes,
    chosen_model,
)
from llamalab.cli.output import Answer, Column, Table, percent, show
from llamalab.units import format_bytes, format_si

SUMMARY = "FLOPs, bytes and intensity of prefill or decode, operation by operation"
EXAMPLES = (
    "llamalab flops --phase prefill --seq 2048",
    "llamalab flops --phase decode --context 4096 --batch 16 --model 70b",
    "llamalab flops --phase prefill --seq 512 --context 4096 --attention naive --format json",
)
PHASES = ("prefill", "decode")


def _flop(value: int) -> str:
    return format_si(value, "FLOP") if value else "0"


def _intensity(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


_OP_COLUMNS = (
    Column("name", "operation"),
    Column("count", "count"),
    Column("flops_causal", "FLOPs", _flop),
    Column("share", "of all", percent),
    Column("weight_bytes", "weights", format_bytes),
    Column("read_bytes", "read", format_bytes),
    Column("written_bytes", "written", format_bytes),
    Column("intensity", "FLOP/byte", _intensity),
)
_STEP_COLUMNS = (
    Column("algorithm", "attention"),
    Column("step", "step"),
    Column("read_bytes", "bytes read", format_bytes),
    Column("operations", "operations", lambda value: format_si(value, "OP")),
    Column("written_bytes", "bytes written", format_bytes),
    Column("intensity", "OP/byte", _intensity),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab flops`."""
    add_choice(parser, "--phase", PHASES, "prefill", "what is computed")
    add_count(parser, "--seq", "prefill: new tokens of each sequence; decode: the context", default=4096)
    add_count(
        parser,
        "--context",
        "keys in view, the new tokens included; prefill: more than --seq makes it a chunk behind a cache "
        "(default: --seq); decode: one new token at the end of so many, whatever --seq says",
    )
    add_count(parser, "--batch", "sequences", default=1)
    add_choice(parser, "--attention", ALGORITHMS, "flash", "the algorithm")
    add_choice(parser, "--logits", LOGITS, "last", "positions that the head runs on")
    add_model(parser)
    add_dtype(parser, "storage of activations, weights and KV cache")
    add_part_dtypes(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the op table of one pass and the steps of attention."""
    model, arch = chosen_model(args)
    context, kv_dtype = args.context or args.seq, args.kv_dtype or args.dtype
    new_tokens = args.seq if args.phase == "prefill" else 1
    ops = forward_ops(
        arch,
        new_tokens=new_tokens,
        context_tokens=context,
        batch=args.batch,
        dtype=args.dtype,
        kv_dtype=kv_dtype,
        weight_dtype=args.weight_dtype,
        attention=args.attention,
        logits=args.logits,
    )
    steps = _steps(arch, new_tokens, context, args.dtype, kv_dtype)
    inputs = {
        "model": model,
        "dtype": args.dtype,
        "weight_dtype": args.weight_dtype or args.dtype,
        "kv_dtype": kv_dtype,
        "phase": args.phase,
        "batch": args.batch,
        "new_tokens": new_tokens,
        "context_tokens": context,
        "attention": args.attention,
        "logits": args.logits,
    }
    show(_answer(inputs, ops, steps), args.format)
    return 0


def _answer(inputs: dict[str, Any], ops: tuple[Op, ...], steps: list[dict[str, Any]]) -> Answer:
    totals = add_up(ops)
    figures = totals._asdict() | {"bytes": totals.bytes, "intensity": totals.intensity}
    data = inputs | figures | {"basis": "exact", "ops": [_op(op) for op in ops], "attention_steps": steps}
    everything = {"name": "total", "share": 1.0, **figures}
    rows = [_op(op) | {"share": op.count * op.flops_causal / totals.flops_causal} for op in ops]
    caption = "Attention of one head, step by step (naive keeps the scores in memory, flash does not):"
    tables = (Table(_OP_COLUMNS, rows, total=everything), Table(_STEP_COLUMNS, steps, caption))
    return Answer(data, _lead(inputs, totals), tables)


def _lead(inputs: dict[str, Any], totals: Totals) -> tuple[str, ...]:
    return (
        f"{inputs['phase']} of {inputs['model']} in {inputs['dtype']}: {inputs['new_tokens']:,} new of "
        f"{inputs['context_tokens']:,} tokens in context, batch {inputs['batch']:,}, {inputs['attention']} attention, "
        f"logits {inputs['logits']}",
        f"  FLOPs causal {totals.flops_causal:,} ({_flop(totals.flops_causal)}), dense {totals.flops_full:,}",
        f"  bytes {totals.bytes:,} ({format_bytes(totals.bytes)}), of which weights {totals.weight_bytes:,}",
        f"  intensity {totals.intensity:.5g} FLOP/byte; rows are one occurrence, the total counts all",
    )


def _op(op: Op) -> dict[str, Any]:
    return {**op._asdict(), "bytes": op.bytes, "intensity": op.intensity}


def _steps(arch: LlamaArch, new_tokens: int, context: int, dtype: str, kv_dtype: str) -> list[dict[str, Any]]:
    """Naive and flash attention of one head of one sequence."""
    shape = AttentionShape(1, new_tokens, context, 1, 1, arch.head_dim, dtype, kv_dtype)
    naive, titles = naive_steps(shape), ("QK^T", "softmax", "PV")
    rows = [_step("naive", title, step) for title, step in zip(titles, naive, strict=True)]
    return [*rows, _step("naive", "total", total(naive)), _step("flash", "total", flash_step(shape))]


def _step(algorithm: str, title: str, step: Step) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "step": title,
        "read_bytes": step.read_bytes,
        "operations": step.operations,
        "written_bytes": step.written_bytes,
        "intensity": step.intensity,
    }
