"""A common prefix read once and continued from copies of its cache, against reading it anew.

    python -m experiments.prefix_reuse [--prefix 384] [--suffix 24] [--texts 6] [--rounds 5]

Several prompts begin alike, as questions behind one system prompt do: each is read anew, or the prefix is read once and
every prompt goes on from a copy of its cache (llamalab.model.kv_cache.prefix). The logits after each prompt are held
against each other.
Predicted: the passes of either way by constants of this machine, and the copies by the bytes that the cache holds.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.common import results as answers
from experiments.common.prices import Prices, measured_machine
from experiments.common.race import Ratio, ratio
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.arch import LlamaArch
from llamalab.model import StaticKVCache, Transformer, build
from llamalab.model.compiled import compile
from llamalab.model.kv_cache.prefix import forked

QUESTION = "What does it save to read a common prefix once, and to go on from copies of its cache?"

ARCH = LlamaArch(dim=1024, n_layers=6, n_heads=16, n_kv_heads=16, ffn_dim=2752, vocab_size=4096)


class Shape(NamedTuple):
    """Tokens of the prefix, of what comes after it, and how many texts there are."""

    prefix: int
    suffix: int
    texts: int


def predicted_s(prices: Prices, shape: Shape) -> tuple[float, float]:
    """Seconds until all prompts are read: each anew, and from copies of the prefix."""
    whole = shape.prefix + shape.suffix
    held = kv_bytes(prices.arch, seq=shape.prefix, batch=1, dtype="bf16")
    copy_s = prices.copy_s(held, 2 * prices.arch.n_layers)
    again = prices.pass_s(shape.suffix, whole) + copy_s
    return shape.texts * prices.pass_s(whole, whole), prices.pass_s(shape.prefix, shape.prefix) + shape.texts * again


def tokens_of(arch: LlamaArch, shape: Shape) -> tuple[Tensor, list[Tensor]]:
    """The prefix and the suffixes, the same on every machine."""
    made = torch.Generator().manual_seed(1)
    prefix_BT = torch.randint(arch.vocab_size, (1, shape.prefix), generator=made)
    return prefix_BT, [torch.randint(arch.vocab_size, (1, shape.suffix), generator=made) for _ in range(shape.texts)]


@torch.inference_mode()
def measure(model: Transformer, shape: Shape, rounds: int) -> tuple[list[float], list[float], float]:
    """Seconds anew and from copies, in turn, a round before the first not counted; the largest error of the logits."""
    prefix_BT, suffixes = tokens_of(model.arch, shape)
    room = shape.prefix + shape.suffix

    def anew() -> list[Tensor]:
        caches = (StaticKVCache(model.arch, batch=1, max_tokens=room, dtype="bf16") for _ in suffixes)
        prompts = (torch.cat((prefix_BT, one), 1) for one in suffixes)
        return [model(prompt, cache=cache, logits="last") for prompt, cache in zip(prompts, caches, strict=True)]

    def reused() -> list[Tensor]:
        first = StaticKVCache(model.arch, batch=1, max_tokens=shape.prefix, dtype="bf16")
        model(prefix_BT, cache=first, logits="last")
        return [model(one, cache=forked(first, model.arch, room), logits="last") for one in suffixes]

    samples: dict[Callable[[], list[Tensor]], list[float]] = {anew: [], reused: []}
    error = 0.0
    for turn in range(-1, rounds):
        made = {}
        for way in (anew, reused) if turn % 2 else (reused, anew):
            began = perf_counter()
            made[way] = way()
            if turn >= 0:
                samples[way].append(perf_counter() - began)
        error = max(float((a - b).abs().max()) for a, b in zip(made[anew], made[reused], strict=True))
    return samples[anew], samples[reused], error


def conclude(shape: Shape, predicted: tuple[float, float], gain: Ratio, error: float) -> str:
    """What was found, in words."""
    return (
        f"{shape.texts} prompts of {shape.prefix} tokens alike and {shape.suffix} of their own: from copies of the "
        f"prefix they are read {gain.words} times as fast as anew (predicted {predicted[0] / predicted[1]:.2f}); "
        f"logits differ by {error:.2g} at most."
    )


def main(argv: Sequence[str] | None = None, arch: LlamaArch = ARCH, price: Callable[[], Prices] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--prefix", type=int, default=384)
    parser.add_argument("--suffix", type=int, default=24)
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    shape = Shape(args.prefix, args.suffix, args.texts)
    prices = Prices(measured_machine(arch, "bf16"), arch) if price is None else price()
    predicted = predicted_s(prices, shape)
    model = compile(build(arch, dtype="bf16"), scope="none")
    anew_s, reused_s, error = measure(model, shape, args.rounds)
    answers.finish(
        QUESTION,
        "prefix_reuse",
        args.out,
        conclude(shape, predicted, ratio(anew_s, reused_s), error),
        dtype="bf16",
        arch=arch.as_dict(),
        shape=shape._asdict(),
        predicted_s=predicted,
        anew_s=anew_s,
        reused_s=reused_s,
        largest_logit_error=error,
    )


if __name__ == "__main__":
    main()
