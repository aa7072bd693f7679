"""Fused decode steps beside plain ones, run as a program in a process that interprets Triton's kernels.

The last line of its output is a JSON object: case -> "ok" or what was wrong.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch

from llamalab.arch import LlamaArch
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.fused.step import FusedStep
from llamalab.model.quantised.weights import quantise_weights
from llamalab.text.decode_loop import DecodeLoop
from tests.model.families import FAMILIES
from tests.model.shrunk import ARCHES, small_model, some_tokens
from tests.verdicts import print_verdicts

PAST, STEPS, ROOM = 8, 3, 12  # windows of 2, 7, 9 and 11 keys turn before, while and after the steps are made
# Logits of order 3 and two layers, rounded at the same places: what sums in another order leave, times ten.
TOLERANCES = {"fp32": 3e-5, "fp16": 0.02, "bf16": 0.15}


def same_as_plain(arch: LlamaArch, dtype: str = "fp32", batch: int = 2, weight_dtype: str | None = None) -> None:
    model = small_model(arch.replace(n_layers=min(arch.n_layers, 2 if not arch.full_layers else 3)), dtype=dtype)
    if weight_dtype is not None:
        quantise_weights(model, weight_dtype)
    compare(model, dtype, batch)


@torch.inference_mode()
def compare(model: Transformer, dtype: str, batch: int) -> None:
    """Logits and caches of some steps, the same tokens in both."""
    tokens_BT = some_tokens(batch, PAST + STEPS)
    plain, own = (StaticKVCache(model.arch, batch=batch, max_tokens=ROOM, dtype=dtype) for _ in range(2))
    for cache in (plain, own):
        model(tokens_BT[:, :PAST], cache=cache)
    step = FusedStep(model, own)
    for at in range(PAST, PAST + STEPS):
        token_B1 = tokens_BT[:, at : at + 1]
        expected = model(token_B1, cache=plain)
        step.position_1.fill_(at)
        torch.testing.assert_close(step(token_B1), expected, rtol=0, atol=TOLERANCES[dtype])
        own.advance(1)
    for got, true in zip((*own.keys, *own.values), (*plain.keys, *plain.values), strict=True):
        torch.testing.assert_close(got.float(), true.float(), rtol=2**-6, atol=TOLERANCES[dtype] / 2)
    assert step._arrived_G.tolist() == [0] * step._arrived_G.numel()


def split_keys() -> None:
    """A cache so long that its keys are split, of which few are filled."""
    arch = ARCHES["MQA"].replace(n_layers=1)
    model, tokens_BT = small_model(arch), some_tokens(1, 70)
    with torch.inference_mode():
        plain, own = (StaticKVCache(arch, batch=1, max_tokens=600, dtype="fp32") for _ in range(2))
        for cache in (plain, own):
            model(tokens_BT[:, :69], cache=cache)
        step = FusedStep(model, own)
        step.position_1.fill_(69)
        torch.testing.assert_close(
            step(tokens_BT[:, 69:]), model(tokens_BT[:, 69:], cache=plain), rtol=0, atol=TOLERANCES["fp32"]
        )


def loops_agree() -> None:
    """Greedy tokens of the loop on fused steps are those of the loop on plain ones, also the second time."""
    model, prompt_BT = small_model(ARCHES["GQA"].replace(n_layers=1)), some_tokens(2, 3)
    loops = [DecodeLoop(model, batch=2, max_tokens=8, fused=fused) for fused in (True, False)]
    for _ in range(2):
        made = [torch.cat((loop.prefill(prompt_BT), loop.steps(4)), dim=1) for loop in loops]
        assert torch.equal(*made)
        assert [loop.cache.length for loop in loops] == [7, 7]


CASES: dict[str, Callable[[], None]] = {
    **{name: partial(same_as_plain, arch) for name, arch in (ARCHES | FAMILIES).items()},
    **{f"{name}, {dtype}": partial(same_as_plain, arch, dtype)
       for dtype in ("bf16", "fp16")
       for name, arch in (("GQA", ARCHES["GQA"]), ("qwen3", FAMILIES["qwen3"]))},
    "one sequence": partial(same_as_plain, ARCHES["MHA"], batch=1),
    "weights in int8": partial(same_as_plain, ARCHES["GQA"], weight_dtype="int8"),
    "split keys": split_keys,
    "loops agree": loops_agree,
}  # fmt: skip


if __name__ == "__main__":
    print_verdicts(CASES, sys.argv[1:])
