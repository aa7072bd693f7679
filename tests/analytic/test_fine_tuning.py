"""Memory and FLOPs of training steps against torch and peft on a CPU, and against published figures."""

from functools import partial
from typing import Any

import pytest
import torch

from llamalab.analytic.fine_tuning import tuning_memory, tuning_work
from llamalab.analytic.lora import TARGETS, Lora
from llamalab.analytic.nf4 import NF4_BITS, NF4_DOUBLE_BITS
from llamalab.analytic.params import parameter_count
from llamalab.analytic.tuned_weights import trained_parameters
from llamalab.analytic.tuning import Tuning
from llamalab.arch import LlamaArch
from llamalab.errors import InputError, UnknownNameError
from llamalab.hardware import find_hardware
from llamalab.presets import PRESETS
from tests.analytic.test_saved_activations import TORCH, hugging_face

ARCH_7B, ARCH_70B = PRESETS["7b"].arch, PRESETS["70b"].arch
LORA = Lora(8, ("q", "v"))


OPTIMIZERS = {
    "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "adafactor": torch.optim.Adafactor,
    "sgd-momentum": partial(torch.optim.SGD, momentum=0.9),
}  # fmt: skip
BLOCKS, UPDATES = LlamaArch(128, 4, 8, 8, 900, 50), LlamaArch(256, 3, 4, 2, 700, 90)


def peak_of_a_step(
    arch: LlamaArch, dtype: str, lora: Lora | None, batch: int, seq: int, optimizer: str = "adamw", **adapter: Any
) -> tuple[int, int]:
    """Peak above weights and states that torch's allocator saw, of forward and backward, and trained parameters."""
    from llamalab.measure.device.peak_memory import allocation_peak

    model = hugging_face(arch, "flash").to(TORCH[dtype])
    if lora is not None:
        from peft import LoraConfig, get_peft_model

        names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "gate": "gate_proj", "up": "up_proj",
                 "down": "down_proj"}  # fmt: skip
        targets = [names[one] for one in lora.targets]
        model = get_peft_model(model, LoraConfig(r=lora.rank, target_modules=targets, **adapter))
    tokens_BT = torch.arange(batch * seq).view(batch, seq) % arch.vocab_size
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    update = OPTIMIZERS[optimizer](trained, foreach=False)

    def step() -> None:
        update.zero_grad(set_to_none=True)
        model(input_ids=tokens_BT, labels=tokens_BT, use_cache=False).loss.backward()
        update.step()

    step()
    update.zero_grad(set_to_none=True)
    peak = allocation_peak(step)
    assert peak is not None
    return peak, sum(weight.numel() for weight in trained)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("lora", [None, LORA, Lora(4, ("q", "k", "v", "o"))], ids=["full", "q,v", "attention"])
@pytest.mark.parametrize(
    ("arch", "batch", "seq"),
    [
        (LlamaArch(128, 4, 8, 2, 344, 1000), 2, 128),  # the loss is the largest moment
        (LlamaArch(128, 4, 8, 8, 900, 50), 2, 128),  # the last block
        (LlamaArch(256, 3, 4, 2, 700, 90), 1, 40),  # gradients
    ],
    ids=["loss", "block", "gradients"],
)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # of peft, in transformers
def test_a_step_holds_what_the_allocator_sees(
    arch: LlamaArch, batch: int, seq: int, lora: Lora | None, dtype: str
) -> None:
    measured, trained = peak_of_a_step(arch, dtype, lora, batch, seq)
    step = Tuning(
        arch, seq, batch, method="lora" if lora else "full", lora=lora, fused_optimizer=False,
        precision="fp32" if dtype == "fp32" else "pure", on_cpu=True,
    )  # fmt: skip
    held = tuning_memory(step)
    weights = (2 if dtype == "bf16" else 4) * parameter_count(arch)
    assert trained_parameters(step) == trained
    resident = weights + held.adapter_bytes + held.optimizer_bytes
    assert held.total_bytes == pytest.approx(resident + measured, rel=0.03)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        (BLOCKS, {"lora": Lora(8, ("up", "down"))}),  # nothing before them needs a gradient in the first block
        (BLOCKS, {"lora": Lora(4, ("gate",))}),
        (BLOCKS, {"lora": Lora(8, tuple(TARGETS))}),
        (BLOCKS, {"lora": Lora(8, tuple(TARGETS)), "dora": True}),
        (UPDATES, {"lora": LORA, "dora": True}),
        (UPDATES, {"lora": LORA, "train_embeddings": True}),
        (UPDATES, {"optimizer": "sgd"}),
        (UPDATES, {"optimizer": "sgd-momentum"}),
        (UPDATES, {"optimizer": "adafactor"}),
    ],
    ids=["up, down", "gate", "all", "dora all", "dora q,v", "embeddings", "sgd", "momentum", "adafactor"],
)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_other_methods_and_optimisers_hold_what_the_allocator_sees(
    arch: LlamaArch, changes: dict[str, Any], dtype: str
) -> None:
    lora, optimizer = changes.get("lora"), changes.get("optimizer", "adamw")
    batch, seq = (2, 128) if arch is BLOCKS else (1, 40)
    adapter = {} if lora is None else {
        "use_dora": changes.get("dora", False),
        "modules_to_save": ["embed_tokens", "lm_head"] if "train_embeddings" in changes else None,
    }  # fmt: skip
    measured, trained = peak_of_a_step(arch, dtype, lora, batch, seq, optimizer, **adapter)
    step = Tuning(
        arch, seq, batch, method="lora" if lora else "full", fused_optimizer=False,
        precision="fp32" if dtype == "fp32" else "pure", on_cpu=True,
    )._replace(**changes)  # fmt: skip
    held = tuning_memory(step)
    assert trained_parameters(step) == trained
    resident = held.weight_bytes + held.adapter_bytes + held.optimizer_bytes
    assert held.total_bytes == pytest.approx(resident + measured, rel=0.03)


