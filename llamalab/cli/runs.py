"""The options that describe a run on a device, and the sweeps they can span.

A sweep is several values of an option: 1,2,4 or first-last*factor or first-last+step.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

from llamalab.analytic.constants import TIERS, Constants, choose
from llamalab.analytic.forecast import Workload
from llamalab.analytic.ops import ALGORITHMS, LOGITS
from llamalab.analytic.stack_constants import StackConstants, prepared
from llamalab.analytic.stacks import assumed_stack, find_stack, stack_names
from llamalab.arch import LlamaArch
from llamalab.cli.arguments import add_choice, add_count, one_of, split_paths
from llamalab.cli.devices import chosen_devices
from llamalab.errors import InputError, UnavailableError, UnknownNameError
from llamalab.hardware import HardwareSpec
from llamalab.presets import resolve_model
from llamalab.units import DTYPES, parse_count

MOST_VALUES = 10_000


class Case(NamedTuple):
    """One combination of a sweep."""

    model: str
    arch: LlamaArch
    spec: HardwareSpec
    work: Workload


def parse_counts(text: str, what: str = "count") -> list[int]:
    """Counts: one, several, or a range with a factor or a step.

    >>> parse_counts("512-8192*2"), parse_counts("1,2,4"), parse_counts("1k-3k+1k")
    ([512, 1024, 2048, 4096, 8192], [1, 2, 4], [1024, 2048, 3072])
    """
    values: list[int] = []
    for part in text.split(","):
        first, dash, rest = part.partition("-")
        if not dash:
            values.append(parse_count(part, what))
            continue
        sign = "*" if "*" in rest else "+"
        last, found, by = rest.partition(sign)
        if not found:
            raise InputError(f"{what} must be a range like 512-8192*2 or 512-2048+512; got {part!r}")
        values += _range(parse_count(first, what), parse_count(last, what), sign, parse_count(by, what), part)
    return values


def _range(first: int, last: int, sign: str, by: int, text: str) -> list[int]:
    if last < first or (sign == "*" and by < 2):
        raise InputError(f"a range must rise, by a factor of at least 2 or a step of at least 1; got {text!r}")
    values = [first]
    while (following := values[-1] * by if sign == "*" else values[-1] + by) <= last:
        values.append(following)
        if len(values) > MOST_VALUES:
            raise InputError(f"a range must have at most {MOST_VALUES:,} values; got {text!r}")
    return values


def counts(option: str) -> Callable[[str], list[int]]:
    """An argparse type: what parse_counts reads."""

    def read(text: str) -> list[int]:
        try:
            return parse_counts(text, option)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def add_models(parser: argparse.ArgumentParser) -> None:
    """--model, one or several."""
    parser.add_argument("--model", default="7b", help="presets or .json files, with commas (default: 7b)")


def add_hardware(parser: argparse.ArgumentParser, default: str) -> None:
    """--hardware, one or several or all."""
    about = "devices with commas, all of them, your own as a .json file, or this machine: this, cpu"
    parser.add_argument("--hardware", default=default, help=f"{about} (default: {default})")


def add_numbers(parser: argparse.ArgumentParser) -> None:
    """The number formats, and how the model is run."""
    add_choice(parser, "--dtype", DTYPES, "bf16", "of activations, and of what is not named")
    for option, what in (("--weight-dtype", "the matrices"), ("--kv-dtype", "the KV cache")):
        parser.add_argument(
            option, type=one_of(option, DTYPES), metavar="|".join(DTYPES), help=f"of {what} (default: --dtype)"
        )
    add_choice(parser, "--attention", ALGORITHMS, "flash", "the attention algorithm")
    add_choice(parser, "--logits", LOGITS, "last", "the positions whose logits are wanted")
    fusion = parser.add_mutually_exclusive_group()
    fusion.add_argument("--unfused", action="store_true", help="one kernel per operation of the plain model")
    fusion.add_argument("--fused", action="store_true", help="fuse as servers do (default, if not calibrated)")
    add_count(parser, "--chunk", "prefill the prompt so many tokens at a time")


def add_basis(parser: argparse.ArgumentParser) -> None:
    """--stack, --basis and --constants."""
    parser.add_argument("--stack", metavar="NAME", help=f"the software that runs it: {', '.join(stack_names())}")
    parser.add_argument(
        "--basis", type=one_of("--basis", TIERS), metavar="|".join(TIERS),
        help="what a prediction rests on (default: shipped; calibrated for this machine)",
    )  # fmt: skip
    parser.add_argument("--constants", type=Path, help="a file of llamalab calibrate, with --basis calibrated")


def add_shape(parser: argparse.ArgumentParser, *, generate: str) -> None:
    """--prompt (or --seq), --generate and --batch."""
    parser.add_argument(
        "--prompt", "--seq", type=counts("--prompt"), default=[2048], metavar="N", help="prompt tokens (default: 2048)"
    )
    about = f"tokens generated after the prompt (default: {generate})"
    parser.add_argument("--generate", type=counts("--generate"), default=[int(generate)], metavar="N", help=about)
    parser.add_argument("--batch", type=counts("--batch"), default=[1], metavar="N", help="sequences (default: 1)")


def add_ranks(parser: argparse.ArgumentParser, default: str) -> None:
    """--tensor-parallel."""
    parser.add_argument(
        "--tensor-parallel", type=counts("--tensor-parallel"), default=parse_counts(default), metavar="N",
        help=f"devices that share the model (default: {default})",
    )  # fmt: skip
    about = "each of the devices holds whole experts, not a part of each (mixtures of experts)"
    parser.add_argument("--expert-parallel", action="store_true", help=about)


def workload(args: argparse.Namespace, prompt: int, generate: int, batch: int, ranks: int) -> Workload:
    """One run of the options."""
    return Workload(
        prompt, generate, batch, args.dtype, args.weight_dtype, args.kv_dtype, args.attention,
        args.fused or not (args.unfused or args.basis == "calibrated"), ranks, args.chunk,
        args.logits, getattr(args, "expert_parallel", False),
    )  # fmt: skip


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """Every combination of the options, devices innermost: passes that differ in nothing else are shared."""
    _check_stack(args)
    models = [resolve_model(name) for name in split_paths(args.model) or [args.model]]
    devices = chosen_devices(args.hardware, args.dtype)
    if args.basis is None and all(spec.measured for spec in devices):
        args.basis = "calibrated"  # and with it the plain model, whose kernels were calibrated
    shapes = product(args.prompt, args.generate, args.batch, args.tensor_parallel)
    for (name, arch), shape in product(models, list(shapes)):
        work = workload(args, *shape)
        for spec in devices:
            yield Case(name, arch, spec, _as_run(args, spec, work))


def _as_run(args: argparse.Namespace, spec: HardwareSpec, work: Workload) -> Workload:
    """The run as the stack does it; as it was asked for where none is named or it has no constants for the device."""
    name = _stack(args, spec)
    if name is None:
        return work
    try:
        return prepared(spec, work, name)[0]
    except UnavailableError:  # constants_of tells why
        return work


def _stack(args: argparse.Namespace, spec: HardwareSpec) -> str | None:
    """The stack that is named; else the one that is usual on the device, unless the options tell how it is run."""
    told = args.basis or args.fused or args.unfused or args.constants or args.attention != "flash"
    return args.stack or (None if told else assumed_stack(spec))


def _check_stack(args: argparse.Namespace) -> None:
    """A stack settles what the other options ask for."""
    if args.stack is None:
        return
    if args.stack not in stack_names():
        raise UnknownNameError("stack", args.stack, stack_names())
    given = {
        "--unfused": args.unfused, "--fused": args.fused, "--constants": args.constants,
        "--attention": args.attention != "flash", f"--basis {args.basis}": args.basis not in (None, "shipped", "bound"),
    }  # fmt: skip
    for option, there in given.items():
        if there:
            raise InputError(f"--stack and {option} must not be given together: a stack tells how it runs a model")


def constants_of(args: argparse.Namespace, spec: HardwareSpec) -> Constants | StackConstants:
    """What a prediction for a device rests on."""
    name = _stack(args, spec)
    if name and args.basis != "bound":
        return prepared(spec, workload(args, 1, 1, 1, 1), name, assumed=args.stack is None)[1]
    if name:
        find_stack(name, spec)
    tier = args.basis or ("calibrated" if spec.measured else "shipped")
    return choose(spec, tier, args.dtype, args.weight_dtype, file=args.constants)
