"""The shape of a pass: what is not said follows from what is."""

import pytest

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.errors import InputError
from llamalab.presets import PRESETS

ARCH = PRESETS["tiny"].arch


def test_what_is_not_said_follows_from_what_is() -> None:
    said = PassShape(new_tokens=7, context_tokens=7, dtype="fp16", kv_dtype="fp16", weight_dtype="fp16")
    short = PassShape(new_tokens=7, dtype="fp16")
    assert (short.context, short.kv_storage, short.weight_storage) == (7, "fp16", "fp16")
    assert forward_ops(ARCH, short) == forward_ops(ARCH, said)
    assert peak_activation_bytes(ARCH, short) == peak_activation_bytes(ARCH, said)


def test_a_ragged_batch_has_operations_but_no_one_context() -> None:
    shape = PassShape(new_tokens=1, context_tokens=[9, 4], batch=2)
    assert forward_ops(ARCH, shape) == forward_ops(ARCH, shape._replace(context_tokens=(9, 4), batch=1))
    with pytest.raises(InputError, match="context_tokens must be a whole number"):
        peak_activation_bytes(ARCH, shape)


def test_shapes_are_equal_and_hashed_by_what_they_say() -> None:
    assert {PassShape(new_tokens=3): 1}[PassShape(new_tokens=3, batch=1)] == 1
