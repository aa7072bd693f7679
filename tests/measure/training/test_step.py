"""What a training step should need, against one that runs: memory to the byte, every class of operations timed."""

import pytest
import torch

from llamalab import LlamaArch, build
from llamalab.analytic.fine_tuning import tuning_memory
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import known_rates
from llamalab.analytic.training_time import backward, step_time, training_ops
from llamalab.errors import UnavailableError
from llamalab.measure.device.machine import clock_for
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Plan
from llamalab.measure.training import rates, step
from llamalab.presets import PRESETS
from llamalab.train.recipe import Recipe
from llamalab.train.token_stream import TokenStream
from llamalab.train.trainer import Trainer, TrainingPlan

CPU = torch.device("cpu")
ARCH = LlamaArch(64, 3, 4, 2, 160, 512)
SHAPE = PassShape(16, batch=2, dtype="fp32")
TIED = ARCH.replace(tied_embeddings=True)


@pytest.mark.parametrize("arch", [ARCH, TIED, TIED.replace(vocab_size=8192)], ids=["untied", "tied", "a large table"])
@pytest.mark.parametrize(("dtype", "accumulate"), [("fp32", 1), ("fp32", 3), ("bf16", 1), ("bf16", 2)])
def test_memory_is_what_a_step_holds(arch: LlamaArch, dtype: str, accumulate: int) -> None:
    plan = TrainingPlan(9, batch=2, seq=32, accumulate=accumulate)
    ids_N = torch.arange(400) % 512
    trainer = Trainer(build(arch, dtype=dtype), TokenStream(ids_N, ids_N), plan, Recipe(1e-3, warmup_steps=1))
    trainer.step()
    before = {name: one.clone() for name, one in trainer.model.state_dict().items()}
    held = step.held_bytes(trainer, CPU)
    said = tuning_memory(step.tuning(arch, plan, dtype)).total_bytes
    assert held is not None
    assert said == pytest.approx(held, rel=0.03)  # what a kernel asks for beside its output depends on the processor
    assert all(torch.equal(before[name], one) for name, one in trainer.model.state_dict().items())  # no step was taken


@pytest.mark.parametrize("arch", [ARCH, TIED], ids=["untied", "tied"])
def test_every_operation_of_a_step_has_rates_of_its_own(arch: LlamaArch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_PLAN", Plan(0.0, 1, 1, warmup=1, warmup_s=0.0))
    found = rates.training_rates(Machine(CPU, clock_for(CPU), "fp32"), arch, SHAPE)
    for op in training_ops(arch, SHAPE):
        for own, classes in ((op, found.forward), (backward(op), found.backward)):
            assert known_rates(own, classes) is not None, op.name
    time = step_time(arch, found, SHAPE)
    assert min(time) > 0
    twice = step_time(arch, found, SHAPE, accumulate=2)
    assert twice.forward_s == pytest.approx(2 * time.forward_s)
    assert twice.update_s == pytest.approx(time.update_s)


def test_gradients_of_a_tied_table_are_asked_for() -> None:
    model = build(TIED.replace(n_layers=1), dtype="fp32")
    _, inputs = rates._probes(Machine(CPU, clock_for(CPU), "fp32"), model, 1, 8)["gemm"]
    assert any(one is model.tok_embeddings.weight for one in inputs)


def test_a_model_with_experts_is_not_predicted() -> None:
    arch = next(preset.arch for preset in PRESETS.values() if preset.arch.experts)
    with pytest.raises(UnavailableError, match="without experts"):
        rates.training_rates(Machine(CPU, clock_for(CPU), "fp32"), arch, SHAPE)
