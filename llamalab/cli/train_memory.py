"""`llamalab train-memory`: memory and FLOPs of a training step, and the savings of recomputation."""

import argparse

from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import IMPLEMENTATIONS, TRAINED_WITH, Kept
from llamalab.analytic.training import RECOMPUTE, training_flops
from llamalab.analytic.training_solve import (
    TRAINING_QUESTIONS,
    TrainingStep,
    check_training_fits,
    solved_training,
    training_changes_that_fit,
)
from llamalab.cli.arguments import (
    add_choice,
    add_counts,
    add_dtypes,
    add_format,
    add_model,
    add_shared,
    bytes_of_option,
    chosen_model,
    one_of,
)
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.device_memory import DEVICE_COLUMNS, device_memory, devices_that_hold
from llamalab.cli.devices import chosen_devices
from llamalab.cli.output import Answer, Column, Table, counted
from llamalab.cli.packing import add_packing, documents_of, said_of
from llamalab.cli.parser import Parser
from llamalab.errors import InputError
from llamalab.formatting import format_bytes, format_si
from llamalab.startup.hints import Any
from llamalab.units import FLOAT_DTYPES

SUMMARY = "memory and FLOPs of a training step, by recomputation level"
EXAMPLES = (
    "llamalab train-memory --model 70b --context 4096 --batch 2 --tensor-parallel 8 --recompute selective",
    "llamalab train-memory --model 7b --context 8192 --packing 16 --implementation fused",
    "llamalab train-memory --model 7b --recompute full --memory 141GB --solve batch",
)
_COLUMNS = (
    Column("recompute", "recompute"),
    Column("weight_bytes", "weights", format_bytes),
    Column("gradient_bytes", "gradients", format_bytes),
    Column("optimizer_bytes", "AdamW", format_bytes),
    Column("activation_bytes", "activations", format_bytes),
    Column("total_bytes", "total", format_bytes),
    Column("margin_bytes", "margin", format_bytes, 1),
    Column("flops", "FLOPs a step", lambda value: format_si(value, "FLOP"), 1),
    Column("chosen", "", lambda chosen: "<- chosen" if chosen else "", -1),
)
_SAVED = (
    Column("name", "kept by each block"),
    Column("bytes", "bytes", format_bytes),
    Column("inside_attention", "selective recomputes", lambda inside: "yes" if inside else ""),
)


def configure(parser: Parser) -> None:
    """The options of `llamalab train-memory`."""
    add_model(parser)
    add_counts(parser, "--context", "tokens in each sequence", default=4096)
    parser.rename("--seq", "--context")
    add_counts(parser, "--batch", "sequences in a step", default=1)
    add_dtypes(parser, "of weights, gradients and activations", known=FLOAT_DTYPES)
    add_choice(parser, "--attention", TRAINED_WITH, "flash", "the attention algorithm")
    add_choice(parser, "--implementation", IMPLEMENTATIONS, "llamalab", "whose operations keep what")
    add_choice(parser, "--recompute", RECOMPUTE, "none", "what the backward pass computes again")
    add_packing(parser)
    add_shared(parser)
    space = parser.add_mutually_exclusive_group()
    space.add_argument(
        "--memory", type=bytes_of_option("--memory"), metavar="SIZE", help="of one device; exit code 3 past it"
    )
    space.add_argument("--hardware", metavar="NAME", help="refuse what does not fit into this device; exit code 3")
    about = "what to look for: the most that fits, or the least that makes it fit"
    words = TRAINING_QUESTIONS
    parser.add_argument("--solve", type=one_of("--solve", words), metavar="|".join(words), help=about)
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """Every recomputation level; a row for each of several steps. Raises DoesNotFitError where it does not fit."""
    return combined(
        args, _one, [models(args), *axis(args, "dtype", "tensor_parallel", "batch", "context")], _COLUMNS[1:-1]
    )


def _one(args: argparse.Namespace) -> Answer:
    model, step = _asked(args)
    sizes = _sizes(args)
    if args.solve == "device":
        if sizes:
            raise InputError("--solve device must come without --memory and --hardware; leave them out")
        return _devices(model, step)
    if args.solve is not None:
        if len(sizes) != 1:
            raise InputError(f"--solve must come with --memory or one device of --hardware; got {len(sizes)} of them")
        step = solved_training(args.solve, step, *sizes.values())
    for name, size in sizes.items():
        check_training_fits(step, size, name)
    data = _data(model, step) | {"solved": args.solve}
    if len(sizes) == 1:
        (size,) = sizes.values()
        data |= {"memory_bytes": size, "left_bytes": size - step.memory.safe_bytes}
    lead = (*_lead(model, step), *_room_words(data, sizes))
    return Answer(data, lead, _tables(data))


