"""Requests of different lengths, one by one, together, and with one attention call for all of them.

    python -m experiments.continuous_batch [--requests 12] [--at-once 8] [--rounds 5]

Requests with prompts and texts of different lengths come one after the other to a model of random weights: each alone;
together with caches of their own, whose attention is a call for each row; and together side by side in one buffer, in
one call for all rows, the shorter ones masked. A request that ends leaves, and the next one takes its place.
Predicted: the passes that each way makes, known beforehand, by constants of this machine; side by side the keys of all
rows are read as if they were as long as the longest.
"""

import random
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

import torch

from experiments.common import results as answers
from experiments.common.prices import Prices, measured_machine
from experiments.common.race import Ratio, ratio
from llamalab.arch import LlamaArch
from llamalab.model import StaticKVCache, Transformer, build
from llamalab.model.compiled import compile
from llamalab.text.generate import Generation, together
from llamalab.text.sampling import Sampler

QUESTION = "What do requests of different lengths gain by running together, and by one attention call for all of them?"

ARCH = LlamaArch(dim=1024, n_layers=6, n_heads=16, n_kv_heads=16, ffn_dim=2752, vocab_size=4096)
WAYS = ("alone", "row by row", "side by side")


class Request(NamedTuple):
    """A prompt and a text of so many tokens."""

    prompt: int
    tokens: int


class Step(NamedTuple):
    """A pass: a prompt of one request, or a step of all that run, with the tokens that each then has in view."""

    new: int
    contexts: tuple[int, ...]


def requests_of(count: int, seed: int = 0) -> list[Request]:
    """Requests of different lengths, the same on every machine."""
    noise = random.Random(seed)
    return [Request(noise.randrange(16, 256), noise.randrange(8, 64)) for _ in range(count)]


def passes(requests: Sequence[Request], at_once: int) -> list[Step]:
    """What is run, in order: prompts as places become free, and a step of all that run in between.

    >>> passes([Request(4, 2), Request(6, 1), Request(3, 2)], 1)[0]
    Step(new=4, contexts=(4,))
    >>> [step.contexts for step in passes([Request(4, 3), Request(6, 2)], 2)]
    [(4,), (6,), (5, 7), (6,)]
    """
    made: list[Step] = []
    waiting, running = list(requests), list[list[int]]()  # tokens in view, tokens left
    while waiting or running:
        while waiting and len(running) < at_once:
            prompt, tokens = waiting.pop(0)
            made.append(Step(prompt, (prompt,)))
            if tokens > 1:
                running.append([prompt, tokens - 1])
        if running:
            running = [[context + 1, left - 1] for context, left in running]
            made.append(Step(1, tuple(context for context, _ in running)))
            running = [one for one in running if one[1]]
    return made


def predicted_s(prices: Prices, requests: Sequence[Request], at_once: int) -> dict[str, float]:
    """Seconds of all requests in each way."""
    alone = sum(prices.pass_s(step.new, step.contexts[0]) for step in passes(requests, 1))
    rows = side = 0.0
    for step in passes(requests, at_once):
        if len(step.contexts) == 1:
            once = prices.pass_s(step.new, step.contexts[0])
            rows, side = rows + once, side + once
        else:
            rows += prices.row_by_row_s(step.contexts)
            side += prices.pass_s(1, max(step.contexts), batch=len(step.contexts))
    return dict(zip(WAYS, (alone, rows, side), strict=True))


def generations(model: Transformer, requests: Sequence[Request], *, own_caches: bool) -> list[Generation]:
    """The requests, greedy; with separate caches where these are not to be adjacent in memory."""
    made = []
    for prompt, tokens in requests:
        ids = torch.randint(model.arch.vocab_size, (prompt,), generator=torch.Generator().manual_seed(prompt)).tolist()
        cache = StaticKVCache(model.arch, batch=1, max_tokens=prompt + tokens, dtype="bf16") if own_caches else None
        greedy = Sampler(temperature=0.0)
        made.append(Generation(model, ids, max_new_tokens=tokens, sampler=greedy, cache=cache))
    return made


def measure(model: Transformer, requests: Sequence[Request], at_once: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of all requests in each way, in turn, there and back; a round before the first is not counted."""

    def run(way: str) -> float:
        made = generations(model, requests, own_caches=way == "row by row")
        began = perf_counter()
        for _ in together(made, at_once=1 if way == "alone" else at_once):
            pass
        return perf_counter() - began

    samples: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(-1, rounds):
        for way in WAYS if turn % 2 else WAYS[::-1]:
            seconds = run(way)
            if turn >= 0:
                samples[way].append(seconds)
    return samples


def conclude(requests: Sequence[Request], predicted: dict[str, float], samples: dict[str, list[float]]) -> str:
    """What was found, in words."""
    tokens = sum(request.tokens for request in requests)
    rates = []
    for way in WAYS:
        middle = sorted(samples[way])[len(samples[way]) // 2]
        rates.append(f"{way} {tokens / middle:.1f} tokens/s (predicted {tokens / predicted[way]:.1f})")
    gains: dict[str, Ratio] = {way: ratio(samples[way], samples["side by side"]) for way in WAYS[:2]}
    return (
        f"{len(requests)} requests, {tokens} tokens: {', '.join(rates)}. Side by side is {gains['alone'].words} times "
        f"as fast as alone (predicted {predicted['alone'] / predicted['side by side']:.2f}), and "
        f"{gains['row by row'].words} times as fast as row by row "
        f"(predicted {predicted['row by row'] / predicted['side by side']:.2f})."
    )


def main(argv: Sequence[str] | None = None, arch: LlamaArch = ARCH, price: Callable[[], Prices] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--requests", type=int, default=12)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    requests = requests_of(args.requests)
    prices = Prices(measured_machine(arch, "bf16"), arch) if price is None else price()
    predicted = predicted_s(prices, requests, args.at_once)
    model = compile(build(arch, dtype="bf16"), scope="none")
    samples = measure(model, requests, args.at_once, args.rounds)
    answers.finish(
        QUESTION,
        "continuous_batch",
        args.out,
        conclude(requests, predicted, samples),
        dtype="bf16",
        arch=arch.as_dict(),
        requests=[one._asdict() for one in requests],
        at_once=args.at_once,
        predicted_s=predicted,
        samples_s=samples,
    )


if __name__ == "__main__":
    main()
