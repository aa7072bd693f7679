"""Layouts of codes: each comes back, and no two rows or neighbours change places."""

import pytest
import torch

from llamalab.streamed.layout import (
    from_blocks,
    from_bytes,
    in_blocks,
    in_bytes,
    out_features,
    scales_from_blocks,
    scales_in_blocks,
)


def test_nibbles_come_back() -> None:
    codes = torch.randint(-8, 8, (5, 96), dtype=torch.int8)
    assert torch.equal(from_bytes(in_bytes(codes)), codes)


@pytest.mark.parametrize("bits", [8, 4])
def test_blocks_come_back(bits: int) -> None:
    most = 1 << (bits - 1)
    codes = torch.randint(-most, most, (48, 96), dtype=torch.int8)
    laid = in_blocks(codes, bits)
    assert laid.numel() * 8 == codes.numel() * bits
    assert out_features(laid) == 48
    assert torch.equal(from_blocks(laid), codes)


def test_a_block_has_four_neighbours_of_each_of_16_rows() -> None:
    codes = (torch.arange(16)[:, None] * 8 + torch.arange(32) % 8).to(torch.int8)
    bytes_of = in_blocks(codes, 8)[0, 1].view(torch.uint8).view(16, 4).int() - 128
    assert torch.equal(bytes_of, codes[:, 4:8].int())


def test_scales_come_back() -> None:
    scales = torch.rand(32, 5)
    laid = scales_in_blocks(scales)
    assert laid.shape == (2, 5, 16)
    assert torch.equal(laid[1, 3], scales[16:, 3])
    assert torch.equal(scales_from_blocks(laid), scales)
