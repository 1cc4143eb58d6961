"""The classification head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnzoo.backbones.common.head import PooledHead


def test_poolings():
    x = torch.randn(2, 4, 3, 5)
    for global_pool, expected in (("avg", x.mean((2, 3))), ("max", x.amax((2, 3))), ("", x)):
        head = PooledHead(4, 0, global_pool)
        torch.testing.assert_close(head(x), expected)
        assert isinstance(head.fc, nn.Identity)


def test_norm_and_classifier_follow_the_pooling():
    head = PooledHead(4, 3, norm_layer=nn.LayerNorm).eval()
    x = torch.randn(2, 4, 3, 5)
    pooled = head.norm(x.mean((2, 3)))
    torch.testing.assert_close(head(x, pre_logits=True), pooled)
    torch.testing.assert_close(head(x), head.fc(pooled))
    head.reset(0, "")
    torch.testing.assert_close(head(x), head.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_reset_keeps_dtype_and_pooling():
    head = PooledHead(4, 3, "max").double()
    head.reset(7)
    assert isinstance(head.fc, nn.Linear)
    assert (head.fc.weight.shape, head.fc.weight.dtype, head.global_pool) == ((7, 4), torch.float64, "max")
    assert not head.fc.bias.any()


def test_dropout_precedes_the_classifier():
    head = PooledHead(64, 3, drop_rate=0.5)
    x = torch.ones(1, 64, 2, 2)
    assert set(head(x, pre_logits=True).unique().tolist()) == {0.0, 2.0}


def test_wrong_arguments():
    with pytest.raises(ValueError, match="Unknown global_pool 'mean'"):
        PooledHead(4, 3, "mean")
    with pytest.raises(ValueError, match="num_classes must be an integer >= 0, got -1"):
        PooledHead(4, -1)
    with pytest.raises(ValueError, match="drop_rate must be >= 0 and < 1, got 1"):
        PooledHead(4, 3, drop_rate=1)
    with pytest.raises(ValueError, match="global_pool=''"):
        PooledHead(4, 3, "")
