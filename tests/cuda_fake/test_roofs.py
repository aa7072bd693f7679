"""Roofs of the simulated GPU beside what test_devices.py holds of each device."""

import pytest
import torch

from llamalab.measure.roofs.again import finders
from tests.cuda_fake.gpu import Gpu
from tests.report.sample import sample_record

pytestmark = pytest.mark.fake_cuda
PLACE = torch.device("cuda", 0)


def test_roofs_that_a_pass_exceeded_are_looked_for_with_as_many_tokens_as_fill_the_device(
    gpu: Gpu, few_rounds: None
) -> None:
    record = sample_record("7b")  # of a prompt shorter than that
    found = finders(record, PLACE)["attention"]()
    assert "4096 tokens" in (found.shape or "")