def _asked(args: argparse.Namespace) -> tuple[str, TrainingStep]:
    model, arch = chosen_model(args)
    shape = PassShape(
        new_tokens=args.context,
        batch=args.batch,
        dtype=args.dtype,
        attention=args.attention,
        tensor_parallel=args.tensor_parallel,
    )
    return model, TrainingStep(arch, shape, args.recompute, args.implementation, documents_of(args))


def _sizes(args: argparse.Namespace) -> dict[str, int]:
    """The memory of every device that was named."""
    if args.memory is not None:
        return {"the memory": args.memory}
    specs = chosen_devices(args.hardware) if args.hardware is not None else []
    sized = [spec for spec in specs if spec.usable_memory_bytes] if len(specs) > 1 else specs
    return {spec.name: device_memory(spec) for spec in sized}


def _data(model: str, step: TrainingStep) -> dict[str, Any]:
    rows = [_level(step._replace(recompute=level)) | {"chosen": level == step.recompute} for level in RECOMPUTE]
    kept = Kept(step.arch, step.shape, step.implementation, documents=step.documents).block()
    inputs = {
        "context": step.shape.new_tokens,
        "batch": step.shape.batch,
        "attention": step.shape.attention,
        "tensor_parallel": step.shape.tensor_parallel,
        "dtype": step.shape.dtype,
        "implementation": step.implementation,
        "documents": list(step.documents),
    }
    chosen = next(row for row in rows if row["chosen"])
    tables = {"levels": rows, "kept_by_block": [item._asdict() for item in kept]}
    margin = {"basis": "counted; the margin is beside the sum", "margin": step.memory.margin._asdict()}
    return {"model": model, "inputs": inputs, **margin, **chosen, **tables}


def _level(step: TrainingStep) -> dict[str, Any]:
    memory = step.memory
    flops = training_flops(step.arch, step.shape, recompute=step.recompute, documents=step.documents)
    row = {
        "recompute": step.recompute,
        **memory._asdict(),
        "total_bytes": memory.total_bytes,
        "margin_bytes": memory.margin.total_bytes,
        "flops": flops.total,
    }
    return row | {f"flops_{part}": count for part, count in flops._asdict().items()}


def _tables(data: dict[str, Any]) -> tuple[Table, ...]:
    return (Table(_COLUMNS, data["levels"]), Table(_SAVED, data["kept_by_block"]))


def _lead(model: str, step: TrainingStep) -> tuple[str, ...]:
    shape, words = step.shape, said_of(step.shape.new_tokens, step.documents)
    ranks = f", on each of {shape.tensor_parallel} devices" if shape.tensor_parallel > 1 else ""
    return (
        f"training {model} with AdamW, {shape.batch} × {shape.new_tokens} tokens, {shape.dtype}, "
        f"{shape.attention} attention{ranks}",
        f"  {format_bytes(step.memory.total_bytes)} with recompute {step.recompute}, and "
        f"{format_bytes(step.memory.margin.total_bytes)} of margin:",
        f"  {_parts(step)}",
        *([f"  {words}"] if words else []),
    )


def _parts(step: TrainingStep) -> str:
    """The margin, term by term."""
    return ", ".join(f"{format_bytes(int(one['bytes']))} {one['term']}" for one in step.memory.margin.terms())


def _room_words(data: dict[str, Any], sizes: dict[str, int]) -> list[str]:
    """The solved setting and the memory left, in words."""
    inputs, lines = data["inputs"], []
    if data["solved"] is not None:
        words = {
            "batch": f"at most {counted(inputs['batch'], 'sequence')} in a step",
            "context": f"at most {counted(inputs['context'], 'token')} in each sequence",
            "weights": f"{inputs['dtype']} is the widest type that fits",
            "ranks": f"at least {counted(inputs['tensor_parallel'], 'device')}",
            "recompute": f"at least {data['recompute']} recomputation",
        }
        lines.append(f"  {words[data['solved']]}")
    if "left_bytes" in data:
        (name,) = sizes
        lines.append(
            f"  fits into {format_bytes(data['memory_bytes'])} of {name}: {format_bytes(data['left_bytes'])} is left"
        )
    return lines


def _devices(model: str, step: TrainingStep) -> Answer:
    """The devices of the table on which the step fits, smallest first."""
    held = step.memory.safe_bytes
    rows = devices_that_hold(held, "the step", lambda size: training_changes_that_fit(step, size))
    data = _data(model, step) | {"solved": "device", "devices": rows}
    found = f"  fits into {counted(len(rows), 'device')} of the table, {rows[0]['hardware']} first"
    return Answer(data, (*_lead(model, step), found), (Table(DEVICE_COLUMNS, rows), *_tables(data)))
