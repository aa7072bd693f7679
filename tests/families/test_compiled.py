"""Every family compiles whole, without a break of the graph, and computes what the plain model computes.

Inductor's own code is checked on models with all traits at once (tests/model/test_compile.py); here torch's tracer and
its functional graph are run, which is where a family's branches could break.
"""

from collections.abc import Iterator

import pytest
import torch

from llamalab.model import StaticKVCache
from tests.model.families import FAMILIES
from tests.model.shrunk import small_model, some_tokens

SIZES = (7, 1, 15, 1)  # past windows, and past the context that RoPE was first made for


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", FAMILIES)
def test_compiled_chunks_and_steps_are_the_plain_ones(kind: str) -> None:
    mixed = bool(FAMILIES[kind].full_layers)  # windows in one layer and none in another
    model = small_model(FAMILIES[kind].replace(n_layers=2 if mixed else 1, full_layers=(0,) if mixed else ()))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    tokens_BT, logits = some_tokens(2, sum(SIZES)), []
    for one in (model, compiled):
        cache = StaticKVCache(model.arch, batch=2, max_tokens=sum(SIZES), dtype="fp32")
        logits.append(torch.cat([one(part, cache=cache) for part in tokens_BT.split(SIZES, dim=1)], dim=1))
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-5)
