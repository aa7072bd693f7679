"""`llamalab params`: the number of parameters in each part of the model."""

import argparse

from llamalab.analytic.experts import active_parameters
from llamalab.analytic.lora import TARGETS, TRAINING_BYTES_PER_PARAMETER, Lora, lora_pairs, parse_lora
from llamalab.analytic.parallel import shard
from llamalab.analytic.params import (
    Weight,
    components,
    parameter_count,
    weight_bytes,
    weights,
)
from llamalab.analytic.weight_storage import component_bytes
from llamalab.arch import LlamaArch
from llamalab.cli.arguments import add_dtypes, add_format, add_model, add_shared, chosen_model, some_of
from llamalab.cli.combinations import axis, combined, models
from llamalab.cli.output import Answer, Column, Table, percent, thousands
from llamalab.cli.stored_models import StoredWeights, stored_model
from llamalab.errors import InputError
from llamalab.formatting import format_bytes
from llamalab.startup.hints import Any
from llamalab.units import DTYPES, storage_bytes

SUMMARY = "parameters and weight bytes, by component"
EXAMPLES = (
    "llamalab params --model 70b",
    "llamalab params --model path/to/params.json --dtype fp32",
    "llamalab params --lora r=16,targets=q,v",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab params`."""
    add_model(parser)
    add_dtypes(parser, "storage of the weights", known=DTYPES)
    parser.add_argument(
        "--weight-dtype",
        type=some_of("--weight-dtype", DTYPES),
        metavar="|".join(DTYPES),
        help="of the matrices, where norms and embedding stay in --dtype (default: as --dtype)",
    )
    add_shared(parser)
    parser.add_argument(
        "--lora",
        metavar="r=R,targets=T,T",
        help=f"cost of a LoRA adapter of rank R beside the model; targets: {', '.join(TARGETS)}",
    )
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The parameters of the model, or of an adapter; a row for each of several models or splits."""
    return combined(args, _one, [models(args), *axis(args, "dtype", "weight_dtype", "tensor_parallel")], _SIZES)


_SIZES = (
    Column("weight_bytes", "weights", format_bytes),
    Column("parameters", "parameters", thousands),
    Column("active_parameters", "active", thousands, 1),
)


def _one(args: argparse.Namespace) -> Answer:
    model, arch = chosen_model(args)
    if args.lora is not None:
        if args.weight_dtype or args.tensor_parallel != 1:
            raise InputError(
                "--lora must not be given with --weight-dtype or --tensor-parallel: an adapter is in --dtype"
            )
        return _lora_answer(model, arch, args.dtype, parse_lora(args.lora))
    return _answer(args, model, arch, stored_model(args.model))


def _answer(args: argparse.Namespace, model: str, arch: LlamaArch, stored: StoredWeights | None) -> Answer:
    total, dtype, ranks = parameter_count(arch), args.weight_dtype or args.dtype, args.tensor_parallel
    active, parts = active_parameters(arch), components(arch)
    by_part = component_bytes(arch, args.dtype, dtype, shard(arch, ranks))
    size = sum(by_part.values())
    where = f", on each of {ranks} devices" if ranks > 1 else ""
    data = {
        "model": model,
        "dtype": args.dtype,
        "weight_dtype": dtype,
        "tensor_parallel": ranks,
        "parameters": total,
        "active_parameters": active,
        "components": parts,
        "weight_bytes": size,
        "stored_bytes": stored.bytes if stored else None,
        "stored_as": stored.kind if stored else None,
        "tied_embeddings": arch.tied_embeddings,
        "basis": "exact",
        "tensors": [_tensor(weight) for weight in weights(arch)],
    }
    rows = [
        {"model": model, "component": part, "parameters": number, "share": number / total}
        | {"weight_bytes": by_part[part]}
        for part, number in parts.items()
    ]
    everything = {"component": "total", "parameters": total, "share": 1.0, "weight_bytes": size}
    columns = (
        Column("component", "component"),
        Column("parameters", "parameters", thousands),
        Column("share", "share", percent),
        Column("weight_bytes", f"in {dtype}", format_bytes),
    )
    lead = [f"{model} has {total:,} parameters, exact: {format_bytes(size)} ({size:,} bytes) in {dtype}{where}"]
    if stored is not None:
        lead.append(f"  in the file: {format_bytes(stored.bytes)} ({stored.bytes:,} bytes), {stored.kind}")
    if arch.experts is not None:
        picked = f"{arch.experts.n_active} of {arch.experts.n_experts} experts"
        met = f"{active:,} parameters ({format_bytes(storage_bytes(active, dtype))})"
        lead.append(f"  {picked} work for a token, which meets {met}")
    return Answer(data, tuple(lead), (Table(columns, rows, total=everything), _tensor_table(arch)))


def _tensor(weight: Weight) -> dict[str, object]:
    return {**weight._asdict(), "parameters": weight.parameters}


def _tensor_table(arch: LlamaArch) -> Table:
    columns = (
        Column("name", "tensor"),
        Column("shape", "shape", _times),
        Column("count", "count"),
        Column("parameters", "parameters", thousands),
    )
    return Table(columns, [_tensor(weight) for weight in weights(arch)], "Each tensor, under Meta's name:")


def _lora_answer(model: str, arch: LlamaArch, dtype: str, lora: Lora) -> Answer:
    pairs, total = lora_pairs(arch, lora), parameter_count(arch)
    added = sum(pair.parameters for pair in pairs)
    size, training = storage_bytes(added, dtype), added * TRAINING_BYTES_PER_PARAMETER
    data: dict[str, Any] = {
        "model": model,
        "dtype": dtype,
        "rank": lora.rank,
        "parameters": added,
        "model_parameters": total,
        "share": added / total,
        "adapter_bytes": size,
        "training_bytes": training,
        "full_training_bytes": total * TRAINING_BYTES_PER_PARAMETER,
        "frozen_weight_bytes": weight_bytes(arch, dtype),
        "basis": "exact; activations are not counted",
        "pairs": [{**pair._asdict(), "parameters": pair.parameters} for pair in pairs],
    }
    rows = [{"model": model, "rank": lora.rank, **pair} for pair in data["pairs"]]
    columns = (
        Column("target", "target"),
        Column("weight", "tensor"),
        Column("a_shape", "A", _times),
        Column("b_shape", "B", _times),
        Column("layers", "layers"),
        Column("parameters", "parameters", thousands),
    )
    lead = (
        f"a LoRA adapter of rank {lora.rank} adds {added:,} parameters to {model}, {100 * added / total:.3f} % of its "
        f"{total:,}: {format_bytes(size)} ({size:,} bytes) in {dtype}; merged, it adds nothing",
        f"  in training: {format_bytes(training)} for it, fp32 with gradient and AdamW's moments, beside "
        f"{format_bytes(data['frozen_weight_bytes'])} of frozen weights; in full it would be "
        f"{format_bytes(data['full_training_bytes'])}; activations are not counted",
    )
    return Answer(data, lead, (Table(columns, rows, total={"target": "total", "parameters": added}),))


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
