"""Experiments on positions, attention by hand and the translator: their parts against what others wrote."""

import json
import math

import pytest
import torch
from num2words import num2words
from torch.nn.functional import scaled_dot_product_attention

from experiments import attention_by_hand, positions, translation
from experiments.common import number_words, translator
from experiments.common.position_kinds import TRAINED, Placed, attend_alibi, slopes, spread_by_distance, stretched
from llamalab import LlamaArch, build
from llamalab.attention import naive
from llamalab.errors import InputError
from llamalab.model.rope import rotations

ARCH = LlamaArch(32, 1, 4, 4, 48, 40)


@pytest.fixture(scope="module")
def placed() -> dict[str, Placed]:
    torch.manual_seed(0)
    return {kind: Placed(build(ARCH, dtype="fp32", seed=1), kind, 12).eval() for kind in TRAINED}


@pytest.mark.reference
@pytest.mark.parametrize("heads", [1, 2, 6, 8, 12, 112])
def test_slopes_are_blooms(heads: int) -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    bias_HS = build_alibi_tensor(torch.ones(1, 5, dtype=torch.long), heads, torch.float32)[:, 0]
    torch.testing.assert_close(torch.tensor(slopes(heads)), bias_HS[:, 1])


@pytest.mark.reference
@pytest.mark.parametrize(("kind", "their"), [("linear", "linear"), ("yarn", "yarn"), ("llama3", "llama3")])
def test_stretched_frequencies_are_those_of_transformers(kind: str, their: str) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    settings = {"rope_type": their, "factor": 4.0, "rope_theta": 10_000.0, "original_max_position_embeddings": 128}
    if kind == "llama3":
        settings |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=512, rope_parameters=settings)
    if their in ROPE_INIT_FUNCTIONS:
        frequency_P, factor = ROPE_INIT_FUNCTIONS[their](config, torch.device("cpu"))
    arch = stretched(LlamaArch(64, 1, 4, 4, 96, 40), kind, trained_tokens=128, factor=4.0)
    turn_TP = rotations(0, 2, arch, torch.device("cpu"))
    torch.testing.assert_close(turn_TP[1].angle(), frequency_P, atol=1e-6, rtol=1e-5)
    assert float(turn_TP[1].abs()[0]) == pytest.approx(factor, rel=1e-6)


@pytest.mark.reference
@pytest.mark.parametrize("tokens", [64, 128, 300, 512])
def test_dynamic_ntk_is_that_of_transformers(tokens: int) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    settings = {"rope_type": "dynamic", "factor": 1.0, "rope_theta": 10_000.0}
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=128, rope_parameters=settings)
    frequency_P, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, torch.device("cpu"), seq_len=tokens)
    arch = stretched(LlamaArch(64, 1, 4, 4, 96, 40), "dynamic", trained_tokens=128, factor=1.0)
    turn_TP = rotations(0, tokens, arch, torch.device("cpu"))
    torch.testing.assert_close(turn_TP[1].angle(), frequency_P, atol=1e-6, rtol=1e-5)


def test_rope_unchanged_is_the_model_itself(placed: dict[str, Placed]) -> None:
    tokens_BT = torch.tensor([[3, 5, 7, 9]])
    torch.testing.assert_close(placed["rope"](tokens_BT), placed["rope"].model(tokens_BT))


def test_who_depends_on_the_distance_only(placed: dict[str, Placed]) -> None:
    spreads = {kind: spread_by_distance(one, 12, token_id=7).share for kind, one in placed.items()}
    assert [kind for kind, share in spreads.items() if share < positions.SAME] == ["none", "rope", "alibi"]


def test_learned_rows_end(placed: dict[str, Placed]) -> None:
    with pytest.raises(InputError, match="a row for each token; got 13 for 12"):
        placed["learned"](torch.ones(1, 13, dtype=torch.long))


