"""SegFormer's all-MLP head."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from support.segmentors import classified, convolved, maps, trained


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_mlp_head_is_what_its_formula_says(align_corners: bool):
    head = trained("mlp", align_corners=align_corners)
    features = maps(13, 17)
    state = head.state_dict()
    levels = [
        F.interpolate(convolved(state, f"convs.{level}", one), (13, 17), mode="bilinear", align_corners=align_corners)
        for level, one in enumerate(features)
    ]
    expected = classified(state, convolved(state, "fusion_conv", torch.cat(levels, 1)))
    torch.testing.assert_close(head(features), expected, rtol=1e-4, atol=1e-5)
    assert {name.split(".")[0] for name in state} == {"convs", "fusion_conv", "conv_seg"}
