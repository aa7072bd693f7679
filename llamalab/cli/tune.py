"""`llamalab tune`: the memory, FLOPs and time of a training or fine-tuning step on each of many devices."""

import argparse

from llamalab.analytic.fine_tuning import tuning_memory, tuning_work
from llamalab.analytic.lora import TARGETS, Lora, named_targets
from llamalab.analytic.optimizers import OPTIMIZERS
from llamalab.analytic.saved_activations import IMPLEMENTATIONS, TRAINED_WITH
from llamalab.analytic.training import RECOMPUTE
from llamalab.analytic.tuned_weights import trained_parameters
from llamalab.analytic.tuning import METHODS, OFFLOADS, PRECISIONS, Tuning
from llamalab.analytic.tuning_solve import STEP_QUESTIONS, check_tuning_fits, largest_tuning_batch, solved_step
from llamalab.cli.arguments import (
    add_choice,
    add_count,
    add_counts,
    add_format,
    add_model,
    add_shared,
    bytes_of_option,
    chosen_model,
    one_of,
    some_of,
)
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.output import Answer, Column, Table
from llamalab.cli.packing import add_packing, documents_of, said_of
from llamalab.cli.parser import Parser
from llamalab.errors import InputError
from llamalab.formatting import format_bytes, format_rate, format_seconds, format_si
from llamalab.startup.hints import Any

SUMMARY = "memory per device, FLOPs and time of full training, LoRA and QLoRA, with ZeRO, parallelism and offload"
EXAMPLES = (
    "llamalab tune --model 7b --method qlora --rank 16 --targets q,v --context 2048 --recompute full --memory 24GB",
    "llamalab tune --model 70b --context 4096 --zero 3 --data-parallel 64 --recompute full --hardware h100-80gb-sxm",
    "llamalab tune --model 7b --zero 3 --context 4096 --memory 80GB --solve devices",
)
_STEPS = (
    Column("total_bytes", "each device", format_bytes),
    Column("flops", "FLOPs", lambda value: format_si(value, "FLOP")),
    Column("step_s", "a step", format_seconds),
    Column("tokens_per_s", "tokens/s", format_rate),
    Column("largest_batch", "largest batch"),
)
_ROWS = (Column("term", "on each device"), Column("bytes", "size", format_bytes), Column("basis", "basis"))
# The largest moment of the backward pass, and how far transfers overlap, are counted from the order of operations.
_BASIS = {"activation_bytes": "estimated", "gathered_bytes": "estimated"}


