"""Zero padding at the bottom and right."""

from __future__ import annotations

import torch

from attnzoo.backbones.common.padding import pad_bottom_right, pad_to_multiple


def test_pad_bottom_right():
    x = torch.randn(2, 3, 4, 5)
    padded = pad_bottom_right(x, 5, 6)
    assert padded.shape == (2, 5, 6, 5)
    assert torch.equal(padded[:, :3, :4], x)
    assert not padded[:, 3:].any()
    assert not padded[:, :, 4:].any()
    assert pad_bottom_right(x, 2, 4) is x


def test_pad_to_multiple():
    x = torch.randn(2, 5, 3, 8)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (2, 5, 4, 8)
    assert torch.equal(padded[:, :, :3], x)
    assert not padded[:, :, 3:].any()
    assert pad_to_multiple(padded, 4) is padded
