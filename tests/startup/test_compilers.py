"""The mark for torch.compile is torch's own."""

import torch

from llamalab.startup.compilers import constant_in_graphs


def test_the_mark_is_that_of_torch() -> None:
    assert vars(constant_in_graphs(lambda: 1)) == vars(torch.compiler.assume_constant_result(lambda: 2)) != {}
