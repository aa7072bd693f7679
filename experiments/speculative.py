"""A small model that drafts for a large one: the speed-up by cost and acceptance, predicted and measured.

    python -m experiments.speculative --model stories260K.bin --tokenizer tok512.bin --text story.txt
                                      [--dim 2048] [--blocks 6] [--ffn 5504] [--proposals 2,4,8] [--tokens 48]

The large model is the checkpoint widened with zeros to the sizes asked for (experiments/common/padded.py): its text is
the checkpoint's, its passes cost what those sizes cost. The drafts are the checkpoint in 4 bits, and all its blocks
but the last, which disagree more. Both texts are greedy and must be equal.
Predicted before any of it runs: what a round keeps, from rounds over the places of other texts at which the draft would
have chosen as the large model does; the costs of passes by constants of this machine; the speed-up from both
(llamalab.analytic.speculation).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch

from experiments.common import results as answers
from experiments.common.padded import padded
from experiments.common.prices import Prices, measured_machine
from experiments.common.race import ratio
from llamalab.analytic.speculation import acceptance_of, replayed, speed_up
from llamalab.checkpoints import load
from llamalab.errors import InputError
from llamalab.files.inputs import read_bounded_text
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.compiled import compile
from llamalab.text import load_tokenizer
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler
from llamalab.text.speculative import Round, Speculation

QUESTION = "What does a small model that drafts save a large one, and is it what cost and acceptance say?"

PROMPT = 24  # tokens; a prompt begins at every so many of the text
TRIED_TOKENS = 320  # of each text that acceptance is predicted from: the more, the surer it is
ROUNDS = 2  # over the prompts of the race
STORAGE = "int4"


class Costs(NamedTuple):
    """Seconds of a step of the large model, of a step of the draft, and of the pass that verifies."""

    step_s: float
    draft_s: float
    verify_s: float


class Row(NamedTuple):
    """A draft with so many proposals a round.

    `agreement` is the share of places of other texts. Kept lengths are means over rounds, without the token after them.
    """

    draft: str
    proposals: int
    agreement: float
    predicted_kept: float
    kept: float
    predicted_speed_up: float
    speed_up_of_measured_costs: float
    measured_speed_up: float
    interval: tuple[float, float]
    greedy_text_equal: bool
    predicted_costs: Costs
    costs: Costs


def first_blocks(model: Transformer, blocks: int) -> Transformer:
    """The checkpoint without what comes after so many blocks."""
    made = Transformer(model.arch.replace(n_layers=blocks), dtype="bf16")
    made.load_state_dict({k: v for k, v in model.state_dict().items() if k in made.state_dict()})
    return made.eval()


def drafts(path: Path) -> dict[str, Transformer]:
    """Those that are tried, the ones that agree most first."""
    whole = load(path, dtype="bf16")
    blocks = whole.arch.n_layers - 1
    made = {f"{STORAGE} weights": load(path, dtype="bf16", weight_dtype=STORAGE)}
    made[f"first {blocks} blocks"] = first_blocks(whole, blocks)
    return {name: compile(one, scope="none") for name, one in made.items()}


@torch.inference_mode()
def agreement(
    model: Transformer, draft: Transformer, prompts: Sequence[Sequence[int]], tokens: int
) -> list[list[bool]]:
    """Of each place of the model's own greedy texts, after their prompts: whether the draft would choose the same."""
    same = []
    for ids in prompts:
        text = [*ids, *Generation(model, ids, max_new_tokens=tokens, sampler=Sampler(temperature=0.0))]
        chosen_T = draft(torch.tensor([text[:-1]]))[0, len(ids) - 1 :].argmax(-1)
        same.append((chosen_T == torch.tensor(text[len(ids) :])).tolist())
    return same


def predicted_costs(large: Prices, small: Prices, proposals: int, context: int) -> Costs:
    """By constants of this machine, in the middle of a text."""
    verify_s = large.pass_s(proposals + 1, context + proposals, logits="all")
    return Costs(large.pass_s(1, context), small.pass_s(1, context), verify_s)


@torch.inference_mode()
def measured_costs(large: Transformer, draft: Transformer, proposals: int, context: int, rounds: int = 9) -> Costs:
    """Medians of passes by themselves, in turn, with the choice of a token that each step makes."""

    def timed(model: Transformer, new: int, logits: str) -> Callable[[], float]:
        cache = StaticKVCache(model.arch, batch=1, max_tokens=context + new, dtype="bf16")
        model(torch.ones(1, context, dtype=torch.int64), cache=cache, logits="last")
        tokens_BT, sampler = torch.ones(1, new, dtype=torch.int64), Sampler(temperature=0.0)

        def once() -> float:
            cache.rewind(context)
            began = perf_counter()
            for logits_V in model(tokens_BT, cache=cache, logits=logits)[0]:
                sampler.draw(sampler.distribution(logits_V))
            return perf_counter() - began

        return once

    passes = (timed(large, 1, "last"), timed(draft, 1, "last"), timed(large, proposals + 1, "all"))
    samples = [[one() for one in passes] for _ in range(rounds)]
    return Costs(*(median(column) for column in zip(*samples, strict=True)))


class Raced(NamedTuple):
    """Seconds a token of each prompt's text, with a draft; the rounds; whether all texts are those without it."""

    drafted_s: list[float]
    rounds: list[Round]
    equal: bool


