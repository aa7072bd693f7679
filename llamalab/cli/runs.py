"""The options that describe a run on a device, and sweeps over them.

A sweep is several values of an option: 1,2,4 or first-last*factor or first-last+step.
"""

import argparse
from collections.abc import Iterator
from itertools import product

from llamalab.analytic.constants import TIERS, choose
from llamalab.analytic.ops import ALGORITHMS
from llamalab.analytic.rate_constants import Constants
from llamalab.analytic.splits import Split
from llamalab.analytic.stack_constants import StackConstants, named_constants, prepared
from llamalab.analytic.stacks import assumed_stack, find_stack
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.choices import LOGITS, STACK_NAMES
from llamalab.cli.arguments import (
    add_choice,
    add_count,
    add_counts,
    add_dtypes,
    add_part_dtypes,
    counts,
    file_path,
    named_models,
    one_of,
)
from llamalab.cli.counts import parse_counts
from llamalab.cli.devices import chosen_devices
from llamalab.cli.find_model import find_model, own_storage
from llamalab.cli.lengths import add_lengths, run_lengths
from llamalab.cli.parser import Parser
from llamalab.errors import InputError, UnavailableError, UnknownNameError
from llamalab.hardware import HardwareSpec
from llamalab.startup.hints import NamedTuple
from llamalab.units import DTYPES


class Case(NamedTuple):
    """One combination of a sweep; `work` is of all devices of the split."""

    model: str
    arch: LlamaArch
    spec: HardwareSpec
    work: Workload
    split: Split = Split()


def add_models(parser: argparse.ArgumentParser) -> None:
    """--model, one or several."""
    parser.add_argument("--model", default="7b", help="presets, .json files or checkpoints, with commas (default: 7b)")


def add_hardware(parser: argparse.ArgumentParser, default: str) -> None:
    """--hardware, one or several or all."""
    about = "devices with commas, all of them, your own as a .json file, or this machine: this, cpu"
    parser.add_argument("--hardware", default=default, help=f"{about} (default: {default})")


def add_numbers(parser: argparse.ArgumentParser) -> None:
    """The number formats, and how the model is run."""
    add_dtypes(parser, "of activations, and of what is not named", known=DTYPES)
    add_part_dtypes(parser, cache=DTYPES)
    add_choice(parser, "--attention", ALGORITHMS, "flash", "the attention algorithm")
    add_choice(parser, "--logits", LOGITS, "last", "the positions whose logits are wanted")
    fusion = parser.add_mutually_exclusive_group()
    fusion.add_argument("--unfused", action="store_true", help="one kernel per operation of the plain model")
    fusion.add_argument("--fused", action="store_true", help="fuse as servers do (default, if not calibrated)")
    add_count(parser, "--chunk", "prefill the prompt so many tokens at a time")


def add_basis(parser: argparse.ArgumentParser) -> None:
    """--stack, --threads, --basis and --constants."""
    parser.add_argument("--stack", metavar="NAME", help=f"the software that runs it: {', '.join(STACK_NAMES)}")
    add_count(parser, "--threads", "threads of a CPU of the table, as its stack runs it (default: one a core)")
    parser.add_argument(
        "--basis",
        type=one_of("--basis", TIERS),
        metavar="|".join(TIERS),
        help="what a prediction rests on (default: shipped; calibrated for this machine)",
    )
    parser.add_argument("--constants", type=file_path, help="a file of llamalab calibrate, with --basis calibrated")


def add_shape(parser: Parser, *, generate: int) -> None:
    """--prompt, --generate, --context and --batch."""
    add_lengths(parser, prompt=2048, generate=generate)
    add_counts(parser, "--batch", "sequences", default=1)
    parser.rename("--seq", "--prompt")


def add_ranks(parser: argparse.ArgumentParser, default: str) -> None:
    """--tensor-parallel, or --tp."""
    parser.add_argument(
        "--tp",
        "--tensor-parallel",
        type=counts("--tensor-parallel"),
        default=parse_counts(default),
        metavar="N",
        dest="tensor_parallel",
        help=f"devices that share the model (default: {default})",
    )
    about = "each of the devices holds whole experts, not a part of each (mixtures of experts)"
    parser.add_argument("--expert-parallel", action="store_true", help=about)


SPLITS = {
    "--pp": ("--pipeline-parallel", "stages that share the layers, each of --tensor-parallel devices"),
    "--cp": ("--context-parallel", "devices that share the tokens of a prompt and its cache (ring attention)"),
    "--replicas": ("--replicas", "whole copies of all that, which share the sequences"),
}


def add_splits(parser: argparse.ArgumentParser) -> None:
    """--pipeline-parallel, --context-parallel and --replicas."""
    for short, (name, about) in SPLITS.items():
        parser.add_argument(
            *dict.fromkeys((short, name)),
            type=counts(name),
            default=parse_counts("1"),
            metavar="N",
            dest=name.removeprefix("--").replace("-", "_"),
            help=f"{about} (default: 1)",
        )


