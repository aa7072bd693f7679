"""The cost of taps: the same pass without one, with tensors kept, copied, and reduced: see experiments.tap_cost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from experiments.tap_cost import FOUR
from llamalab import Transformer
from llamalab.instrument.reduce import Reduce
from llamalab.instrument.taps import Capture
from tests.benchmarks.conftest import ARCH

Benchmark = Callable[..., torch.Tensor]
TAPS: dict[str, Callable[[Transformer], Any]] = {
    "unused": lambda model: None,
    "captured": lambda model: Capture(*FOUR, n_layers=ARCH.n_layers),
    "copied": lambda model: Capture(*FOUR, copy=True, n_layers=ARCH.n_layers),
    "reduced": lambda model: Reduce(*FOUR, kind="rms", model=model),
}


@pytest.mark.parametrize("new_tokens", [1, 64])
@pytest.mark.parametrize("kind", TAPS)
def test_tap(benchmark: Benchmark, model: Transformer, kind: str, new_tokens: int) -> None:
    tokens_BT, tap = torch.arange(new_tokens)[None], TAPS[kind](model)
    logits_BTV = benchmark(model, tokens_BT, tap=tap)
    torch.testing.assert_close(logits_BTV, model(tokens_BT), rtol=0, atol=0)
    seen = len(tap.tensors if isinstance(tap, Capture) else tap or ())
    assert seen == (0 if kind == "unused" else len(FOUR) * ARCH.n_layers)
