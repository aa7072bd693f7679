"""`llamalab tour`: one pass of a real sentence through a checkpoint, operation by operation.

Shows of each operation its purpose, shape, FLOPs, bytes, time and some values; then the attention of each token in one
head, drawn in characters, and the likeliest next tokens.
"""

import argparse

from llamalab.choices import ACTIVATION_DTYPES, TEXT_DEVICES
from llamalab.cli.arguments import add_format, add_place, one_of
from llamalab.cli.output import Answer, Column, Table, percent
from llamalab.cli.parser import Parser
from llamalab.cli.text_options import check_paths, open_model, open_tokenizer
from llamalab.errors import InputError
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from llamalab.measure.profile.walk import Walk, WalkStep
    from llamalab.text import Tokenizer

SUMMARY = "one pass of a sentence, operation by operation: shape, cost, time, values, what attention looks at"
EXAMPLES = (
    'llamalab tour --model stories260K.bin --tokenizer tok512.bin --text "Lily likes cats and dogs"',
    'llamalab tour --model stories260K.bin --tokenizer tok512.bin --text "Once upon a time" --layer 4 --head 2',
    'llamalab tour --model Llama-2-7b-hf --text "The capital of France is" --format json',
)
_SHADES = " ░▒▓█"
MOST_TOKENS = 512  # a pattern of more is no drawing
GLIMPSE, LIKELIEST = 3, 5


def configure(parser: Parser) -> None:
    """The options of `llamalab tour`."""
    parser.add_argument("--model", required=True, metavar="PATH", help="a checkpoint of any format that is read")
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="tokenizer.json, .model, .bin, GGUF or a folder (default: the checkpoint's, one beside it)",
    )
    parser.add_argument(
        "--text", metavar="TEXT", default="Once upon a time there was a cat", help="what the model reads"
    )
    parser.add_argument("--layer", type=int, default=0, metavar="N", help="the layer to look into (default: 0)")
    parser.add_argument("--head", type=int, default=0, metavar="N", help="the head whose pattern is drawn (default: 0)")
    parser.add_argument(
        "--dtype",
        type=one_of("--dtype", ACTIVATION_DTYPES),
        metavar="|".join(ACTIVATION_DTYPES),
        help="of weights (default: the checkpoint's)",
    )
    add_place(parser, TEXT_DEVICES, "cpu")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The steps of the pass, the pattern of a head, and the likeliest next tokens."""
    options = argparse.Namespace(**vars(args), attention="naive", lora=None, weight_dtype=None)
    check_paths(options)
    tokenizer = open_tokenizer(options)
    ids = tokenizer.prompt_ids(args.text)
    if not 1 <= len(ids) <= MOST_TOKENS:
        raise InputError(f"--text must be 1 to {MOST_TOKENS} tokens; got {len(ids)}; give another text")
    model = open_model(options, tokenizer)
    for option, index, count in (
        ("--layer", args.layer, model.arch.n_layers),
        ("--head", args.head, model.arch.n_heads),
    ):
        if not 0 <= index < count:
            raise InputError(f"{option} must be from 0 to {count - 1}; got {index}")
    import torch

    from llamalab.measure.profile.walk import walk

    seen = walk(model, torch.tensor([ids], device=args.device), layer=args.layer)
    labels = [tokenizer.label(token_id) for token_id in ids]
    steps = [_step(number, step) for number, step in enumerate(seen.steps, start=1)]
    pattern, next_tokens = _pattern(seen, args.head, labels), _likeliest(seen, tokenizer)
    times = model.arch.n_layers
    lead = (
        f"{len(ids)} tokens: {' '.join(map(repr, labels))}",
        f"layer {args.layer} of {times}; what is in a layer is done {times} times, with other weights each time",
    )
    shade = f"darker is more: '{_SHADES}' is 0 to 100 %"
    data = {
        "text": args.text,
        "token_ids": ids,
        "layer": args.layer,
        "head": args.head,
        "steps": steps,
        "pattern": pattern,
        "next": next_tokens,
    }
    return Answer(
        data,
        lead,
        (
            Table(_STEPS, steps),
            Table(_SEEN, pattern, f"Head {args.head} of layer {args.layer}: what each token looks at; {shade}."),
            Table(_NEXT, next_tokens, "What may come next."),
        ),
    )


_STEPS = (
    Column("step", "", str, -1),
    Column("operation", "operation", rank=-1),
    Column("shape", "shape", rank=1),
    Column("sizes", "size"),
    Column("flops", "FLOPs", lambda flops: _count(flops)),
    Column("bytes", "bytes", format_bytes),
    Column("time_s", "time", format_seconds),
    Column("values", "values", lambda values: _numbers(values)),
    Column("rms", "rms", "{:.2f}".format, 2),
    Column("what", "what it does", rank=3),
)
_SEEN = (
    Column("token", "token", repr),
    Column("weights", "looks at", lambda weights: _drawn(weights)),
    Column("most_at", "most at", repr),
    Column("most", "weight", percent),
)
_NEXT = (Column("piece", "piece", repr), Column("probability", "probability", percent))


def _step(number: int, step: "WalkStep") -> dict[str, Any]:
    from llamalab.instrument.points import point_of, what_does

    values = step.tensor.float()
    return {
        "step": number,
        "operation": step.op.name.removeprefix("layers.*."),
        "point": step.point,
        "shape": point_of(step.point).shape,
        "sizes": " × ".join(map(str, values.shape)),
        "flops": step.op.flops_full + step.op.vector_flops,
        "bytes": step.op.bytes,
        "time_s": step.seconds,
        "values": _glimpse(values),
        "rms": _rms(values),
        "what": what_does(step.op.name),
    }


def _count(flops: int) -> str:
    return str(flops) if flops < 1000 else format_si(flops, "", 1)


def _numbers(values: list[float | None]) -> str:
    """Some values in characters; None is the score of a key that is not seen.

    >>> _numbers([0.5, None])
    '+0.50 -∞ …'
    """
    return " ".join("-∞" if value is None else f"{value:+.2f}" for value in values) + " …"


def _glimpse(values: "Tensor") -> list[float | None]:
    """The first values of the last token, which is the one that is continued; None for outputs without numbers."""
    last = values[0, ..., -1, :].flatten()[:GLIMPSE].tolist()
    return [value if abs(value) != float("inf") else None for value in last]


def _rms(values: "Tensor") -> float:
    finite = values[values.isfinite()]
    return float(finite.square().mean().sqrt())


def _pattern(seen: "Walk", head: int, labels: list[str]) -> list[dict[str, Any]]:
    rows = []
    for place, weights in enumerate(seen.pattern_HTS[head].tolist()):
        visible = weights[: place + 1]
        most = max(range(len(visible)), key=visible.__getitem__)
        rows.append({"token": labels[place], "weights": visible, "most_at": labels[most], "most": visible[most]})
    return rows


def _drawn(weights: list[float]) -> str:
    """A character for each weight.

    >>> _drawn([0.0, 0.2, 0.5, 1.0])
    ' ░▒█'
    """
    return "".join(_SHADES[min(round(weight * (len(_SHADES) - 1)), len(_SHADES) - 1)] for weight in weights)


def _likeliest(seen: "Walk", tokenizer: "Tokenizer") -> list[dict[str, Any]]:
    best = seen.logits_V[: tokenizer.vocab_size].softmax(-1).topk(min(LIKELIEST, tokenizer.vocab_size))
    return [
        {"id": token_id, "piece": tokenizer.label(token_id), "probability": probability}
        for token_id, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
