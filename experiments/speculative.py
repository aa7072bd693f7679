"""A small model that drafts for a large one: the speed-up by cost and acceptance, predicted and measured.

    python -m experiments.speculative --model stories260K.bin --tokenizer tok512.bin --text story.txt
                                      [--dim 2048] [--blocks 8] [--ffn 5504] [--proposals 1,2,4,8] [--tokens 48]

The large model is the checkpoint widened with zeros to the sizes asked for (experiments/common/padded.py): its text is
the checkpoint's, its passes cost what those sizes cost. The drafts are the checkpoint in 4 bits, and its first blocks
alone, which disagree more. Both texts are greedy and must be equal.
Predicted before any of it runs: the acceptance, as the share of places of another text at which the draft would have
chosen as the large model does; the length that is kept of a round from the acceptance; the costs of passes by
constants of this machine; the speed-up from all of these (llamalab.analytic.speculation).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

from experiments.common import results as answers
from experiments.common.padded import padded
from experiments.common.prices import Prices, measured_machine
from experiments.common.race import Ratio, ratio
from llamalab.analytic.speculation import acceptance_of, speed_up, tokens_of_round
from llamalab.checkpoints import load
from llamalab.errors import InputError
from llamalab.input_files import read_bounded_text
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.compiled import compile
from llamalab.text import load_tokenizer
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler
from llamalab.text.speculative import Round, Speculation

QUESTION = "What does a small model that drafts save a large one, and is it what cost and acceptance say?"

PROMPT = 24  # tokens; a prompt begins at every so many of the text
STORAGE = "int4"


class Row(NamedTuple):
    """A draft with so many proposals a round. Kept lengths are means over rounds, without the token after them."""

    draft: str
    proposals: int
    predicted_acceptance: float
    acceptance: float
    predicted_kept: float
    kept: float
    predicted_speed_up: float
    speed_up_of_measured_costs: float
    measured_speed_up: float
    interval: tuple[float, float]
    greedy_text_equal: bool


class Costs(NamedTuple):
    """Seconds of a step of the large model, of a step of the draft, and of the pass that verifies."""

    step_s: float
    draft_s: float
    verify_s: float


def first_blocks(model: Transformer, blocks: int) -> Transformer:
    """The checkpoint without its last blocks."""
    made = Transformer(model.arch.replace(n_layers=blocks), dtype="bf16")
    made.load_state_dict({k: v for k, v in model.state_dict().items() if k in made.state_dict()})
    return made.eval()


def drafts(path: Path) -> dict[str, Transformer]:
    """Those that are tried, the ones that agree most first."""
    whole = load(path, dtype="bf16")
    shorter = {f"first {n} blocks": first_blocks(whole, n) for n in (whole.arch.n_layers - 1, whole.arch.n_layers - 2)}
    made = {f"{STORAGE} weights": load(path, dtype="bf16", weight_dtype=STORAGE), **shorter}
    return {name: compile(one, scope="none") for name, one in made.items()}


@torch.inference_mode()
def agreement(model: Transformer, draft: Transformer, ids: Sequence[int]) -> float:
    """The share of places of the model's own greedy text, after a prompt, at which the draft would choose the same."""
    text = [*ids, *Generation(model, ids, max_new_tokens=96, sampler=Sampler(temperature=0.0))]
    chosen_T = draft(torch.tensor([text[:-1]]))[0, len(ids) - 1 :].argmax(-1)
    return float((chosen_T == torch.tensor(text[len(ids) :])).double().mean())


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


def race(
    large: Transformer, draft: Transformer, prompts: Sequence[Sequence[int]], proposals: int, tokens: int
) -> tuple[Ratio, list[Round], bool]:
    """Times of each prompt's text step by step over times with the draft; the rounds; whether all texts are equal."""
    alone_s, drafted_s, rounds, equal = list[float](), list[float](), list[Round](), True
    for prompt in prompts:
        greedy = Sampler(temperature=0.0)
        plain = Generation(large, prompt, max_new_tokens=tokens, sampler=greedy)
        quick = Speculation(large, draft, prompt, proposals=proposals, max_new_tokens=tokens, sampler=greedy)
        next(iter(plain)), next(iter(quick))  # both have read the prompt, and the compared time is that of the rest
        began = perf_counter()
        rest = list(plain)
        between = perf_counter()
        fast = list(quick)
        done = perf_counter()
        given = quick.rounds[0].accepted  # of the first round, which has run before the clock
        alone_s.append((between - began) / (tokens - 1))
        drafted_s.append((done - between) / (tokens - 1 - given))
        rounds += [one for one in quick.rounds[1:] if one.proposed == proposals]
        equal &= rest == fast
    return ratio(alone_s, drafted_s), rounds, equal


def measure(path: Path, ids: Sequence[int], sizes: dict[str, int], proposals: Sequence[int], tokens: int) -> list[Row]:
    """A row for each draft and number of proposals."""
    large = compile(padded(load(path, dtype="bf16"), **sizes, dtype="bf16"), scope="none")
    starts = range(0, len(ids) - 2 * PROMPT, PROMPT)
    pieces = [list(ids[start : start + PROMPT]) for start in starts][:8]
    if len(pieces) < 4:
        raise InputError(f"the text must have at least {6 * PROMPT} tokens; got {len(ids)}")
    tried, raced = pieces[::2], pieces[1::2]
    machine = measured_machine(large.arch, "bf16")
    found = []
    for name, draft in drafts(path).items():
        share = sum(agreement(large, draft, piece) for piece in tried) / len(tried)
        for count in proposals:
            context = PROMPT + tokens // 2
            guess = predicted_costs(Prices(machine, large.arch), Prices(machine, draft.arch), count, context)
            costs = measured_costs(large, draft, count, context)
            made, rounds, equal = race(large, draft, raced, count, tokens)
            kept = sum(one.accepted for one in rounds) / len(rounds)
            accepted = acceptance_of(kept, count)
            found.append(
                Row(
                    name, count, share, accepted, tokens_of_round(share, count) - 1, kept,
                    speed_up(share, count, **guess._asdict()), speed_up(accepted, count, **costs._asdict()),
                    made.middle, (made.low, made.high), equal,
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


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="PATH")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="FILE")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE")
    parser.add_argument("--dim", type=int, default=2048, help="of the large model")
    parser.add_argument("--ffn", type=int, default=5504)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--proposals", default="1,2,4,8", help="tokens of a round that are tried")
    parser.add_argument("--tokens", type=int, default=48, help="of each text")
    args = parser.parse_args(argv)
    ids = load_tokenizer(args.tokenizer).prompt_ids(read_bounded_text(args.text, "text of --text"))
    sizes = {"dim": args.dim, "ffn_dim": args.ffn, "layers": args.blocks}
    rows = measure(args.model, ids, sizes, [int(one) for one in args.proposals.split(",")], args.tokens)
    answers.finish(
        QUESTION, "speculative", args.out, conclude(rows), dtype="bf16", sizes=sizes, tokens=args.tokens,
        rows=[row._asdict() for row in rows],
    )  # fmt: skip


if __name__ == "__main__":
    main()
