"""The RoI head of Faster and Mask R-CNN."""

from __future__ import annotations

import torch

from attnzoo.heads.roi import StandardRoIHead
from support.small_rois import found, infos, maps, objects, small_head


def test_low_quality_matches_come_with_the_mask_head():
    assert not StandardRoIHead(2, 8).assigner.match_low_quality
    assert StandardRoIHead(2, 8, mask_head={}).assigner.match_low_quality
    assert not StandardRoIHead(2, 8, mask_head={}, assigner={"match_low_quality": False}).assigner.match_low_quality


def test_losses_are_named_as_in_openmmlab():
    targets = [objects(1, 3), objects(2, 4)]
    losses = small_head().losses(maps(), [found(3), found(3)], targets, infos())
    assert set(losses) == {"loss_cls", "loss_bbox", "acc", "loss_mask"}
    assert all(torch.isfinite(loss) for loss in losses.values())
