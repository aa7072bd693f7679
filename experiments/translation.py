"""An encoder, a decoder and both, in cost and at work, and beam search against greedy: numbers in words.

    python -m experiments.translation [--steps 800] [--seeds 0 1 2] [--test 256] [--full]

A Transformer of 2017 with two layers a side learns to write English number words in German, which says units before
tens. Predicted: parameters, FLOPs of a translation and bytes of keys and values for encoder-only, decoder-only and
both at equal size (12 D**2 parameters in a block of one attention, 16 in one with cross attention). Measured: the same
by the models that run, translations of numbers never seen after a quarter of the steps and after all, greedily and
with a beam of 4, for each seed. --full trains four times as long.
"""

import sys
from collections.abc import Sequence
from functools import partial
from statistics import mean
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.common import results as answers
from experiments.common.number_words import GERMAN
from experiments.common.training_runs import side_by_side
from experiments.common.translator import ARCH, BEGIN_ID, END_ID, Pair, padded, pairs, train, translated
from llamalab.analytic.op import add_up
from llamalab.classic.costs import classic_kv_bytes, classic_ops, classic_params
from llamalab.classic.shape import ClassicArch
from llamalab.classic.state import DecoderState
from llamalab.classic.transformer import ClassicTransformer
from llamalab.formatting import format_bytes, format_si
from llamalab.instrument.taps import capture

QUESTION = "What do an encoder, a decoder and both cost, and does beam search find more than greedy? Numbers in words."

BEAMS = (1, 4)
SHOWN = 742_053  # a number whose cross attention is drawn; held out or not, only its pattern matters
# 3 + 3 blocks have 3 * 12 + 3 * 16 = 84 D**2 parameters: as many as 7 blocks of one attention.
EQUAL = {
    "both": ARCH.replace(n_encoder_layers=3, n_decoder_layers=3),
    "decoder-only": ARCH.replace(n_encoder_layers=0, n_decoder_layers=7, target_vocab=ARCH.source_vocab),
    "encoder-only": ARCH.replace(n_encoder_layers=7, n_decoder_layers=0),
}


def costs(source: int, target: int) -> list[dict[str, Any]]:
    """What a translation of so many tokens costs each kind: predicted, and by the model that runs."""
    return [_cost(kind, arch, source, target) for kind, arch in EQUAL.items()]


def _cost(kind: str, arch: ClassicArch, source: int, target: int) -> dict[str, Any]:
    blocks = sum(count for part, count in classic_params(arch).items() if part != "embeddings")
    row = {"kind": kind, "block_params": blocks, "source_tokens": source, "target_tokens": target}
    model = ClassicTransformer(arch).eval()
    measured = sum(weight.numel() for name, weight in model.named_parameters() if "embedding" not in name)
    if not arch.n_decoder_layers:  # it writes nothing: one pass over the source answers, as a label for each token
        predicted = add_up(classic_ops(arch, source_tokens=source)).flops_full
        return row | {
            "flops": predicted,
            "own_kv_bytes": 0,
            "cross_kv_bytes": 0,
            "measured_block_params": measured,
            "measured_flops": _counted(model, source, 0),
            "measured_kv_bytes": 0,
        }
    alone = not arch.n_encoder_layers
    # A decoder alone reads the source as the beginning of its own text.
    first, held = (source + 1, source) if alone else (1, 0)
    sizes = [(first, 0), *((1, held + token) for token in range(1, target))]
    seen = 0 if alone else source
    flops = sum(
        add_up(classic_ops(arch, source_tokens=seen, target_tokens=new, past_tokens=past)).flops_full
        for new, past in sizes
    )
    kept = classic_kv_bytes(arch, source_tokens=seen, target_tokens=held + target)
    counted, kv_bytes = _decoded(model, source, target)
    return row | {
        "flops": flops,
        "own_kv_bytes": kept.own,
        "cross_kv_bytes": kept.cross,
        "measured_block_params": measured,
        "measured_flops": counted,
        "measured_kv_bytes": kv_bytes,
    }


def _counted(model: ClassicTransformer, source: int, target: int) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.ones(1, source, dtype=torch.long), torch.ones(1, target, dtype=torch.long) if target else None)
    return int(counter.get_total_flops())


