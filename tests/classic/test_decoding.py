"""Decoding step by step, its keys and values, and the searches, held to what can be enumerated."""

from itertools import product

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llamalab.analytic.op import add_up
from llamalab.classic.costs import classic_kv_bytes, classic_ops
from llamalab.classic.points import classic_points, names_of
from llamalab.classic.search import Search, search
from llamalab.classic.shape import ClassicArch
from llamalab.classic.state import DecoderState
from llamalab.classic.transformer import ClassicTransformer
from llamalab.errors import InputError
from llamalab.instrument.taps import capture, edit

ARCH = ClassicArch(16, 4, 24, 2, 2, 9, 6)
BEGIN, END = 1, 2
SOURCE_BS = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0], [8, 3, 3, 0]])


@pytest.fixture(scope="module")
def model() -> ClassicTransformer:
    torch.manual_seed(0)
    made = ClassicTransformer(ARCH).eval()
    for weight in made.parameters():  # sharper choices than a fresh model's
        weight.data *= 1.5
    return made


@torch.no_grad()
def test_steps_give_what_a_whole_pass_gives(model: ClassicTransformer) -> None:
    target_BT = torch.tensor([[1, 3, 4, 5], [1, 5, 5, 3], [1, 4, 3, 2]])
    whole_BTV = model(SOURCE_BS, target_BT)
    state, source_BSD = DecoderState(ARCH), model.encode(SOURCE_BS)
    parts = [model.step(part, source_BSD, SOURCE_BS, state) for part in target_BT.split((1, 2, 1), 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole_BTV, atol=1e-5, rtol=1e-5)
    expected = classic_kv_bytes(ARCH, source_tokens=4, target_tokens=4, batch=3)
    assert (state.own_bytes, state.cross_bytes) == expected


@torch.no_grad()
def test_flops_of_a_step_are_counted(model: ClassicTransformer) -> None:
    state, source_BSD = DecoderState(ARCH), model.encode(SOURCE_BS)
    model.step(torch.ones(3, 2, dtype=torch.long), source_BSD, SOURCE_BS, state)
    with FlopCounterMode(display=False) as counter:
        model.step(torch.ones(3, 1, dtype=torch.long), source_BSD, SOURCE_BS, state)
    rows = classic_ops(ARCH, source_tokens=4, target_tokens=1, past_tokens=2, batch=3)
    assert add_up(rows).flops_full == counter.get_total_flops()
    assert not [op for op in rows if op.name.startswith("encoder") or op.name.endswith("cross_attention.wk")]


def test_padding_changes_nothing(model: ClassicTransformer) -> None:
    alone = model(SOURCE_BS[1:2, :2], torch.tensor([[1, 3]]))
    padded = model(SOURCE_BS[1:2], torch.tensor([[1, 3, 0]]))[:, :2]
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)


def test_what_comes_later_is_not_seen(model: ClassicTransformer) -> None:
    first, second = (model(SOURCE_BS[:1], torch.tensor([[1, 3, token]])) for token in (4, 5))
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert not torch.equal(first[:, 2], second[:, 2])


def scored(model: ClassicTransformer, row: int, most: int) -> dict[tuple[int, ...], float]:
    """The log-probability of every text that ends within so many tokens, the end included."""
    found = {}
    for length in range(most):
        for text in product((3, 4, 5), repeat=length):
            logits_TV = model(SOURCE_BS[row : row + 1], torch.tensor([[BEGIN, *text]]))[0]
            logits_TV[:, [0, BEGIN]] = float("-inf")
            logprobs_TV = logits_TV.log_softmax(-1)
            found[text] = sum(float(logprobs_TV[place, token]) for place, token in enumerate((*text, END)))
    return found


@torch.no_grad()
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_a_beam_wide_enough_finds_the_best_of_all_texts(model: ClassicTransformer, alpha: float) -> None:
    how = Search(beams=40, most_tokens=4, alpha=alpha)
    for row, found in enumerate(search(model, SOURCE_BS, begin_id=BEGIN, end_id=END, how=how)):
        every = scored(model, row, 4)
        best = max(every, key=lambda text: every[text] / how.of_length(len(text) + 1))
        assert found.ended
        assert found.tokens == best
        assert found.logprob == pytest.approx(every[best], abs=1e-4)


