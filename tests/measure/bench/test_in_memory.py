"""A model in memory is benched as it is: of transformers, wrapped by PEFT, or our own."""

from typing import Any

import pytest
import torch

import llamalab
from llamalab.errors import InputError
from llamalab.measure.bench.in_memory import measure_bench_of
from llamalab.measure.bench.rows import BenchCase
from tests.instrument.test_hf_families import family_model
from tests.model.shrunk import ARCHES, small_model
from tests.report.sample import sample_record

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
CASES = [BenchCase(9, 0), BenchCase(0, 3, 14), BenchCase(5, 2, 4, 2)]


def benched(model: Any, **options: Any) -> list[Any]:
    given = {"repetitions": 2, "repeat_s": 0.0, "reference": sample_record(dtype="fp32"), **options}
    return list(measure_bench_of(model, CASES, **given))


@pytest.mark.parametrize("kind", ["mistral", "qwen3", "phi3", "peft"])
def test_every_pass_sees_the_tokens_of_its_test(kind: str) -> None:
    """Longer than the sliding window of those that have one; a repetition leaves nothing to the next."""
    with torch.no_grad():
        model = family_model("llama" if kind == "peft" else kind, "sdpa")
    if kind == "peft":
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2))
    seen: list[tuple[int, int]] = []
    inner = model.get_base_model() if kind == "peft" else model

    def look(_: Any, args: Any, options: Any) -> None:
        seen.append((args[0].shape[1], options["past_key_values"].get_seq_length()))

    handle = inner.register_forward_pre_hook(look, with_kwargs=True)
    rows = benched(model)
    handle.remove()
    assert [row.test for row in rows] == ["pp9", "tg3 @ d14", "pp5+tg2 @ d4"]
    assert [[len(one) for one in row.passes_s] for row in rows] == [[1, 1], [3, 3], [3, 3]]
    assert {(row.attention, row.weights, row.dtype, row.reason) for row in rows} == {
        ("sdpa", "in memory", "fp32", None)
    }
    steps = [one for one in seen if one[0] == 1 and one[1] >= 14]
    assert set(steps) == {(1, 14), (1, 15), (1, 16)}
    assert {one for one in seen if one[0] == 9} == {(9, 0)}
    assert all(row.predicted_tokens_per_s for row in rows)
    assert rows[0].parameters == sum(weight.numel() for weight in family_parameters(inner))


def family_parameters(model: Any) -> list[Any]:
    return [weight for name, weight in model.named_parameters() if "lora_" not in name]


def test_our_own_model_and_from_python() -> None:
    rows = benched(small_model(ARCHES["GQA"]))
    assert all(row.basis == "measured" and row.tokens_per_s for row in rows)
    with pytest.raises(InputError, match="attention must not be given with a model in memory"):
        llamalab.bench(small_model(ARCHES["GQA"]), attention="naive")
    with pytest.raises(InputError, match="a measured model must be"):
        benched(torch.nn.Linear(2, 2))
