import pytest
import torch

import llamalab
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.model import Transformer
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler

ARCH = LlamaArch(24, 3, 6, 2, 20, 37, max_positions=12)
PROMPT = [1, 5, 30, 9]
GREEDY = {"temperature": 0.0}


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = llamalab.build(ARCH, dtype="fp32")
    with torch.no_grad():  # wide weights, so that the text does not settle on one token
        for weight in model.parameters():
            weight.mul_(40.0 if weight.dim() == 2 else 1.0)
    return model


def run(model: Transformer, prompt: list[int], count: int, stop_ids: tuple[int, ...] = (), **options: float):  # type: ignore[no-untyped-def]
    sampler = Sampler(**options)  # type: ignore[arg-type]
    generation = Generation(model, prompt, max_new_tokens=count, sampler=sampler, stop_ids=stop_ids)
    return list(generation), generation.finish_reason


def recomputed(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """Greedy without a cache: the whole text again for every token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_cached_greedy_is_full_recomputation(model: Transformer) -> None:
    expected = recomputed(model, PROMPT, 8)
    assert len(set(expected)) > 3
    assert run(model, PROMPT, 8, **GREEDY) == (expected, "length")
    assert run(model, PROMPT, 8, **GREEDY) == (expected, "length")


@pytest.mark.parametrize("prompt_tokens", [1, 4, 11, 12])
def test_the_context_ends_it(model: Transformer, prompt_tokens: int) -> None:
    prompt, room = list(range(prompt_tokens)), 12 - prompt_tokens + 1
    ids, reason = run(model, prompt, 10**12, **GREEDY)
    assert (len(ids), reason) == (room, "context")
    assert run(model, prompt, room, **GREEDY) == (ids, "length")
    assert ids == recomputed(model, prompt, room)


def test_a_stop_id_ends_it_and_is_not_part_of_it(model: Transformer) -> None:
    expected = recomputed(model, PROMPT, 8)
    at = next(i for i in range(3, 8) if expected[i] not in expected[:i])
    assert run(model, PROMPT, 8, (36, expected[at]), **GREEDY) == (expected[:at], "stop")


def test_a_stop_id_in_the_prompt_stops_nothing(model: Transformer) -> None:
    assert run(model, PROMPT, 1, (PROMPT[0], PROMPT[1]), **GREEDY)[1] == "length"


def test_a_seed_gives_the_same_text(model: Transformer) -> None:
    first = run(model, PROMPT, 9, temperature=2.0, top_p=0.95, seed=5)
    assert run(model, PROMPT, 9, temperature=2.0, top_p=0.95, seed=5) == first
    assert any(run(model, PROMPT, 9, temperature=2.0, seed=seed)[0] != first[0] for seed in range(6, 9))


def test_tokens_come_one_by_one(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    monkeypatch.setattr(
        model, "forward", lambda tokens_BT, **_: fed.append(tokens_BT.shape[1]) or torch.eye(1, 37)[None]
    )
    generation = Generation(model, PROMPT, max_new_tokens=3, sampler=Sampler(temperature=0.0))
    assert fed == []
    for count, _ in enumerate(generation, start=1):
        assert fed == [4, 1, 1][:count]
        assert generation.finish_reason is None
        assert not torch.is_inference_mode_enabled()
    assert generation.finish_reason == "length"


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_narrow_models_generate(dtype: str) -> None:
    assert len(run(llamalab.build(ARCH, dtype=dtype), PROMPT, 5, **GREEDY)[0]) == 5


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [
        ([], 5, "at least one token; got none"),
        ([3] * 13, 5, "at most 12 tokens, the model's context; got 13"),
        ([1, 37], 5, "from 0 to 36; got 37"),
        ([1, -1], 5, "from 0 to 36; got -1"),
        ([1], 0, "max_new_tokens must be at least 1; got 0"),
    ],
)
def test_bad_input_is_refused_before_any_work(model: Transformer, prompt: list[int], count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Generation(model, prompt, max_new_tokens=count, sampler=Sampler())


def test_a_damaged_checkpoint_is_said_and_not_printed() -> None:
    damaged = llamalab.build(ARCH, dtype="fp32")
    with torch.no_grad():
        damaged.norm.weight[3] = float("nan")
    with pytest.raises(InputError, match="logits must be finite"):
        run(damaged, PROMPT, 2, **GREEDY)
