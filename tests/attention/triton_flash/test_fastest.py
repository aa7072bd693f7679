"""Forms of a call: the fastest is taken, if it is right, and it is looked for once."""

from collections.abc import Callable

import pytest
import torch

from llamalab.attention.triton_flash.fastest import Fastest
from llamalab.attention.triton_flash.launch import Flash

Z_BHTE, LSE_BHT = torch.linspace(-3, 3, 64).view(1, 2, 4, 8), torch.zeros(1, 2, 4)


def of(change: float = 0.0, lse: float = 0.0) -> Callable[[], Flash]:
    return lambda: Flash(Z_BHTE + change, LSE_BHT + lse)


def refused() -> Flash:
    raise RuntimeError("out of resource: shared memory")


def test_the_fastest_is_looked_for_once_for_each_kind() -> None:
    forms = {"plain": of(), "described": of(1e-3)}
    seconds = {id(forms["plain"]): 2.0, id(forms["described"]): 1.0}
    timed: list[int] = []
    fastest = Fastest(lambda call: timed.append(id(call)) or seconds[id(call)])  # type: ignore[func-returns-value]
    assert [fastest.of("a", forms) for _ in range(3)] == ["described"] * 3
    assert len(timed) == 2
    seconds[id(forms["plain"])] = 0.5
    assert fastest.of("b", forms) == "plain"
    assert fastest.of("a", forms) == "described"


@pytest.mark.parametrize("wrong", [of(0.5), of(lse=0.3), of(float("nan")), refused])
def test_what_is_wrong_or_refused_is_never_the_fastest(wrong: Callable[[], Flash]) -> None:
    seconds = {id(wrong): 0.0}
    assert Fastest(lambda call: seconds.get(id(call), 1.0)).of("a", {"plain": of(), "other": wrong}) == "plain"


def test_nothing_is_timed_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    forms = {"plain": of(), "described": of()}
    fastest = Fastest(lambda call: 1.0 if call is forms["plain"] else 0.5)
    assert fastest.of("a", forms) == "plain"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert fastest.of("a", forms) == "described"
