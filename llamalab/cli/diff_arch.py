"""`llamalab diff-arch`: the differences of two models, and the cost of each."""

import argparse

from llamalab.analytic.constants import choose
from llamalab.analytic.difference import DifferenceTerm, cost_of, table_rows, terms
from llamalab.analytic.op import Op
from llamalab.analytic.ops import ALGORITHMS
from llamalab.analytic.pass_times import pass_s
from llamalab.analytic.workload import Workload, pass_ops
from llamalab.arch import LlamaArch
from llamalab.arch.parts import Experts, RopeScaling
from llamalab.arch.runnable import model_refusal
from llamalab.cli.arguments import MODEL_NAMES, add_choice, add_counts, add_dtypes, add_format, add_part_dtypes
from llamalab.cli.combinations import axis, combined
from llamalab.cli.devices import one_device
from llamalab.cli.find_model import find_model
from llamalab.cli.output import Answer, Column, Table
from llamalab.formatting import format_bytes, format_seconds, format_si, signed
from llamalab.startup.hints import Any

SUMMARY = "what differs between two models, and what each difference costs"
EXAMPLES = (
    "llamalab diff-arch 7b llama-3.1-8b",
    "llamalab diff-arch 7b mistral-7b-v0.1 --prompt 16k --hardware a100-80gb-sxm",
    "llamalab diff-arch qwen2.5-7b path/to/config.json --format json",
)
_DEVICE = "h100-80gb-sxm"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab diff-arch`."""
    for name in ("one", "other"):
        parser.add_argument(name, metavar=name.upper(), help=MODEL_NAMES)
    add_counts(parser, "--prompt", "tokens of the prompt, and of the cache that is counted", default=2048)
    add_counts(parser, "--batch", "sequences", default=1)
    add_choice(parser, "--attention", ALGORITHMS, "flash", "the attention algorithm")
    parser.add_argument("--hardware", default=_DEVICE, help="the device of the times (default: %(default)s)")
    add_dtypes(parser, "of weights, activations and KV cache")
    add_part_dtypes(parser)
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """Both costs, and the terms of their difference; for several runs the costs of each."""
    return combined(args, _difference, axis(args, "dtype", "weight_dtype", "kv_dtype", "batch", "prompt"), _RUNS)


def _difference(args: argparse.Namespace) -> Answer:
    (one, arch), (other, second) = find_model(args.one), find_model(args.other)
    names, archs = (one, other), (arch, second)
    spec = one_device(args.hardware, args.dtype)
    work = Workload(
        args.prompt,
        batch=args.batch,
        dtype=args.dtype,
        weight_dtype=args.weight_dtype,
        kv_dtype=args.kv_dtype,
        attention=args.attention,
    )
    constants = choose(spec, "calibrated" if spec.measured else "shipped", args.dtype, args.weight_dtype)

    def seconds(_: LlamaArch, passed: tuple[Op, ...]) -> float:
        return pass_s(passed, constants.rates)

    costs = (cost_of(arch, work, seconds), cost_of(second, work, seconds))
    found = terms(arch, second, work, seconds)
    ops = [row for phase in ("prefill", "decode") for row in _op_rows(archs, work, phase, constants.rates)]
    data = {
        "one": names[0],
        "other": names[1],
        "prompt": args.prompt,
        "batch": args.batch,
        "dtype": args.dtype,
        "weight_dtype": args.weight_dtype,
        "kv_dtype": args.kv_dtype,
        "hardware": spec.name,
        "basis": f"exact; times predicted, {constants.basis}",
        "costs": {name: cost._asdict() for name, cost in zip(names, costs, strict=True)},
        "terms": [
            {
                "fields": term.fields,
                "before": list(map(_plain, term.before)),
                "after": list(map(_plain, term.after)),
                "added": term.added._asdict(),
            }
            for term in found
        ],
        "operations": ops,
    }
    for side, cost in zip(("one", "other"), costs, strict=True):
        data |= {f"{side}_{key}": getattr(cost, key) for key in ("kv_bytes", "prefill_s", "decode_s")}
    tables = (
        Table(
            _COLUMNS,
            table_rows(names, costs, found),
            "From one to the other, term by term; each line adds to the one above it:",
        ),
        Table(_OPS, ops, "Operation by operation, all occurrences together:"),
    )
    return Answer(data, _lead(names, archs, found, args, spec.name), tables)


def _lead(
    names: tuple[str, ...],
    archs: tuple[LlamaArch, ...],
    found: tuple[DifferenceTerm, ...],
    args: argparse.Namespace,
    device: str,
) -> tuple[str, ...]:
    if not found:
        return (f"{names[0]} and {names[1]} have the same architecture",)
    fields = ", ".join(field for term in found for field in term.fields)
    free = [field for term in found if not any(term.added) for field in term.fields]
    refusals = [
        f"  {name}: {reason}" for name, arch in zip(names, archs, strict=True) if (reason := model_refusal(arch))
    ]
    return (
        f"{names[1]} differs from {names[0]} in {fields}",
        *([f"  of no cost: {', '.join(free)}"] if free else []),
        f"  {args.prompt:,} tokens, batch {args.batch}, {args.dtype}; times predicted for {device}",
        *refusals,
    )


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, RopeScaling | Experts) else value


def _op_rows(archs: tuple[LlamaArch, ...], work: Workload, phase: str, rates: Any) -> list[dict[str, Any]]:
    """The rows of both tables by name, in the order of the first, followed by rows only in the other."""
    new, context = (work.prompt, work.prompt) if phase == "prefill" else (1, work.prompt + 1)
    one, other = ({op.name: op for op in pass_ops(arch, work, new, context)} for arch in archs)
    rows = []
    for name in dict.fromkeys((*one, *other)):
        row: dict[str, Any] = {"phase": phase, "operation": name}
        for side, op in (("one", one.get(name)), ("other", other.get(name))):
            row |= {
                f"{side}_flops": op.count * op.flops_causal if op else None,
                f"{side}_bytes": op.count * op.bytes if op else None,
                f"{side}_s": pass_s((op,), rates) if op else None,
            }
        rows.append(row)
    return rows


def _signed(form: Any) -> Any:
    return lambda value: "–" if value is None else signed(form)(value)


_BYTES, _COUNT, _SECONDS = (
    _signed(format_bytes),
    _signed(lambda value: format_si(value, "FLOP")),
    _signed(format_seconds),
)
_COLUMNS = (
    Column("term", "term"),
    Column("before", "from"),
    Column("after", "to"),
    Column("parameters", "parameters", _signed("{:,}".format)),
    Column("kv_bytes", "KV cache", _BYTES),
    Column("prefill_s", "prefill", _SECONDS),
    Column("decode_s", "per token", _SECONDS),
    Column("prefill_flops", "prefill FLOPs", _COUNT),
    Column("decode_bytes", "decode moves", _BYTES),
    Column("weight_bytes", "weights", _BYTES),
)
_RUNS = (
    Column("one_prefill_s", "prefill", format_seconds),
    Column("other_prefill_s", "of the other", format_seconds),
    Column("one_decode_s", "per token", format_seconds),
    Column("other_decode_s", "of the other", format_seconds),
    Column("one_kv_bytes", "KV cache", format_bytes),
    Column("other_kv_bytes", "of the other", format_bytes),
)
_OPS = (
    Column("phase", "phase"),
    Column("operation", "operation"),
    Column("one_s", "time", _SECONDS),
    Column("other_s", "time then", _SECONDS),
    Column("one_flops", "FLOPs", _COUNT),
    Column("other_flops", "FLOPs then", _COUNT),
    Column("one_bytes", "moves", _BYTES),
    Column("other_bytes", "moves then", _BYTES),
)
