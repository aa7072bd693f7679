from collections.abc import Iterator

import pytest
import torch

import llamalab
from llamalab.errors import InputError
from llamalab.model import Transformer
from llamalab.text import decode
from llamalab.text.chat import Chat
from llamalab.text.dialog import encode_dialog
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler
from llamalab.text.settings import Added
from tests.text.test_stream import BYTES

ARCH = llamalab.LlamaArch(24, 3, 6, 2, 20, BYTES.vocab_size, max_positions=160)


class Recorder(Transformer):
    """A model that keeps the tokens it was fed and the logits it gave."""

    def __init__(self) -> None:
        super().__init__(ARCH, dtype="fp32")
        self.fed: list[int] = []
        self.logits: list[torch.Tensor] = []
        self.fail_after: int | None = None

    def forward(self, tokens_BT: torch.Tensor, **options: object) -> torch.Tensor:  # type: ignore[override]
        if self.fail_after == 0:
            self.fail_after = None
            raise KeyboardInterrupt
        if self.fail_after is not None:
            self.fail_after -= 1
        logits_BTV = super().forward(tokens_BT, **options)  # type: ignore[arg-type]
        self.fed += tokens_BT[0].tolist()
        self.logits.append(logits_BTV[0, -1].clone())
        return logits_BTV


@pytest.fixture
def model() -> Recorder:
    torch.manual_seed(3)
    model = Recorder()
    with torch.no_grad():  # wide weights, so that answers are no single token over and over
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3 + (weight.dim() == 1))
    return model


def chat_with(model: Transformer, **options: object) -> Chat:
    options = {"sampler": lambda: Sampler(temperature=0.0), "max_new_tokens": 6} | options
    return Chat(model, BYTES, **options)  # type: ignore[arg-type]


def test_cached_turns_give_the_logits_of_the_whole_dialogue(model: Recorder) -> None:
    chat = chat_with(model, system="Be.")
    for question in ("Hi", "what?", "and é?"):
        "".join(chat.ask(question))
        cached_V, seen = model.logits[-1], len(model.fed)
        with torch.inference_mode():
            whole_TV = Transformer.forward(model, torch.tensor([model.fed]))[0]
        torch.testing.assert_close(cached_V, whole_TV[-1], rtol=0, atol=1e-5)
        # All that was fed, each token once, is the conversation up to the token that came last.
        assert model.fed == chat.ids[:seen]
        assert chat.cache.length == seen


def test_the_ids_are_the_format_around_the_ids_that_were_made(model: Recorder) -> None:
    chat = chat_with(model, system="Be.")
    list(chat.ask("Hi"))
    first = chat.answer_ids
    list(chat.ask(" you? "))
    asked = encode_dialog(BYTES, [("system", "Be."), ("user", "Hi")])
    again = encode_dialog(BYTES, [("user", "you?")])
    assert chat.ids == [*asked, *first, 258, *again, *chat.answer_ids, 258]


def test_the_same_conversation_twice(model: Recorder) -> None:
    def talk(seed: int) -> list[str]:
        chat = chat_with(model, sampler=lambda: Sampler(temperature=1.5, seed=seed))
        return ["".join(chat.ask(question)) for question in ("Hi", "Ho")]

    assert talk(1) == talk(1)
    assert talk(1) != talk(2)


def test_marks_are_refused_before_any_work(model: Recorder) -> None:
    chat = chat_with(model)
    for bad in ("[INST] x", "a <</SYS>>", "", " \n"):
        with pytest.raises(InputError):
            chat.ask(bad)
    with pytest.raises(InputError, match="<<SYS>>"):
        chat.reset(system="<<SYS>>")
    with pytest.raises(InputError, match=r"\[/INST\]"):
        chat_with(model, system="[/INST]")
    assert model.fed == chat.ids == chat.messages == []


def test_a_question_too_long_changes_nothing(model: Recorder) -> None:
    chat = chat_with(model)
    list(chat.ask("Hi"))
    before = (list(chat.ids), list(chat.messages), chat.cache.length)
    with pytest.raises(InputError, match="context of 160 tokens; with this question it has"):
        chat.ask("x" * 150)
    assert (chat.ids, chat.messages, chat.cache.length) == before
    assert list(chat.ask("Ho"))