@torch.no_grad()
def test_a_beam_of_one_takes_the_likeliest_token_each_time(model: ClassicTransformer) -> None:
    for row, found in enumerate(search(model, SOURCE_BS, begin_id=BEGIN, end_id=END, how=Search(1, 6))):
        text = [BEGIN]
        while len(text) < 7 and text[-1] != END:
            logits_V = model(SOURCE_BS[row : row + 1], torch.tensor([text]))[0, -1]
            logits_V[[0, BEGIN]] = float("-inf")
            text.append(int(logits_V.argmax()))
        assert found.tokens == tuple(token for token in text[1:] if token != END)
        assert found.ended == (text[-1] == END)


@torch.no_grad()
def test_a_decoder_alone_continues_its_prompt() -> None:
    torch.manual_seed(3)
    alone = ClassicTransformer(ClassicArch(16, 4, 24, 0, 2, 6, 6)).eval()
    prompt_BT = torch.tensor([[3, 4], [5, 5]])
    for row, found in enumerate(search(alone, None, begin_id=BEGIN, end_id=END, how=Search(1, 4), prompt_BT=prompt_BT)):
        text = [*prompt_BT[row].tolist(), BEGIN]
        while len(text) < 7 and text[-1] != END:
            logits_V = alone(None, torch.tensor([text]))[0, -1]
            logits_V[[0, BEGIN]] = float("-inf")
            text.append(int(logits_V.argmax()))
        assert found.tokens == tuple(token for token in text[3:] if token != END)


def test_searches_that_cannot_be_are_refused(model: ClassicTransformer) -> None:
    encoder = ClassicTransformer(ClassicArch(8, 2, 16, 1, 0, 9, 9))
    with pytest.raises(InputError, match="must have a decoder"):
        search(encoder, SOURCE_BS, begin_id=BEGIN, end_id=END)
    with pytest.raises(InputError, match="neither"):
        search(model, None, begin_id=BEGIN, end_id=END)
    with pytest.raises(InputError, match="beams"):
        search(model, SOURCE_BS, begin_id=BEGIN, end_id=END, how=Search(0))


def test_points_fire_in_their_order_with_their_shapes(model: ClassicTransformer) -> None:
    fired: list[str] = []
    sizes = {"B": 3, "D": 16, "H": 4, "E": 4, "F": 24, "V": 6}

    def look(name: str, tensor: torch.Tensor) -> torch.Tensor:
        stack = name.split(".")[0]
        point = next(one for one in classic_points(ARCH) if one.name == _starred(name))
        tokens = {"T": 4 if stack == "encoder" else 2, "S": 2 if stack == "decoder" and "cross" not in name else 4}
        assert tensor.shape == tuple((sizes | tokens)[letter] for letter in point.shape), name
        fired.append(name)
        return tensor

    model(SOURCE_BS, torch.ones(3, 2, dtype=torch.long), tap=look)
    assert tuple(fired) == names_of(ARCH)
    rows = {op.name for op in classic_ops(ARCH, source_tokens=4, target_tokens=2)}
    assert {point.op for point in classic_points(ARCH)} == rows


def _starred(name: str) -> str:
    parts = name.split(".")
    return ".".join((parts[0], parts[1], "*", *parts[3:])) if len(parts) > 2 else name


@torch.no_grad()
def test_capture_and_edit_work_on_it(model: ClassicTransformer) -> None:
    target_BT = torch.ones(3, 2, dtype=torch.long)
    with capture(model, "decoder.layers.*.cross_attention.pattern") as got:
        before = model(SOURCE_BS, target_BT)
    assert sorted(got) == [f"decoder.layers.{layer}.cross_attention.pattern" for layer in (0, 1)]
    pattern_BHTS = got["decoder.layers.1.cross_attention.pattern"]
    torch.testing.assert_close(pattern_BHTS.sum(-1), torch.ones(3, 4, 2))
    assert float(pattern_BHTS[1, :, :, 2:].abs().max()) == 0.0  # padding
    with edit(model, "decoder.layers.*.cross_attention.out", torch.zeros_like):
        blind = model(SOURCE_BS, target_BT)
    assert not torch.equal(before, blind)
    torch.testing.assert_close(blind[0], blind[1])  # without cross attention every source is the same
    for wrong in ({"heads": 0}, {"layers": [0]}, {"reduce": "mean"}):
        with pytest.raises(InputError, match="several stacks"), capture(model, "logits", **wrong):
            pass