def race(
    large: Transformer, draft: Transformer, prompts: Sequence[Sequence[int]], proposals: Sequence[int], tokens: int
) -> tuple[list[float], dict[int, Raced]]:
    """Seconds a token of each prompt's text step by step; and with the draft, by the number of proposals, in turn."""
    greedy, alone_s = Sampler(temperature=0.0), list[float]()
    found = {count: Raced([], [], True) for count in proposals}
    for prompt in prompts:
        plain = Generation(large, prompt, max_new_tokens=tokens, sampler=greedy)
        next(iter(plain))  # the prompt is read, and the compared time is that of the rest
        began = perf_counter()
        rest = list(plain)
        alone_s.append((perf_counter() - began) / (tokens - 1))
        for count, raced in found.items():
            quick = Speculation(large, draft, prompt, proposals=count, max_new_tokens=tokens, sampler=greedy)
            next(iter(quick))
            began = perf_counter()
            fast = list(quick)
            given = quick.rounds[0].accepted  # of the first round, which has run before the clock
            raced.drafted_s.append((perf_counter() - began) / (tokens - 1 - given))
            raced.rounds.extend(one for one in quick.rounds[1:] if one.proposed == count)
            found[count] = raced._replace(equal=raced.equal and rest == fast)
    return alone_s, found


def measure(path: Path, ids: Sequence[int], sizes: dict[str, int], proposals: Sequence[int], tokens: int) -> list[Row]:
    """A row for each draft and number of proposals."""
    small = load(path, dtype="bf16")
    large = compile(padded(small, **sizes, dtype="bf16"), scope="none")
    starts = range(0, len(ids) - 2 * PROMPT, PROMPT)
    pieces = [list(ids[start : start + PROMPT]) for start in starts][:8]
    if len(pieces) < 4:
        raise InputError(f"the text must have at least {6 * PROMPT} tokens; got {len(ids)}")
    tried, raced = pieces[::2], pieces[1::2]
    machine, context = measured_machine(large.arch, "bf16"), PROMPT + tokens // 2
    found = []
    for name, draft in drafts(path).items():
        same = agreement(small, draft, tried, TRIED_TOKENS)
        agreed = sum(map(sum, same)) / sum(map(len, same))
        prices = Prices(machine, large.arch), Prices(machine, draft.arch)
        guesses = {count: predicted_costs(*prices, count, context) for count in proposals}
        alone_s, runs = race(large, draft, raced * ROUNDS, proposals, tokens)
        for count, made in runs.items():
            costs, guess = measured_costs(large, draft, count, context), guesses[count]
            said, kept = replayed(same, count), sum(one.accepted for one in made.rounds) / len(made.rounds)
            gain = ratio(alone_s, made.drafted_s)
            found.append(
                Row(
                    name, count, agreed, said, kept,
                    speed_up(acceptance_of(said, count), count, **guess._asdict()),
                    speed_up(acceptance_of(kept, count), count, **costs._asdict()),
                    gain.middle, (gain.low, gain.high), made.equal, guess, costs,
                )
            )  # fmt: skip
            print(found[-1])
    return found


def conclude(rows: Sequence[Row]) -> str:
    """What was found, in words."""
    parts = []
    for name in dict.fromkeys(row.draft for row in rows):
        best = max((row for row in rows if row.draft == name), key=lambda row: row.measured_speed_up)
        parts.append(
            f"Draft of {name}: fastest with {best.proposals} proposals a round, of which {best.kept:.2f} are kept "
            f"(predicted {best.predicted_kept:.2f}); {best.measured_speed_up:.2f} times as fast "
            f"({best.interval[0]:.2f} to {best.interval[1]:.2f}), predicted {best.predicted_speed_up:.2f}, of the "
            f"measured costs {best.speed_up_of_measured_costs:.2f}."
        )
    errors = sorted(abs(row.predicted_speed_up / row.measured_speed_up - 1) for row in rows)
    same = "are the same" if all(row.greedy_text_equal for row in rows) else "DIFFER"
    return f"{' '.join(parts)} Predictions are off by {errors[len(errors) // 2]:.0%} in the median; the texts {same}."


def _as_dict(row: Row) -> dict[str, Any]:
    return row._asdict() | {name: getattr(row, name)._asdict() for name in ("predicted_costs", "costs")}


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="PATH")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="FILE")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE")
    parser.add_argument("--dim", type=int, default=2048, help="of the large model")
    parser.add_argument("--ffn", type=int, default=5504)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--proposals", default="2,4,8", help="tokens of a round that are tried")
    parser.add_argument("--tokens", type=int, default=48, help="of each text")
    args = parser.parse_args(argv)
    ids = load_tokenizer(args.tokenizer).prompt_ids(read_bounded_text(args.text, "text of --text"))
    sizes = {"dim": args.dim, "ffn_dim": args.ffn, "layers": args.blocks}
    rows = measure(args.model, ids, sizes, [int(one) for one in args.proposals.split(",")], args.tokens)
    answers.finish(
        QUESTION, "speculative", args.out, conclude(rows), dtype="bf16", sizes=sizes, tokens=args.tokens,
        rows=[_as_dict(row) for row in rows],
    )  # fmt: skip


if __name__ == "__main__":
    main()
