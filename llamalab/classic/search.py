"""Greedy and beam search over a target, with the keys and values of every beam kept.

Beams are compared by log-probability over ((5 + length) / 6)**alpha, the length penalty of Wu et al. 2016 (arXiv
1609.08144, equation 14) that the paper takes with alpha 0.6 and a beam of 4. Greedy is a beam of 1.
B batch, K beams, N = B * K rows, S source tokens, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.checks import whole
from llamalab.classic.state import DecoderState
from llamalab.classic.transformer import PADDING_ID, ClassicTransformer
from llamalab.errors import InputError


class Found(NamedTuple):
    """A text that a search found: its tokens without begin and end, and its log-probability, the end included.

    `ended` is whether the end token came within the allowed tokens.
    """

    tokens: tuple[int, ...]
    logprob: float
    ended: bool


class Search(NamedTuple):
    """Settings of a search: beams, most tokens (the end included), and the length penalty.

    >>> Search(alpha=1.0).of_length(7), Search(alpha=0.0).of_length(7)
    (2.0, 1.0)
    """

    beams: int = 4
    most_tokens: int = 64
    alpha: float = 0.6

    def of_length(self, tokens: int) -> float:
        """The divisor of the log-probability of a text of so many tokens."""
        return float(((5 + tokens) / 6) ** self.alpha)


class _Sentence:
    """The search of one source: beams that are over, and whether it is settled."""

    def __init__(self, search: Search) -> None:
        self.search, self.over, self.settled = search, [], False  # type: ignore[var-annotated]

    def add(self, tokens: tuple[int, ...], logprob: float) -> None:
        """Keep a text that has come to its end."""
        score = logprob / self.search.of_length(len(tokens) + 1)
        self.over.append((score, Found(tokens, logprob, True)))

    def settle(self, best_alive: float, tokens: int) -> None:
        """Stop where no unfinished beam can still win: its log-probability only falls, its penalty only grows."""
        most = self.search.of_length(self.search.most_tokens if self.search.alpha > 0 else tokens + 1)
        self.settled = bool(self.over) and max(score for score, _ in self.over) >= best_alive / most


@torch.no_grad()
def search(
    model: ClassicTransformer,
    source_BS: Tensor | None,
    *,
    begin_id: int,
    end_id: int,
    how: Search | None = None,
    prompt_BT: Tensor | None = None,
) -> list[Found]:
    """The best text for every source. A decoder-only model has no source but a prompt of equal lengths.

    Raises InputError for a beam or a length below one, and for a model without a decoder.

    >>> from llamalab.classic.shape import ClassicArch
    >>> torch.manual_seed(0) and None
    >>> model = ClassicTransformer(ClassicArch(8, 2, 16, 1, 1, 10, 10)).eval()
    >>> len(search(model, torch.tensor([[4, 5, 6]]), begin_id=1, end_id=2, how=Search(2, 5))[0].tokens) <= 5
    True
    """
    how = how or Search()
    whole(how.beams, "beams")
    whole(how.most_tokens, "most_tokens")
    if model.decoder is None:
        raise InputError("a search must have a decoder to write with; this model has none; take one with both stacks")
    given = source_BS if source_BS is not None else prompt_BT
    if given is None:
        raise InputError("a search must have source tokens, or a prompt for a decoder-only model; got neither")
    batch, beams, device = given.shape[0], how.beams, given.device
    source_NS = None if source_BS is None else source_BS.repeat_interleave(beams, 0)
    source_NSD = None if source_BS is None else model.encode(source_BS).repeat_interleave(beams, 0)
    begin_B1 = torch.full((batch, 1), begin_id, device=device)
    next_NT = (begin_B1 if prompt_BT is None else torch.cat((prompt_BT, begin_B1), 1)).repeat_interleave(beams, 0)
    state = DecoderState(model.arch)
    sentences = [_Sentence(how) for _ in range(batch)]
    # At first all beams are the same: one of them counts.
    alive_BK = torch.full((batch, beams), float("-inf"), device=device)
    alive_BK[:, 0] = 0.0
    texts_NT = torch.empty(batch * beams, 0, dtype=torch.long, device=device)
    for length in range(1, how.most_tokens + 1):
        logits_NV = model.step(next_NT, source_NSD, source_NS, state)[:, -1]
        logits_NV[:, [PADDING_ID, begin_id]] = float("-inf")  # neither is part of a text
        joint_BKV = alive_BK[..., None] + torch.log_softmax(logits_NV, -1).view(batch, beams, -1)
        alive_BK, row_N, texts_NT = _advance(joint_BKV, texts_NT, sentences, end_id, how, length)
        if all(sentence.settled for sentence in sentences):
            break
        state.pick(row_N)
        next_NT = texts_NT[:, -1:]
    return [
        _best(sentence, alive_BK[row], texts_NT.view(batch, beams, -1)[row], end_id)
        for row, sentence in enumerate(sentences)
    ]


def _advance(
    joint_BKV: Tensor, texts_NT: Tensor, sentences: list[_Sentence], end_id: int, how: Search, length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The K best unfinished continuations of every sentence, their rows and texts; those that end are kept apart."""
    batch, beams, vocabulary = joint_BKV.shape
    ends_BK = joint_BKV[..., end_id].tolist()
    # Twice as many candidates as beams: each of K can end once, and K others are left. Greedy ends with its best token.
    best_BC, place_BC = joint_BKV.flatten(1).topk(min(2 * beams, beams * vocabulary))
    taken = [
        {place // vocabulary for place in row[:beams] if place % vocabulary == end_id} for row in place_BC.tolist()
    ]
    for row, sentence in enumerate(sentences):
        for beam in () if sentence.settled else taken[row]:
            sentence.add(tuple(texts_NT[row * beams + beam].tolist()), ends_BK[row][beam])
    best_BC = best_BC.masked_fill(place_BC % vocabulary == end_id, float("-inf"))
    alive_BK, choice_BK = best_BC.topk(beams)
    place_BK = place_BC.gather(1, choice_BK)
    first_B1 = torch.arange(batch, device=place_BK.device)[:, None] * beams
    row_N = (place_BK // vocabulary + first_B1).flatten()
    texts_NT = torch.cat((texts_NT[row_N], (place_BK % vocabulary).flatten()[:, None]), 1)
    for row, sentence in enumerate(sentences):
        # A beam of one is greedy: it is over when its best token is the end.
        sentence.settled = sentence.settled or (beams == 1 and bool(sentence.over))
        if not sentence.settled:
            sentence.settle(float(alive_BK[row, 0]), length)
    return alive_BK, row_N, texts_NT


def _best(sentence: _Sentence, alive_K: Tensor, texts_KT: Tensor, end_id: int) -> Found:
    """The best text that ended; where none did, the best unfinished one."""
    if sentence.over:
        found: Found = max(sentence.over, key=lambda pair: pair[0])[1]
        return found
    return Found(tuple(texts_KT[0].tolist()), float(alive_K[0]), False)
