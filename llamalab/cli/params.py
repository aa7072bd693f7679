"""`llamalab params`: how many parameters, in which part of the model?"""

import argparse

from llamalab.analytic.params import Weight, components, parameter_count, weights
from llamalab.arch import LlamaArch
from llamalab.cli.arguments import add_dtype, add_format, add_model, chosen_model
from llamalab.cli.output import Answer, Column, Table, percent, show, thousands
from llamalab.units import DTYPES, format_bytes, storage_bytes

SUMMARY = "parameters and weight bytes, by component"
EXAMPLES = (
    "llamalab params --model 70b",
    "llamalab params --model path/to/params.json --dtype fp32",
    "llamalab params --model 13b --format json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab params`."""
    add_model(parser)
    add_dtype(parser, "storage of the weights", known=DTYPES)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the parameter count by component and by tensor."""
    model, arch = chosen_model(args)
    show(_answer(model, arch, args.dtype), args.format)
    return 0


def _answer(model: str, arch: LlamaArch, dtype: str) -> Answer:
    total = parameter_count(arch)
    parts = components(arch)
    size = storage_bytes(total, dtype)
    data = {
        "model": model,
        "dtype": dtype,
        "parameters": total,
        "components": parts,
        "weight_bytes": size,
        "tied_embeddings": arch.tied_embeddings,
        "basis": "exact",
        "tensors": [_tensor(weight) for weight in weights(arch)],
    }
    rows = [
        {"model": model, "component": part, "parameters": number, "share": number / total}
        | {"weight_bytes": storage_bytes(number, dtype)}
        for part, number in parts.items()
    ]
    everything = {"component": "total", "parameters": total, "share": 1.0, "weight_bytes": size}
    columns = (
        Column("component", "component"),
        Column("parameters", "parameters", thousands),
        Column("share", "share", percent),
        Column("weight_bytes", f"in {dtype}", format_bytes),
    )
    lead = (f"{model} has {total:,} parameters, exact: {format_bytes(size)} ({size:,} bytes) in {dtype}",)
    return Answer(data, lead, (Table(columns, rows, total=everything), _tensor_table(arch)))


def _tensor(weight: Weight) -> dict[str, object]:
    return {**weight._asdict(), "parameters": weight.parameters}


def _tensor_table(arch: LlamaArch) -> Table:
    columns = (
        Column("name", "tensor"),
        Column("shape", "shape", lambda shape: " × ".join(map(str, shape))),
        Column("count", "count"),
        Column("parameters", "parameters", thousands),
    )
    return Table(columns, [_tensor(weight) for weight in weights(arch)], "Each tensor, under Meta's name:")
