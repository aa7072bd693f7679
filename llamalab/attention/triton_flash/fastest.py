"""Variants of one kernel call: all are tried once per kind of call, and the fastest correct one is remembered."""

from collections.abc import Callable, Hashable, Mapping

import torch

from llamalab.attention.triton_flash.launch import Flash

# Forms round the pattern at the same place but add its products in another order: a difference of this much for values
# of order 1 in bf16. A wrong key or mask differs many times as much.
_TOLERANCE = 2e-2


class Fastest:
    """The forms that were the fastest, by kind of call. `seconds` times a call, by default Triton's own benchmark."""

    def __init__(self, seconds: Callable[[Callable[[], object]], float] | None = None) -> None:
        self._seconds = seconds or _benchmarked
        self._known: dict[Hashable, str] = {}

    def of(self, kind: Hashable, forms: Mapping[str, Callable[[], Flash]]) -> str:
        """The name of the form to take; the first is the one that the others must equal.

        While a graph is captured nothing can be timed: it is the first one, unless the kind is known.
        """
        first = next(iter(forms))
        if kind not in self._known:
            if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
                return first
            expected = forms[first]()
            right = {name: call for name, call in forms.items() if name == first or _equals(call, expected)}
            self._known[kind] = min(right, key=lambda name: self._seconds(right[name]))
        return self._known[kind]


def _equals(call: Callable[[], Flash], expected: Flash) -> bool:
    try:
        found = call()
    except Exception:  # a variant that the compiler or driver refuses is not available on this device
        return False
    scale = float(expected.z_BHTE.abs().amax()) or 1.0
    return all(
        torch.allclose(got.float(), true.float(), rtol=0, atol=_TOLERANCE * max(1.0, scale))
        for got, true in zip(found, expected, strict=True)
    )


def _benchmarked(call: Callable[[], object]) -> float:
    from triton.testing import do_bench

    return float(do_bench(call, warmup=10, rep=40, return_mode="median"))
