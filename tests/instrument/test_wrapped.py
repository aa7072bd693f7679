"""Taps on models that were wrapped, copied, moved, shared by threads or checkpointed: the real one's and no other's."""

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from llamalab.errors import InputError
from llamalab.instrument.bind import unwrapped
from llamalab.instrument.edits import ablate, scale
from llamalab.instrument.taps import capture, edit
from llamalab.model.transformer import TransformerBlock
from tests.model.hf_reference import hf_model
from tests.model.shrunk import ARCHES, small_model, some_tokens

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
IDS = some_tokens(2, 5)
KINDS = ["llamalab", "transformers"]


def model_of(kind: str) -> Any:
    model = small_model(ARCHES["GQA"])
    return model if kind == "llamalab" else hf_model(model)


def layers_of(model: Any) -> nn.ModuleList:
    layers: nn.ModuleList = model.layers if hasattr(model, "arch") else model.model.layers
    return layers


def logits(output: Any) -> torch.Tensor:
    found: torch.Tensor = getattr(output, "logits", output)
    return found


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("kind", KINDS)
def test_copies_made_inside_a_block_have_no_tap(kind: str, way: Any) -> None:
    model = model_of(kind)
    with torch.no_grad(), edit(model, "logits", scale(0.0)), capture(model, "*") as got:
        twin = way(model)
        got.clear()
        assert logits(twin(IDS)).abs().max() > 0
        assert not got
        with capture(twin, "*") as own:
            twin(IDS)
        assert not got
        assert logits(model(IDS)).abs().max() == 0
    assert len(own) == 43
    assert all(torch.equal(own[name], tensor) for name, tensor in got.items() if name != "logits")
    assert logits(model(IDS)).abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_moved_inside_a_block_keeps_its_tap(kind: str) -> None:
    model = model_of(kind)
    with torch.no_grad(), capture(model, "final_norm") as got:
        model.to(torch.float64)(IDS)
    assert got["final_norm"].dtype == torch.float64
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_another_thread_is_refused_while_one_has_taps_on(kind: str) -> None:
    model, told = model_of(kind), []

    def other() -> None:
        try:
            with capture(model, "embed"):
                told.append("let in")
        except InputError as error:
            told.append(str(error))

    def run() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    with torch.no_grad(), capture(model, "embed") as got:
        run()
        model(IDS)
    assert len(got) == 1
    run()
    assert told[0].startswith("a model must be tapped by one thread at a time")
    assert told[1:] == ["let in"]


@pytest.mark.parametrize("wrap", ["DDP", "FSDP1", "FSDP2", "torch.compile", "compiled DDP"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapped_model_is_walked_to_the_real_one(kind: str, wrap: str, one_process: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    real = model_of(kind)
    with torch.no_grad(), capture(real, "*") as expected:
        real(IDS)
    model: Any = real
    if wrap.endswith("DDP"):
        model = nn.parallel.DistributedDataParallel(real)
    elif wrap == "FSDP1":
        policy = ModuleWrapPolicy({type(layers_of(real)[0])})
        model = FullyShardedDataParallel(
            real, device_id=torch.device("cpu"), auto_wrap_policy=policy, use_orig_params=True
        )
    elif wrap == "FSDP2":
        mesh = init_device_mesh("cpu", (1,))
        for layer in layers_of(real):
            fully_shard(layer, mesh=mesh)
        fully_shard(real, mesh=mesh)
    if "compile" in wrap:
        model = torch.compile(model, backend="eager")
        logits(model(IDS))
    assert unwrapped(model) is real
    with torch.no_grad(), capture(model, "*") as got:
        before = logits(model(IDS))
    with torch.no_grad(), edit(model, "layers.1.attention.z", ablate(3)):
        assert (logits(model(IDS)) - before).abs().max() > 1e-3
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_adapters_of_peft_are_part_of_the_model() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["q_proj", "down_proj", "lm_head"], r=2, init_lora_weights=False)
    model = peft.get_peft_model(model_of("transformers"), config)
    merged = copy.deepcopy(model).merge_and_unload()
    with torch.no_grad(), capture(model, "*") as got, capture(merged, "*") as expected:
        model(IDS)
        merged(IDS)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
    assert len(got) == 43


CHECKPOINTED = [("llamalab", False), ("transformers", False), ("transformers", True)]


def checkpointed(kind: str, reentrant: bool) -> tuple[Any, Any]:
    """A model whose layers run again in the backward pass, and its twin whose layers do not."""
    plain = model_of(kind).train()
    model = copy.deepcopy(plain)
    if kind == "llamalab":
        apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, TransformerBlock))
    else:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    return model, plain


def same_gradients(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(mine.grad, theirs.grad, atol=1e-5) for mine, theirs in pairs)  # type: ignore[arg-type]


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(("kind", "reentrant"), CHECKPOINTED)
def test_what_checkpointing_runs_again_is_captured_once(kind: str, reentrant: bool, inside: bool) -> None:
    """Tensors are those of the forward pass, statistics count a pass once, gradients are what they were."""
    model, plain = checkpointed(kind, reentrant)
    logits(plain(IDS)).logsumexp(-1).sum().backward()
    with (
        capture(model, "*") as got,
        capture(model, "*.pattern", tokens=[0, -1], heads=[2]) as rows,
        capture(model, "*", reduce="absmax") as most,
    ):
        loss = logits(model(IDS)).logsumexp(-1).sum()
        kept = {name: id(tensor) for name, tensor in (got | rows).items()}
        counts = most.counts.clone()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    assert same_gradients(model, plain)
    assert {name: id(tensor) for name, tensor in (got | rows).items()} == kept
    assert torch.equal(most.counts, counts)


@pytest.mark.parametrize("point", ["attention.z", "attention.q", "feed_forward.gate", "resid_post"])
@pytest.mark.parametrize(("kind", "reentrant"), CHECKPOINTED)
def test_an_edit_is_made_again_in_the_backward_pass(kind: str, reentrant: bool, point: str) -> None:
    model, plain = checkpointed(kind, reentrant)
    for one in (model, plain):
        with edit(one, f"layers.0.{point}", scale(0.5)):
            logits(one(IDS)).logsumexp(-1).sum().backward()
    assert same_gradients(model, plain)


@pytest.mark.parametrize(("kind", "reentrant"), CHECKPOINTED)
def test_an_edit_that_is_gone_in_the_backward_pass_is_right_or_refused(kind: str, reentrant: bool) -> None:
    model, plain = checkpointed(kind, reentrant)
    losses = []
    for one in (model, plain):
        with edit(one, "layers.0.attention.z", scale(0.5)):
            losses.append(logits(one(IDS)).logsumexp(-1).sum())
    losses[1].backward()
    if kind == "transformers":
        with pytest.raises(InputError, match="must run inside the block that edits it"):
            losses[0].backward()
    else:  # the tap is an argument of the layer, and comes back with it
        losses[0].backward()
        assert same_gradients(model, plain)
