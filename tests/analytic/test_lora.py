"""Parameters of adapters against PEFT's count and the closed form."""

import pytest

from llamalab.analytic.lora import TARGETS, Lora, lora_pairs, lora_parameters, parse_lora
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.presets import PRESETS
from tests.checkpoints.samples import ARCH

HF = {
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
}


@pytest.mark.parametrize(
    ("model", "targets", "parameters"),
    [
        ("7b", "q,v", 32 * 2 * 16 * (4096 + 4096)),
        ("70b", "q,v", 80 * 16 * ((8192 + 8192) + (8192 + 1024))),
        ("7b", "gate,up,down", 32 * 3 * 16 * (4096 + 11008)),
    ],
)
def test_rank_times_both_sides(model: str, targets: str, parameters: int) -> None:
    assert lora_parameters(PRESETS[model].arch, parse_lora(f"r=16,targets={targets}")) == parameters


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")  # PEFT's own, of packages it may use
@pytest.mark.parametrize("targets", [("q", "v"), ("k",), tuple(TARGETS)])
def test_as_many_as_peft_trains(targets: tuple[str, ...]) -> None:
    import peft

    from tests.checkpoints.samples import random_model
    from tests.model.hf_reference import hf_model

    config = peft.LoraConfig(r=3, target_modules=[HF[target] for target in targets])
    trained, _ = peft.get_peft_model(hf_model(random_model(ARCH)), config).get_nb_trainable_parameters()
    assert lora_parameters(ARCH, Lora(3, targets)) == trained


def test_shapes_of_a_pair() -> None:
    (pair,) = lora_pairs(ARCH, Lora(3, ("down",)))
    assert (pair.a_shape, pair.b_shape, pair.layers, pair.parameters) == ((3, 20), (24, 3), 2, 2 * 3 * 44)


@pytest.mark.parametrize("text", ["r=16,targets=q,v", "targets=q,v,r=16", " r=16, targets=q, v"])
def test_spellings(text: str) -> None:
    assert parse_lora(text) == Lora(16, ("q", "v"))


@pytest.mark.parametrize("text", ["", "16", "r=16", "targets=q", "r=x,targets=q", "r=-1,targets=q", "r=1,r=2,targets=q",
                                  "rank=8,targets=q", "r=8,q", "r=²,targets=q"])  # fmt: skip
def test_misspellings(text: str) -> None:
    with pytest.raises(InputError, match="adapter"):
        parse_lora(text)


@pytest.mark.parametrize(
    ("arch", "lora", "message"),
    [
        (ARCH, Lora(0, ("q",)), "rank of an adapter must be from 1 to below 24, q; got 0"),
        (ARCH, Lora(8, ("v",)), "below 8, v; got 8"),
        (ARCH, Lora(2, ("q", "q")), "named once"),
        (ARCH, Lora(2, ("head",)), "must be one of q, k, v, o, gate, up, down; got 'head'"),
    ],
)
def test_adapters_that_cannot_be(arch: LlamaArch, lora: Lora, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lora_pairs(arch, lora)