@torch.no_grad()
def _decoded(model: ClassicTransformer, source: int, target: int) -> tuple[int, int]:
    """FLOPs that torch counts while a text of that length is written, and bytes of keys and values at its end."""
    source_BS = torch.ones(1, source, dtype=torch.long)
    state, begin_BT = DecoderState(model.arch), torch.ones(1, 1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        memory = None if model.encoder is None else model.encode(source_BS)
        seen_BS = None if memory is None else source_BS
        for step in range(target):
            first = step == 0 and memory is None
            model.step(torch.cat((source_BS, begin_BT), 1) if first else begin_BT, memory, seen_BS, state)
    return int(counter.get_total_flops()), state.own_bytes + state.cross_bytes


def learn(steps: int, seed: int, test: int) -> dict[str, Any]:
    """Train with one seed on one thread; translations after a quarter of the steps and at the end."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tested = pairs(test, held_out=True, seed=1)
    model, found, losses = ClassicTransformer(ARCH), {}, []
    begun_s = perf_counter()

    def tell(step: int, loss: float) -> None:
        losses.append(loss)
        if step in (max(1, steps // 4), steps):
            model.eval()
            found["end" if step == steps else "quarter"] = _tested(model, tested)
            model.train()

    train(model, steps, seed=seed, tell=tell)
    return {
        "seed": seed,
        "seconds": perf_counter() - begun_s,
        "losses": losses[:: max(1, steps // 50)],
        "translations": found,
        "cross_attention": _crossing(model),
    }


def _tested(model: ClassicTransformer, tested: list[Pair]) -> dict[str, Any]:
    greedy, beam = (translated(model, tested, beams) for beams in BEAMS)
    return {
        "greedy_right": mean(one.tokens == tuple(pair.target) for one, pair in zip(greedy, tested, strict=True)),
        "beam_right": mean(one.tokens == tuple(pair.target) for one, pair in zip(beam, tested, strict=True)),
        # Another text, and the model itself holds it for likelier.
        "beam_likelier": mean(
            b.tokens != g.tokens and b.logprob > g.logprob for g, b in zip(greedy, beam, strict=True)
        ),
    }


def _crossing(model: ClassicTransformer) -> dict[str, Any]:
    """What each German part looks at in the English source: the last layer's heads together."""
    from experiments.common.number_words import ENGLISH, english, german, ids

    source, target = english(SHOWN), german(SHOWN)
    with torch.no_grad(), capture(model, f"decoder.layers.{ARCH.n_decoder_layers - 1}.cross_attention.pattern") as got:
        model(padded([ids(source, ENGLISH)]), padded([[BEGIN_ID, *ids(target, GERMAN)]]))
    (pattern_BHTS,) = got.values()
    weights_TS = pattern_BHTS[0].mean(0)[: len(target)]
    return {
        "source": source,
        "target": target,
        "weights": [[round(one, 3) for one in row] for row in weights_TS.tolist()],
    }


def conclude(rows: list[dict[str, Any]], runs: list[dict[str, Any]]) -> str:
    """Costs against costs, greedy against beam, over the seeds."""
    both, alone = (next(row for row in rows if row["kind"] == kind) for kind in ("both", "decoder-only"))
    exact = all(
        row["flops"] == row["measured_flops"]
        and row["block_params"] == row["measured_block_params"]
        and row["own_kv_bytes"] + row["cross_kv_bytes"] == row["measured_kv_bytes"]
        for row in rows
    )
    end, early = ([run["translations"][when] for run in runs] for when in ("end", "quarter"))
    gains = [one["beam_right"] - one["greedy_right"] for one in (*end, *early)]

    def span(what: str, moments: list[dict[str, Any]]) -> str:
        return _span([one[what] for one in moments])

    same = all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)
    return (
        f"At equal size ({both['block_params']:,} and {alone['block_params']:,} parameters in blocks) both stacks "
        f"translate {both['source_tokens']} into {both['target_tokens']} tokens with "
        f"{both['flops'] / alone['flops']:.2f} times the FLOPs of a decoder alone and keep "
        f"{(both['own_kv_bytes'] + both['cross_kv_bytes']) / alone['own_kv_bytes']:.2f} times its keys and values "
        f"({format_bytes(both['own_kv_bytes'])} grow, {format_bytes(both['cross_kv_bytes'])} do not); predicted and "
        f"counted {'agree exactly' if exact else 'DIFFER'}. Of numbers never seen, greedy translates "
        f"{span('greedy_right', early)} after a quarter of the steps and {span('greedy_right', end)} at the end, "
        f"a beam of 4 {span('beam_right', early)} and {span('beam_right', end)}; the beam finds another text that the "
        f"model holds for likelier in {span('beam_likelier', early)} and {span('beam_likelier', end)}. Over "
        f"{len(runs)} seeds beam is {'never worse and sometimes better' if same else 'not better throughout'}."
    )


def _span(shares: list[float]) -> str:
    low, high = 100 * min(shares), 100 * max(shares)
    return f"{low:.1f} %" if low == high else f"{low:.1f} to {high:.1f} %"


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", type=int, default=256, help="numbers never seen that are translated")
    parser.add_argument("--full", action="store_true", help="four times the steps")
    args = parser.parse_args(argv)
    steps = args.steps * (4 if args.full else 1)
    rows = costs(source=11, target=12)
    print(f"{'':14}{'parameters':>12}{'FLOPs':>14}{'grows':>12}{'stays':>12}")
    for row in rows:
        print(
            f"{row['kind']:14}{row['block_params']:12,}{format_si(row['flops'], ''):>14}"
            f"{format_bytes(row['own_kv_bytes']):>12}{format_bytes(row['cross_kv_bytes']):>12}"
        )
    runs = side_by_side(
        [partial(learn, steps, seed, args.test) for seed in args.seeds], [f"seed {seed}" for seed in args.seeds]
    )
    for run in runs:
        print(f"seed {run['seed']}: {run['seconds']:.0f} s, {run['translations']}", file=sys.stderr)
    answers.finish(
        QUESTION,
        "translation",
        args.out,
        conclude(rows, runs),
        arch=ARCH._asdict(),
        steps=steps,
        predicted=rows,
        measured=runs,
        begin_id=BEGIN_ID,
        end_id=END_ID,
    )


if __name__ == "__main__":
    main()