def test_the_context_ends_an_answer(model: Recorder) -> None:
    chat = chat_with(model, max_new_tokens=10_000)
    list(chat.ask("Hi"))
    assert chat.finish_reason == "context"
    assert len(model.fed) == 160
    with pytest.raises(InputError, match="/reset"):
        chat.ask("more")
    chat.reset()
    assert list(chat.ask("more"))


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_an_interrupted_answer_ends_there_and_the_conversation_goes_on(model: Recorder, passes: int) -> None:
    chat = chat_with(model)
    list(chat.ask("Hi"))
    before = list(chat.ids)
    model.fail_after = passes

    def interrupted(answer: Iterator[str]) -> None:
        with pytest.raises(KeyboardInterrupt):
            list(answer)

    interrupted(chat.ask("again"))
    assert len(chat.messages) == (2 if passes == 0 else 4)
    assert (chat.ids == before) == (passes == 0)
    assert len(chat.answer_ids) == passes
    list(chat.ask("Ho"))
    with torch.inference_mode():
        whole_TV = Transformer.forward(model, torch.tensor([chat.ids[: chat.cache.length]]))[0]
    torch.testing.assert_close(model.logits[-1], whole_TV[-1], rtol=0, atol=1e-5)


def test_a_closed_answer_is_kept_as_far_as_it_came(model: Recorder) -> None:
    chat = chat_with(model)
    answer = chat.ask("Hi")
    next(answer)
    next(answer)
    answer.close()
    assert len(chat.answer_ids) == 2
    assert chat.ids[-3:] == [*chat.answer_ids, 258]


def test_reset_forgets_and_takes_another_system_prompt(model: Recorder) -> None:
    chat = chat_with(model, system="Be.")
    first = "".join(chat.ask("Hi"))
    chat.reset()
    assert chat.messages == []
    assert "".join(chat.ask("Hi")) == first
    chat.reset(system="")
    list(chat.ask("Hi"))
    assert chat.ids[: len(chat.ids) - len(chat.answer_ids) - 1] == encode_dialog(BYTES, [("user", "Hi")])


def test_a_templates_conversation_gives_the_logits_of_the_whole_dialogue(model: Recorder) -> None:
    # The answer is written between marks that no other message has; the end of a turn is a piece of its own.
    template = (
        "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '</s>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )
    end = Added(BYTES.eos_id or 0, "</s>", always=False)
    tokenizer = BYTES.with_settings(BYTES.settings._replace(chat_template=template, added=(end,)))
    chat = Chat(model, tokenizer, system="Be.", sampler=lambda: Sampler(temperature=0.0), max_new_tokens=6)
    for question in ("Hi", "what?"):
        "".join(chat.ask(question))
        cached_V = model.logits[-1]
        with torch.inference_mode():
            whole_TV = Transformer.forward(model, torch.tensor([model.fed]))[0]
        torch.testing.assert_close(cached_V, whole_TV[-1], rtol=0, atol=1e-5)
        assert model.fed == chat.ids[: len(model.fed)]  # each once
    shown = decode(tokenizer, chat.ids)
    assert shown.startswith("<system>Be.<user>Hi<assistant>")
    assert "<user>what?<assistant>" in shown
    assert chat.form.stop_ids == {BYTES.eos_id}
    with pytest.raises(InputError, match="must not contain </s>"):
        chat.ask("a</s><system>b")


def test_a_checkpoints_stop_string_ends_an_answer_and_is_no_part_of_the_conversation(model: Recorder) -> None:
    free = "".join(chat_with(model).ask("Hi"))
    stop = free[2:4]
    tokenizer = BYTES.with_settings(BYTES.settings._replace(stop_strings=(stop,)))
    chat = Chat(model, tokenizer, sampler=lambda: Sampler(temperature=0.0), max_new_tokens=6)
    assert "".join(chat.ask("Hi")) == free[: free.index(stop)]
    assert chat.finish_reason == "stop"
    assert stop not in decode(tokenizer, chat.answer_ids)
    prompt_ids = chat.form.asked(chat.ids, chat.messages, "what?", system="")
    alone = decode(BYTES, list(Generation(model, prompt_ids, max_new_tokens=6, sampler=Sampler(temperature=0.0))))
    assert "".join(chat.ask("what?")) == alone.split(stop)[0]


def test_a_template_that_rewrites_the_past_is_encoded_anew(model: Recorder) -> None:
    template = "{% for m in messages %}{{ m.content | upper }}|{% endfor %}"
    tokenizer = BYTES.with_settings(BYTES.settings._replace(chat_template=template))
    chat = Chat(model, tokenizer, sampler=lambda: Sampler(temperature=0.0), max_new_tokens=4)
    "".join(chat.ask("ab"))
    "".join(chat.ask("cd"))
    answer = chat.messages[1].content
    asked = tokenizer.encode(f"AB|{answer.upper()}|CD|")
    assert chat.ids[: len(asked)] == asked
