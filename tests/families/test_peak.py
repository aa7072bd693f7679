"""What a pass of each family holds at its peak, predicted to the byte: both widths, whole prompts, chunks and steps."""

import pytest
import torch

from llamalab.analytic.activations import memory_of, peak_activation_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.measure.device.peak_memory import allocation_peak
from llamalab.measure.profile.scratch import ProbedScratch
from llamalab.model import StaticKVCache, Transformer
from tests.model.families import FAMILIES

BATCH = 2
KINDS = [
    name for name in FAMILIES if name not in ("llama-3.2", "linear", "dynamic") and "yarn" not in name
]  # of a shape
PASSES = {"prompt": (300, 300), "chunk across a window": (60, 200), "step": (1, 150)}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["sdpa", "naive", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
def test_peak_is_what_the_allocator_hands_out(kind: str, attention: str, dtype: str) -> None:
    arch = FAMILIES[kind]
    model = Transformer(arch, attention=attention, dtype=dtype)
    way = memory_of(attention, "naive" if attention == "naive" else "flash")
    for name, (new, context) in PASSES.items():
        tokens_BT = torch.zeros(BATCH, context, dtype=torch.long)
        caches = [StaticKVCache(arch, batch=BATCH, max_tokens=context, dtype=dtype) for _ in range(3)]

        def run(caches: list[StaticKVCache] = caches, tokens_BT: torch.Tensor = tokens_BT[:, -new:]) -> torch.Tensor:
            return model(tokens_BT, cache=caches.pop(), logits="last")

        with torch.inference_mode():
            for cache in caches:
                if new < context:
                    model(tokens_BT[:, :-new], cache=cache, logits="last")
            run()
            measured = allocation_peak(run)
        shape = PassShape(new_tokens=new, context_tokens=context, batch=BATCH, dtype=dtype, attention=way)
        predicted = peak_activation_bytes(arch, shape, scratch=ProbedScratch())
        assert measured is not None
        assert abs(measured - predicted.bytes) <= 8, (name, predicted.step)  # scalars