@pytest.mark.parametrize(("zero", "published_gb"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.88)])
def test_the_table_of_the_zero_paper(zero: int, published_gb: float) -> None:
    """7.5e9 parameters on 64 devices (Rajbhandari et al. 2020, figure 1); here those of 7B, scaled."""
    held = tuning_memory(Tuning(ARCH_7B, 128, zero=zero, data_parallel=64))
    states = held.weight_bytes + held.gradient_bytes + held.master_bytes + held.optimizer_bytes
    assert states / parameter_count(ARCH_7B) * 7.5 == pytest.approx(published_gb, rel=0.01)


def test_gradients_that_are_shared_out_are_not_held_whole() -> None:
    one, two = (tuning_memory(Tuning(ARCH_7B, 128, zero=zero, data_parallel=64)) for zero in (1, 2))
    assert one.total_bytes - two.total_bytes == pytest.approx(one.gradient_bytes * 63 / 64, rel=1e-6)


def test_double_quantisation_saves_what_the_paper_says() -> None:
    """0.37 bits a parameter, about 3 GB of a 65B model (Dettmers et al. 2023, section 3)."""
    assert pytest.approx(0.373, abs=0.001) == NF4_BITS - NF4_DOUBLE_BITS
    assert pytest.approx(0.127, abs=0.001) == NF4_DOUBLE_BITS - 4
    arch = PRESETS["llama1-65b"].arch
    shape = {"seq": 512, "method": "qlora", "lora": Lora(64, ("q", "k", "v", "o", "gate", "up", "down"))}
    once, twice = (tuning_memory(Tuning(arch, double_quant=double, **shape)) for double in (False, True))
    assert (once.weight_bytes - twice.weight_bytes) / 1e9 == pytest.approx(3.0, abs=0.1)
    full = tuning_memory(Tuning(arch, 512))
    assert sum(full[:5]) > 780e9  # "more than 780 GB" in full, "less than 48 GB" as QLoRA
    assert tuning_memory(Tuning(arch, precision="mixed", recompute="full", **shape)).total_bytes < 48e9


@pytest.mark.parametrize(("model", "hours"), [("7b", 184_320), ("13b", 368_640), ("70b", 1_720_320)])
def test_llama_2_took_the_hours_of_its_flops(model: str, hours: int) -> None:
    """2e12 tokens of 4,096 on A100s (Touvron et al. 2023, table 2): at 30 to 60 % of 312 TFLOP/s."""
    work = tuning_work(Tuning(PRESETS[model].arch, 4096))
    peak = find_hardware("a100-80gb-sxm").peak_flops_per_s["bf16"]
    utilisation = work.flops / work.tokens * 2e12 / (hours * 3600 * peak)
    assert 0.30 < utilisation < 0.60


def test_what_is_frozen_needs_no_gradient_of_its_own() -> None:
    full, lora = (
        tuning_work(Tuning(ARCH_7B, 512, method=method, lora=adapter, attention="naive")).flops
        for method, adapter in (("full", None), ("lora", LORA))
    )
    assert lora * 3 == full * 2


@pytest.mark.parametrize(
    ("change", "smaller"),
    [
        ({"optimizer": "adamw-8bit"}, "optimizer_bytes"),
        ({"optimizer": "adafactor"}, "optimizer_bytes"),
        ({"precision": "pure"}, "master_bytes"),
        ({"recompute": "full"}, "activation_bytes"),
        ({"tensor_parallel": 8}, "weight_bytes"),
        ({"pipeline_parallel": 4}, "weight_bytes"),
        ({"offload": "optimizer"}, "optimizer_bytes"),
        ({"implementation": "fused"}, "activation_bytes"),
    ],
)
def test_a_change_saves_where_it_should(change: dict[str, object], smaller: str) -> None:
    step = Tuning(ARCH_70B, 2048, accumulate=2)
    plain, changed = tuning_memory(step), tuning_memory(step._replace(**change))
    assert getattr(changed, smaller) < getattr(plain, smaller)
    assert changed.total_bytes < plain.total_bytes


@pytest.mark.parametrize(
    "wrong",
    [
        {"zero": 4},
        {"documents": (9, 9)},
        {"precision": "masters", "method": "lora", "lora": LORA},
        {"lora": LORA},
        {"method": "lora"},
        {"pipeline_parallel": 33},
        {"seq": 0},
    ],
)
def test_what_is_no_step_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        tuning_memory(Tuning(ARCH_7B, 16)._replace(**wrong))


@pytest.mark.parametrize("wrong", [{"method": "dpo"}, {"optimizer": "lion"}, {"precision": "fp8"}])
def test_unknown_words_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UnknownNameError):
        tuning_memory(Tuning(ARCH_7B, 16)._replace(**wrong))