def test_alibi_is_attention_with_a_bias_and_gqa() -> None:
    torch.manual_seed(0)
    q_BHTE, k_BKSE, v_BKSE = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    z_BHTE = attend_alibi(q_BHTE, k_BKSE, v_BKSE, query_offset=2)
    scores_BHTS = naive.scores(q_BHTE, k_BKSE, query_offset=2)
    for head, slope in enumerate(slopes(4)):
        for query in range(3):
            for key in range(query + 3):
                scores_BHTS[0, head, query, key] -= slope * (query + 2 - key)
    torch.testing.assert_close(z_BHTE, naive.values(naive.pattern(scores_BHTS), v_BKSE))
    with pytest.raises(InputError, match="window"):
        attend_alibi(q_BHTE, k_BKSE, v_BKSE, query_offset=2, window=2)


def test_numbers_are_spelled_as_num2words_spells_them() -> None:
    for number in (*range(1300), *range(1300, 1_000_000, 4999)):
        said = num2words(number).replace("-", " ").replace(",", "")
        assert " ".join(number_words.english(number)) == said
        if number // 1000 % 100 != 1 or number < 2000:  # num2words says einhunderteinstausend, which is no German
            assert "".join(number_words.german(number)) == num2words(number, lang="de")
    assert "".join(number_words.german(101_000)) == "einhunderteintausend"


def test_held_out_numbers_are_never_trained_on() -> None:
    spelled = {tuple(pair.source) for pair in translator.pairs(300, held_out=True, seed=0)}
    assert not spelled & {tuple(pair.source) for pair in translator.pairs(3000, held_out=False, seed=0)}


def test_costs_of_the_three_kinds_are_counted() -> None:
    rows = translation.costs(source=5, target=4)
    assert [row["kind"] for row in rows] == ["both", "decoder-only", "encoder-only"]
    for row in rows:
        assert row["flops"] == row["measured_flops"]
        assert row["block_params"] == row["measured_block_params"]
        assert row["own_kv_bytes"] + row["cross_kv_bytes"] == row["measured_kv_bytes"]
    sizes = [row["block_params"] for row in rows]
    assert max(sizes) / min(sizes) < 1.001


def test_the_translator_learns(capsys: pytest.CaptureFixture[str]) -> None:
    losses: list[float] = []
    torch.manual_seed(0)
    model = translator.ClassicTransformer(translator.ARCH)
    translator.train(model, 12, seed=0, tell=lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[0] - 0.2


def test_attention_by_hand_is_torchs(capsys: pytest.CaptureFixture[str]) -> None:
    attention_by_hand.main(["--causal", "--x", "1 0 1/2 0; 0 2 0 -2; 1 1 1 1"])
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["largest_error"] < 1e-12
    assert answer["hand"]["pattern"][0] == [1.0]
    assert answer["hand"]["q"][0] == ["1", "0"]
    assert round(answer["steps"][-1]["intensity_flop_per_byte"]) == 62
    assert answer["counted_flops"] == 2 * answer["steps"][0]["operations"]
    assert (answer["cache"]["tokens"], answer["cache"]["tokens_of_rounded"]) == (19_073, 19_230)


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["--x", "1 0"], "a row for each word"), (["--wq", "a"], "must be numbers"), (["--wk", "1 2; 3"], "one length"),
     (["--wv", "1 2"], "as many columns")],
)  # fmt: skip
def test_matrices_that_cannot_be_are_refused(argv: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        attention_by_hand.main(argv)


def test_softmax_and_output_are_those_of_the_paper_form() -> None:
    x, weights = [attention_by_hand.matrix(attention_by_hand.X)], attention_by_hand.matrix(attention_by_hand.WQ)
    hand = attention_by_hand.by_hand(x[0], weights, weights, weights, causal=False)
    q_TE = torch.tensor([[float(one) for one in row] for row in hand["q"]], dtype=torch.float64)
    out_TE = scaled_dot_product_attention(q_TE, q_TE, q_TE)
    assert math.isclose(float(out_TE[1, 1]), hand["out"][1][1], rel_tol=1e-12)
