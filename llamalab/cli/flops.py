"""`llamalab flops`: FLOPs and bytes of a forward pass, operation by operation."""

import argparse
from itertools import product

from llamalab.analytic.attention_cost import AttentionShape, AttentionStep, flash_step, naive_steps, total
from llamalab.analytic.op import Op, Totals, add_up
from llamalab.analytic.ops import ALGORITHMS, forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.choices import LOGITS, PHASES
from llamalab.cli.arguments import (
    add_choice,
    add_counts,
    add_dtypes,
    add_format,
    add_model,
    add_part_dtypes,
    add_shared,
    chosen_model,
    counts,
)
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.find_model import take_storage
from llamalab.cli.output import Answer, Column, Table, note, percent
from llamalab.cli.parser import Parser
from llamalab.errors import InputError
from llamalab.formatting import format_bytes, format_si
from llamalab.startup.hints import Any

SUMMARY = "FLOPs, bytes and intensity of prefill or decode, operation by operation"
EXAMPLES = (
    "llamalab flops --phase prefill --prompt 2048",
    "llamalab flops --phase decode --context 4096 --batch 16 --model 70b",
    "llamalab flops --phase prefill --prompt 512 --context 4096 --attention naive --format json",
)


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
    Column("read_bytes", "read", format_bytes, 1),
    Column("written_bytes", "written", format_bytes, 1),
    Column("intensity", "FLOP/byte", _intensity),
)
_SWEEP_COLUMNS = (
    Column("flops_causal", "FLOPs", _flop),
    Column("bytes", "bytes", format_bytes),
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


def configure(parser: Parser) -> None:
    """The options of `llamalab flops`."""
    add_choice(parser, "--phase", PHASES, "prefill", "what is computed")
    about = "new tokens of a prefill; a decode has one (default: as --context, or 4096)"
    add_counts(parser, "--prompt", about, default=None)
    about = (
        "tokens in view, the new ones included; more than --prompt makes a prefill a chunk behind a cache "
        "(default: --prompt or 4096)"
    )
    add_counts(parser, "--context", about, default=None)
    # Older names of the new tokens of a prefill and of the context of a decode step.
    parser.add_argument("--seq", type=counts("--seq"), help=argparse.SUPPRESS)
    add_counts(parser, "--batch", "sequences", default=1)
    add_choice(parser, "--attention", ALGORITHMS, "flash", "the algorithm")
    add_choice(parser, "--logits", LOGITS, "last", "positions that the head runs on")
    add_shared(parser)
    add_model(parser)
    add_dtypes(parser, "storage of activations, weights and KV cache")
    add_part_dtypes(parser)
    add_format(parser)


def _shapes(args: argparse.Namespace) -> list[tuple[int, int, int]]:
    """New tokens, context and batch of every pass. Raises InputError where the options contradict each other."""
    if args.seq is not None:
        now = "context" if args.phase == "decode" else "prompt"
        if getattr(args, now) is not None:
            raise InputError(f"--seq is called --{now} now; both were given; leave --seq out")
        setattr(args, now, args.seq)
        note(f"--seq is called --{now} now")
    if args.phase == "decode":
        if args.prompt not in (None, [1]):
            raise InputError(f"--prompt of a decode must be 1, its only new token; got {args.prompt[0]}; use --context")
        pairs = [(1, context) for context in args.context or [4096]]
    elif args.prompt and args.context:
        pairs = list(product(args.prompt, args.context))
    else:
        pairs = [(tokens, tokens) for tokens in args.prompt or args.context or [4096]]
    return [(new, context, batch) for (new, context), batch in product(pairs, args.batch)]


def answer(args: argparse.Namespace) -> Answer:
    """The op table of one pass and the steps of attention; of several passes the totals of each."""
    shapes = [dict(zip(("prompt", "context", "batch"), shape, strict=True)) for shape in _shapes(args)]
    return combined(
        args,
        _one,
        [models(args), *axis(args, "dtype", "weight_dtype", "kv_dtype", "tensor_parallel"), shapes],
        _SWEEP_COLUMNS,
    )


def _one(args: argparse.Namespace) -> Answer:
    model, arch = chosen_model(args)
    take_storage(args)
    shape = (args.prompt, args.context, args.batch)
    inputs = _inputs(args, model, shape)
    return _answer(inputs, _ops(args, arch, shape), _steps(arch, shape[0], shape[1], args.dtype, inputs["kv_dtype"]))


def _ops(args: argparse.Namespace, arch: LlamaArch, shape: tuple[int, int, int]) -> tuple[Op, ...]:
    new_tokens, context, batch = shape
    return forward_ops(
        arch,
        PassShape(
            new_tokens=new_tokens,
            context_tokens=context,
            batch=batch,
            dtype=args.dtype,
            kv_dtype=args.kv_dtype,
            weight_dtype=args.weight_dtype,
            attention=args.attention,
            logits=args.logits,
            tensor_parallel=args.tensor_parallel,
        ),
    )


def _inputs(args: argparse.Namespace, model: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    return {
        "model": model,
        "dtype": args.dtype,
        "weight_dtype": args.weight_dtype or args.dtype,
        "kv_dtype": args.kv_dtype or args.dtype,
        "phase": args.phase,
        "batch": shape[2],
        "new_tokens": shape[0],
        "context_tokens": shape[1],
        "attention": args.attention,
        "logits": args.logits,
        "tensor_parallel": args.tensor_parallel,
    }


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
        f"logits {inputs['logits']}"
        f"{f', on each of {ranks} devices' if (ranks := inputs['tensor_parallel']) > 1 else ''}",
        f"  FLOPs causal {totals.flops_causal:,} ({_flop(totals.flops_causal)}), dense {totals.flops_full:,}",
        f"  bytes {totals.bytes:,} ({format_bytes(totals.bytes)}), of which weights {totals.weight_bytes:,}",
        f"  intensity {totals.intensity:.5g} FLOP/byte; rows are one occurrence, the total counts all",
    )


def _op(op: Op) -> dict[str, Any]:
    return {**op._asdict(), "bytes": op.bytes, "intensity": op.intensity}


def _steps(arch: LlamaArch, new_tokens: int, context: int, dtype: str, kv_dtype: str) -> list[dict[str, Any]]:
    """Naive and flash attention of one head of one sequence."""
    shape = AttentionShape(
        batch=1,
        new_tokens=new_tokens,
        context_tokens=context,
        n_heads=1,
        n_kv_heads=1,
        head_dim=arch.head_dim,
        dtype=dtype,
        kv_dtype=kv_dtype,
    )
    naive, titles = naive_steps(shape), ("QK^T", "softmax", "PV")
    rows = [_step("naive", title, step) for title, step in zip(titles, naive, strict=True)]
    return [*rows, _step("naive", "total", total(naive)), _step("flash", "total", flash_step(shape))]


def _step(algorithm: str, title: str, step: AttentionStep) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "step": title,
        "read_bytes": step.read_bytes,
        "operations": step.operations,
        "written_bytes": step.written_bytes,
        "intensity": step.intensity,
    }