def _splits(args: argparse.Namespace) -> Iterator[Split]:
    """Every way to split that the options span; of a verb without add_splits, tensor parallelism."""
    others = (getattr(args, name, (1,)) for name in ("pipeline_parallel", "context_parallel", "replicas"))
    return (Split(*ways) for ways in product(args.tensor_parallel, *others))


def workload(args: argparse.Namespace, prompt: int, generate: int, batch: int, ranks: int) -> Workload:
    """One run of the options."""
    return Workload(
        prompt=prompt,
        generate=generate,
        batch=batch,
        dtype=args.dtype,
        weight_dtype=args.weight_dtype,
        kv_dtype=args.kv_dtype,
        attention=args.attention,
        fused=args.fused or not (args.unfused or args.basis == "calibrated"),
        tensor_parallel=ranks,
        chunk=args.chunk,
        logits=args.logits,
        expert_parallel=getattr(args, "expert_parallel", False),
        threads=args.threads,
    )


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """Every combination of the options, devices innermost: passes that differ in nothing else are shared."""
    _check_stack(args)
    models = [(path, *find_model(path)) for path in named_models(args.model)]
    devices = {dtype: chosen_devices(args.hardware, dtype) for dtype in args.dtype}
    known = devices[args.dtype[0]]
    if args.threads and not any(_takes_threads(args, spec) for spec in known):
        first, *others = (spec.name for spec in known)
        got = f"{first} and {len(others)} more" if others else first
        raise InputError(f"--threads must be given for a CPU of the table, by stack: --hardware ryzen-7950x; got {got}")
    if args.basis is None and all(spec.measured for spec in known):
        args.basis = "calibrated"  # and with it the plain model, whose kernels were calibrated
    shapes = product(run_lengths(args), args.batch, _splits(args))
    each = [
        (*own_storage(args, path, formats), name, arch) for path, name, arch in models for formats in _formats(args)
    ]
    for (asked, stored, name, arch), ((prompt, generate), batch, split) in product(each, list(shapes)):
        work = workload(asked, prompt, generate, batch, split.tensor)
        if stored:
            work = work._replace(stored_bytes=stored.bytes)
        for spec in devices[asked.dtype]:
            run = _as_run(args, spec, work)
            if run.layer_parallel > 1 and not split.only_tensor:
                raise InputError(
                    f"--stack {_stack(args, spec)} shares a model out by layers: of --tensor-parallel and the other "
                    "ways to split, one must be 1"
                )
            yield Case(name, arch, spec, run, split)


def _formats(args: argparse.Namespace) -> list[dict[str, str | None]]:
    """Every combination of the number formats."""
    names = ("dtype", "weight_dtype", "kv_dtype")
    values = product(*(getattr(args, name) or [None] for name in names))
    return [dict(zip(names, each, strict=True)) for each in values]


def _as_run(args: argparse.Namespace, spec: HardwareSpec, work: Workload) -> Workload:
    """The run with the stack's settings; unchanged where no stack is named or it has no constants for the device."""
    name = _stack(args, spec)
    if name is None:
        return work
    try:
        return prepared(spec, work, name)[0]
    except UnavailableError:  # constants_of reports the error
        return work


def _stack(args: argparse.Namespace, spec: HardwareSpec) -> str | None:
    """The named stack; else the usual one of the device, unless other options describe the kernels."""
    named = args.basis or args.fused or args.unfused or args.constants or args.attention != "flash"
    return args.stack or (None if named else assumed_stack(spec))


def _takes_threads(args: argparse.Namespace, spec: HardwareSpec) -> bool:
    """Whether a prediction for a device depends on how many threads run."""
    return spec.kind == "cpu" and args.basis != "bound" and _stack(args, spec) is not None


def _check_stack(args: argparse.Namespace) -> None:
    """Refuse options whose setting is part of a stack."""
    if args.stack is None:
        return
    if args.stack not in STACK_NAMES:
        raise UnknownNameError("stack", args.stack, STACK_NAMES)
    given = {
        "--unfused": args.unfused,
        "--fused": args.fused,
        "--constants": args.constants,
        "--attention": args.attention != "flash",
        f"--basis {args.basis}": args.basis not in (None, "shipped", "bound"),
    }
    for option, there in given.items():
        if there:
            raise InputError(f"--stack and {option} must not be given together: a stack tells how it runs a model")


def constants_of(args: argparse.Namespace, case: Case) -> Constants | StackConstants:
    """The basis of a case's prediction: its device, and the storage of its weights."""
    spec, work = case.spec, case.work
    name = _stack(args, spec)
    if name and args.basis != "bound":
        assumed = args.stack is None
        return named_constants(
            name, spec, work.dtype, work.weight_dtype, threads=work.threads, ranks=work.tensor_parallel, assumed=assumed
        )
    if name:
        find_stack(name, spec)
    tier = args.basis or ("calibrated" if spec.measured else "shipped")
    return choose(spec, tier, work.dtype, work.weight_dtype, file=args.constants)