def configure(parser: Parser) -> None:
    """The options of `llamalab tune`."""
    add_model(parser)
    add_counts(parser, "--context", "tokens in each sequence", default=2048)
    parser.rename("--seq", "--context")
    add_counts(parser, "--batch", "sequences of one pass on one device", default=1)
    add_count(parser, "--accumulate", "passes of a step", default=1)
    add_choice(parser, "--method", METHODS, "full", "what is trained")
    add_count(parser, "--rank", "of adapters (default: 16)")
    parser.add_argument("--targets", help=f"of adapters (default: all): {', '.join(TARGETS)}")
    parser.add_argument("--dora", action="store_true", help="a magnitude for each output of a target")
    parser.add_argument("--embeddings", action="store_true", help="train embedding and head beside adapters")
    parser.add_argument("--single-quant", action="store_true", help="qlora without double quantisation")
    parser.add_argument(
        "--dtype",
        type=some_of("--dtype", PRECISIONS),
        default=["mixed"],
        metavar="|".join(PRECISIONS),
        help="bf16 with an fp32 master, or one that takes the gradients too; bf16 alone; fp32 (default: mixed)",
    )
    add_choice(parser, "--optimizer", OPTIMIZERS, "adamw", "its states")
    add_choice(parser, "--attention", TRAINED_WITH, "flash", "the attention algorithm")
    add_packing(parser)
    add_choice(parser, "--implementation", IMPLEMENTATIONS, "hugging-face", "whose operations keep what")
    add_choice(parser, "--recompute", RECOMPUTE, "none", "what the backward pass computes again")
    parser.add_argument("--zero", type=int, default=0, metavar="0|1|2|3", help="ZeRO stage; FSDP is 3 (default: 0)")
    add_count(parser, "--data-parallel", "devices that share a step's sequences", default=1)
    add_shared(parser)
    parser.add_argument(
        "--split-norms", action="store_true", help="norms and residuals by tokens over --tp: sequence parallelism"
    )
    add_count(parser, "--pipeline-parallel", "groups of devices that share the layers", default=1)
    add_choice(parser, "--offload", OFFLOADS, "none", "what lies in the host's memory")
    space = parser.add_mutually_exclusive_group()
    space.add_argument(
        "--memory", type=bytes_of_option("--memory"), metavar="SIZE", help="of one device; exit code 3 past it"
    )
    space.add_argument("--hardware", metavar="NAME", help="a device, for its memory and its peak")
    about = "what to look for: the most that fits, or the least that makes it fit"
    parser.add_argument("--solve", type=one_of("--solve", STEP_QUESTIONS), metavar="|".join(STEP_QUESTIONS), help=about)
    parser.add_argument("--utilisation", type=float, default=0.4, help="of the peak, model FLOPs (default: 0.4)")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The costs of a step; a row for each of several. Raises DoesNotFitError where it does not fit into the memory."""
    return combined(args, _one, [models(args), *axis(args, "dtype", "tensor_parallel", "batch", "context")], _STEPS)


def _one(args: argparse.Namespace) -> Answer:
    model, arch = chosen_model(args)
    if not 0 < args.utilisation <= 1:
        raise InputError(f"--utilisation must be more than 0 and at most 1; got {args.utilisation}")
    lora = _adapters(args)
    step = Tuning(
        arch,
        seq=args.context,
        batch=args.batch,
        method=args.method,
        lora=lora,
        dora=args.dora,
        train_embeddings=args.embeddings,
        double_quant=not args.single_quant,
        precision=args.dtype,
        optimizer=args.optimizer,
        fused_optimizer=True,
        attention=args.attention,
        implementation=args.implementation,
        recompute=args.recompute,
        accumulate=args.accumulate,
        zero=args.zero,
        data_parallel=args.data_parallel,
        tensor_parallel=args.tensor_parallel,
        sequence_parallel=args.split_norms,
        pipeline_parallel=args.pipeline_parallel,
        offload=args.offload,
        documents=documents_of(args),
    )
    name, size, peak = _device(args, step.dtype)
    if args.solve is not None:
        if size is None:
            raise InputError("--solve must come with --memory or --hardware; got neither")
        step = solved_step(args.solve, step, size)
    held = tuning_memory(step) if size is None else check_tuning_fits(step, size, name)
    work = tuning_work(step, peak_flops_per_s=peak, utilisation=args.utilisation)
    terms = [
        {"term": key.removesuffix("_bytes").replace("_", " "), "bytes": value, "basis": _BASIS.get(key, "exact")}
        for key, value in held._asdict().items()
        if value and key != "host_bytes"
    ]
    data: dict[str, Any] = {
        "model": model,
        "inputs": _inputs(step),
        "lora": None if step.lora is None else step.lora._asdict(),
        "solved": args.solve,
        "trained_parameters": trained_parameters(step),
        **held._asdict(),
        "total_bytes": held.total_bytes,
        "memory_bytes": size,
        "largest_batch": None if size is None else largest_tuning_batch(step, size),
        **work._asdict(),
        "margin_bytes": held.margin.total_bytes,
        "left_bytes": None if size is None else size - held.safe_bytes,
        "basis": "exact terms and estimated ones, each marked; the margin is beside the sum; time from a peak and a "
        "utilisation",
        "terms": terms,
        "margin": held.margin._asdict(),
    }
    return Answer(data, _lead(data, name), (Table(_ROWS, [*terms, *held.margin.terms()]),))


def _inputs(step: Tuning) -> dict[str, Any]:
    """The settings, by the names of the options."""
    return {
        "context" if key == "seq" else key: value
        for key, value in step._asdict().items()
        if key not in ("arch", "lora")
    }


def _adapters(args: argparse.Namespace) -> Lora | None:
    """The adapters that are trained. Raises InputError for options that the method would ignore."""
    of_adapters = ("rank", "targets", "dora", "embeddings", "single_quant")
    ignored = {"full": of_adapters, "lora": ("single_quant",), "qlora": ()}[args.method]
    if given := next((name for name in ignored if getattr(args, name) not in (None, False)), None):
        needed = "qlora" if given == "single_quant" else "lora or qlora"
        raise InputError(f"--{given.replace('_', '-')} must come with --method {needed}; got --method {args.method}")
    if args.method == "full":
        return None
    return Lora(args.rank or 16, named_targets((args.targets or "all").split(",")))


def _device(args: argparse.Namespace, dtype: str) -> tuple[str, int | None, float | None]:
    if args.hardware is None:
        return "the memory", args.memory, None
    from llamalab.cli.device_memory import device_memory
    from llamalab.cli.devices import chosen_devices

    specs = chosen_devices(args.hardware)
    if len(specs) != 1:
        raise InputError(f"--hardware must name one device; got {len(specs)}")
    return specs[0].name, device_memory(specs[0]), specs[0].peak_flops_per_s.get(dtype)


def _lead(data: dict[str, Any], name: str) -> tuple[str, ...]:
    inputs = data["inputs"]
    lines = [
        f"{inputs['method']} training of {data['model']}, {inputs['batch']} × {inputs['context']:,} tokens a pass: "
        f"{format_bytes(data['total_bytes'])} on each device and {format_bytes(data['margin_bytes'])} of margin, "
        f"{data['trained_parameters']:,} parameters trained",
        f"  {format_si(data['flops'], 'FLOP')} and {data['tokens']:,} tokens a step",
    ]
    if words := said_of(inputs["context"], inputs["documents"]):
        lines.append(f"  {words}: {data['taught_tokens']:,} a step")
    if data["solved"] is not None:
        lines.append(f"  {_found(data)}")
    if data["memory_bytes"] is not None:
        lines.append(
            f"  fits into {format_bytes(data['memory_bytes'])} of {name}: {format_bytes(data['left_bytes'])} is left; "
            f"at most batch {data['largest_batch']}"
        )
    if data["step_s"] is not None:
        lines.append(f"  {format_seconds(data['step_s'])} a step, {format_rate(data['tokens_per_s'])} tokens/s")
    if data["host_bytes"]:
        lines.append(f"  and {format_bytes(data['host_bytes'])} of the host's memory")
    return tuple(lines)


def _found(data: dict[str, Any]) -> str:
    """The solved setting, in words."""
    inputs = data["inputs"]
    return {
        "batch": f"at most {inputs['batch']:,} sequences a pass",
        "context": f"at most {inputs['context']:,} tokens in each sequence",
        "rank": f"at most rank {(data['lora'] or {}).get('rank')}",
        "devices": f"at least {inputs['data_parallel']:,} devices with ZeRO {inputs['zero']}",
        "recompute": f"at least {inputs['recompute']} recomputation",
        "optimizer": f"{inputs['optimizer']} has the widest states that fit",
    }[data["solved"]]
