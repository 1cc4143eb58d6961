"""The fully convolutional head."""

from __future__ import annotations

import torch

from attnzoo.heads.segmentation import FCNHead
from support.segmentors import classified, convolved, maps, trained


def test_the_fcn_head_sees_its_input_again_and_dilates():
    head = trained("fcn", num_convs=2, dilation=2, concat_input=True)
    x = maps()[2]
    state = head.state_dict()
    made = x
    for number in range(2):
        made = convolved(state, f"convs.{number}", made, padding=2, dilation=2)
    expected = classified(state, convolved(state, "conv_cat", torch.cat([x, made], 1), padding=1))
    torch.testing.assert_close(head(maps()), expected, rtol=1e-4, atol=1e-5)


def test_the_fcn_head_without_convolutions_is_its_classifier():
    head = trained("fcn", num_convs=0, concat_input=False)
    torch.testing.assert_close(head(maps()), classified(head.state_dict(), maps()[2]))


def test_the_last_map_is_the_fcn_heads_own_choice():
    head = FCNHead(10, 8, num_classes=5).eval()
    assert head(maps()).shape[-2:] == maps()[-1].shape[-2:]
