"""The rate of each class of a training step's operations: its modules, run alone, forward and backward.

A roof is the rate of the best shape. A small model's products, heads of 8 and short rows stay far below it, and the
backward pass has kernels of its own, so that every class is timed in the shapes of the trained model: one block of it,
embedding and head, a few milliseconds a class. B windows, T tokens of a window.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llamalab.analytic.op import Op
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import Rates, moved_bytes
from llamalab.analytic.training_time import TrainingRates, backward, training_ops, update_traffic_bytes
from llamalab.arch import LlamaArch
from llamalab.errors import UnavailableError
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Plan, time_one, time_variants
from llamalab.model import build
from llamalab.model.rope import rotate, rotations
from llamalab.train.recipe import Recipe
from llamalab.train.token_stream import TokenStream
from llamalab.train.trainer import Trainer, TrainingPlan, next_token_loss

_PLAN = Plan(0.15, 3, 20)
Forward = Callable[[], Sequence[Tensor]]


def training_rates(machine: Machine, arch: LlamaArch, shape: PassShape) -> TrainingRates:
    """The rates of every class that a step of this model has. Raises UnavailableError for a model with experts."""
    batch, seq = shape.batch, shape.new_tokens
    if arch.experts is not None:
        raise UnavailableError("a step's time must be that of a model without experts; it is not predicted with them")
    one = arch.replace(n_layers=1)
    model = build(one, dtype=machine.dtype, device=machine.device)
    probes = _probes(machine, model, batch, seq)
    ops = training_ops(one, shape)
    forward_s, backward_s = {}, {}
    for name, (forward, inputs) in probes.items():
        forward_s[name], backward_s[name] = _seconds(machine, forward, inputs)
    return TrainingRates(
        _rates(ops, forward_s),
        _rates(tuple(map(backward, ops)), backward_s),
        update_traffic_bytes(one, machine.dtype) / _update_s(machine, model, batch, seq),
    )


def _rates(ops: Sequence[Op], seconds: dict[str, float]) -> dict[str, Rates]:
    """Amounts of the rows that ran over their times: FLOPs where arithmetic limits, else bytes."""
    made = {}
    for name, time_s in seconds.items():
        rows = [op for op in ops if op.rate_class == name or (name in ("gemm", "attention") and op.kind == name)]
        if name == "gemm":
            made[name] = Rates(sum(op.count * op.flops_causal for op in rows) / time_s, inf)
        elif name == "attention":
            made[name] = Rates(rows[0].flops_causal / time_s, inf)
        else:
            made[name] = Rates(None, moved_bytes(rows[0]) / time_s)
    return made


def _probes(machine: Machine, model: Any, batch: int, seq: int) -> dict[str, tuple[Forward, list[Tensor]]]:
    """By rate class: a call that makes outputs, and the tensors whose gradients are computed."""
    arch, block = model.arch, model.layers[0]
    attention, mlp = block.attention, block.feed_forward

    def wide(*shape: int) -> Tensor:
        return machine.random(batch, *shape).requires_grad_()

    x_BTD, h_BTD = wide(seq, arch.dim), wide(seq, arch.dim)
    q_BTHE, k_BTKE, v_BTKE = (wide(seq, heads, arch.head_dim) for heads in (arch.n_heads, *[arch.n_kv_heads] * 2))
    q_BHTE, k_BKTE = wide(arch.n_heads, seq, arch.head_dim), wide(arch.n_kv_heads, seq, arch.head_dim)
    gate_BTF, up_BTF = wide(seq, arch.ffn_dim), wide(seq, arch.ffn_dim)
    tokens_BT = torch.randint(arch.vocab_size, (batch, seq), device=machine.device)
    turn_TP, table = rotations(0, seq, arch, machine.device), model.tok_embeddings.weight
    products = [  # matrices with a common input share its gradient
        (x_BTD, [attention.wq, attention.wk, attention.wv]),
        (wide(seq, arch.query_dim), [attention.wo]),
        (h_BTD, [mlp.w1, mlp.w3]),
        (gate_BTF, [mlp.w2]),
        (wide(seq, arch.dim), [model.output]),
    ]
    logits_BTV = wide(seq, arch.vocab_size)
    weights = [weight for _, modules in products for module in modules for weight in module.parameters()]
    weights += [table] if arch.tied_embeddings else []

    def attended() -> list[Tensor]:
        # Laid out as in the model: q and k contiguous from RoPE, v and z as transposed views.
        z_BHTE = attention.backend.attend(
            q_BHTE, k_BKTE, v_BTKE.transpose(1, 2), query_offset=0, window=attention.window
        )
        return [z_BHTE.transpose(1, 2).flatten(2)]

    def embedded() -> list[Tensor]:
        # A tied embedding has a second gradient, which is added to the first.
        return [model.tok_embeddings(tokens_BT), *([table.view_as(table)] if arch.tied_embeddings else [])]

    return {
        "gemm": (
            lambda: [module(given) for given, modules in products for module in modules],
            [*(given for given, _ in products), *dict.fromkeys(weights)],
        ),
        "attention": (attended, [q_BHTE, k_BKTE, v_BTKE]),
        "gather": (embedded, [table]),
        "elementwise_norm": (lambda: [block.attention_norm(x_BTD)], [x_BTD, block.attention_norm.weight]),
        "elementwise_rope": (
            lambda: [rotate(one.transpose(1, 2), turn_TP) for one in (q_BTHE, k_BTKE)],
            [q_BTHE, k_BTKE],
        ),
        "elementwise_swiglu": (lambda: [functional.silu(gate_BTF) * up_BTF], [gate_BTF, up_BTF]),
        # The residual path has a gradient of its own, which is added to that of the branch.
        "elementwise": (lambda: [x_BTD + h_BTD, x_BTD.view_as(x_BTD)], [x_BTD, h_BTD]),
        "elementwise_loss": (lambda: [next_token_loss(logits_BTV.float(), tokens_BT)], [logits_BTV]),
    }


def _seconds(machine: Machine, forward: Forward, inputs: list[Tensor]) -> tuple[float, float]:
    """Seconds of a call and of its gradients."""
    made = forward()
    ones = [torch.ones_like(one) for one in made]
    samples = time_variants(
        {"forward": forward, "backward": partial(torch.autograd.grad, made, inputs, ones, retain_graph=True)},
        machine.clock,
        machine.within(_PLAN),
    )
    return median(samples["forward"]), median(samples["backward"])


def _update_s(machine: Machine, model: nn.Module, batch: int, seq: int) -> float:
    """Seconds of the update after the gradients: masters, clipping, AdamW, and the copy back."""
    tokens_N = torch.zeros(seq + 2, dtype=torch.int64, device=machine.device)
    plan = TrainingPlan(steps=1 << 20, batch=1, seq=seq)
    trainer = Trainer(model, TokenStream(tokens_N, tokens_N), plan, Recipe(1e-6, warmup_steps=0))
    next_token_loss(model(tokens_N[None, :-2]), tokens_N[None, 1:-1]).backward()  # type: ignore[no-untyped-call]
    gradients = [(weight, weight.grad) for weight in model.parameters()]

    def give_back() -> None:
        for weight, gradient in gradients:
            weight.grad = gradient

    def update() -> None:
        trainer.masters.collect()
        trainer.update()

    return median(time_one(update, machine.clock, machine.within(_PLAN), before=give_back))
