"""Every family that is answered for against its own class in transformers, on random weights of small shapes.

Parameters to the last one, the products of a prompt as torch counts them, the bytes that its cache holds, and what the
built-in model makes of its checkpoint: the same logits, or the sentence that says why not.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.arch.hf_configs.config import from_hf_config
from llamalab.arch.hf_configs.families import FAMILIES
from llamalab.arch.runnable import model_refusal
from llamalab.checkpoints import load
from llamalab.errors import UnavailableError
from llamalab.presets import PRESETS
from tests.arch.hf_configs.samples import hf_config
from tests.families.configs import DENSE, MIXTURES

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
BATCH, TOKENS = 2, 17
EVERY = DENSE | MIXTURES
# Their classes are their authors' own files, not transformers'.
ELSEWHERE = {
    "Yi", "aquila", "baichuan", "deepseek", "exaone", "internlm", "internlm2", "minicpm", "orion", "qwen", "xverse",
}  # fmt: skip
# Presets that a class of transformers can be made of; the classes of others have code of their own.
PLAIN = [name for name, preset in PRESETS.items() if preset.arch.experts is None and "gemma-3" not in name]


@cache
def built(name: str) -> tuple[LlamaArch, Any]:
    """The architecture that is read from the class's own config.json, and a model of the class."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    kind, settings = EVERY[name]
    config = CONFIG_MAPPING[kind](**settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", experts_implementation="eager")
    return from_hf_config(config.to_dict()), model.eval()


def test_every_family_is_here() -> None:
    assert {kind for kind, _ in EVERY.values()} | ELSEWHERE == set(FAMILIES)


@pytest.mark.parametrize("name", EVERY)
def test_parameters_are_those_of_the_class(name: str) -> None:
    arch, model = built(name)
    assert parameter_count(arch) - sum(parameter.numel() for parameter in model.parameters()) == 0


@pytest.mark.parametrize("name", EVERY)
def test_products_and_cache_of_a_prompt_are_those_that_torch_counts(name: str) -> None:
    arch, model = built(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = model(torch.zeros(BATCH, TOKENS, dtype=torch.long), use_cache=True)
    ops = forward_ops(arch, PassShape(new_tokens=TOKENS, batch=BATCH, attention="naive", logits="all"))
    assert counter.get_total_flops() - add_up(ops).flops_full == 0
    held = sum(one.nbytes for layer in out.past_key_values.layers for one in (layer.keys, layer.values))
    # Between passes transformers keeps one key less than a window sees: that of the token to come is its last.
    sliding = sum(layers for window, layers in arch.windows if window is not None and window <= TOKENS)
    assert held + sliding * BATCH * 2 * arch.kv_dim * 4 == kv_bytes(arch, seq=TOKENS, batch=BATCH, dtype="fp32")


@pytest.mark.parametrize("name", PLAIN)
def test_every_dense_preset_has_the_parameters_of_its_class(name: str) -> None:
    """On meta, at full size; two depths say all, as every layer has as many."""
    from transformers import AutoModelForCausalLM

    arch, counts = PRESETS[name].arch, []
    for layers in (1, 2):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(hf_config(arch.replace(n_layers=layers)))
        counts.append(sum(parameter.numel() for parameter in model.parameters()))
    assert parameter_count(arch) - (counts[0] + (arch.n_layers - 1) * (counts[1] - counts[0])) == 0


@pytest.mark.parametrize("name", DENSE)
def test_a_checkpoint_of_the_class_loads_and_computes_the_same_or_is_refused(name: str, tmp_path: Path) -> None:
    arch, model = built(name)
    spread(model)
    model.save_pretrained(tmp_path)
    refusal = model_refusal(arch)
    if refusal is not None:
        with pytest.raises(UnavailableError, match=re.escape(refusal)):
            load(tmp_path)
        return
    tokens_BT = torch.arange(BATCH * 33).reshape(BATCH, 33) % arch.vocab_size  # longer than every window
    with torch.no_grad():
        expected, ours = model(tokens_BT, use_cache=False).logits, load(tmp_path, dtype="fp32")(tokens_BT)
    assert expected.std() > 0.3
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def spread(model: Any) -> None:
    """Weights of a size at which every one of them moves the logits."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            values = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + values / 4 if weight.dim() == 1 else values / weight.shape[-1] ** 0.5)
