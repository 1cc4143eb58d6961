"""RoI heads report invalid arguments and unusable targets."""

import pytest
import torch

from attnzoo.heads.roi import CascadeRoIHead, StandardRoIHead
from attnzoo.heads.structures import Instances
from support.small_rois import KINDS, found, infos, maps, objects, small_head


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be >= 1 .* got 0"),
        ({"in_channels": 0}, "in_channels must be >= 1, got 0"),
        ({"strides": ()}, "strides"),
        ({"strides": (8, 4)}, r"strides must be positive and increasing, got \(8, 4\)"),
        ({"mask_head": {}, "mask_size": 27}, "mask_size must be even and >= 2, got 27"),
        ({"bbox_head": {"fc_chanels": 8}}, "'fc_chanels'. Did you mean 'fc_channels'"),
        ({"bbox_head": {"bbox_loss": "iou"}}, "Did you mean 'giou'"),
        ({"bbox_head": {"num_shared_fcs": 0}}, "num_shared_fcs must be >= 1, got 0"),
        ({"bbox_head": {"loss_weights": (1.0,)}}, "loss_weights"),
        ({"mask_head": {"num_conv": 2}}, "Did you mean 'num_convs'"),
        ({"sampler": {"number": 2}}, "sampler has no setting 'number'"),
        ({"test": {"score_threshold": 0.1}}, "Did you mean 'score_thr'"),
        ({"test": {"mask_thr": 0.0}}, r"mask_thr must be in \(0, 1\], got 0.0"),
        ({"test": {"score_thr": 5}}, r"score_thr must be in \[0, 1\], got 5"),
        ({"test": {"nms_iou": -0.5}}, r"nms_iou must be in \[0, 1\], got -0.5"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_invalid_arguments_raise(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**{"num_classes": 2, "in_channels": 8, **arguments})


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (StandardRoIHead, {"assigner": {"pos_iou": 0.5}}, "Did you mean 'pos_iou_thr'"),
        (CascadeRoIHead, {"stages": ()}, "stages must not be empty"),
        (
            CascadeRoIHead,
            {"stages": ({}, {"loss_weight": "1"})},
            "loss_weight of stage 1 must be a number >= 0, got '1'",
        ),
        (CascadeRoIHead, {"stages": ({"loss_weight": -1},)}, "loss_weight of stage 0"),
        (CascadeRoIHead, {"stages": ({"iou": 1.5},)}, "1.5"),
        (CascadeRoIHead, {"stages": ({"ious": 0.5},)}, "Did you mean 'iou'"),
        (CascadeRoIHead, {"bbox_head": {"bbox_coder": {}}}, "in `stages`"),
    ],
)
def test_invalid_arguments_of_one_kind_raise(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(2, 8, **arguments)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda target: setattr(target, "labels", torch.tensor([0, 3])),
            r"Labels must be in \[0, 2\] for num_classes=3, got 3",
        ),
        (lambda target: setattr(target, "labels", torch.tensor([-1, 0])), "Labels .* got -1"),
        (lambda target: setattr(target, "masks", None), "image 1 of the batch has none"),
        (lambda target: setattr(target, "masks", target.masks[:1]), "Image 1 of the batch has 2 boxes but 1 masks"),
        (
            lambda target: target.boxes.__setitem__((0, 2), target.boxes[0, 0]),
            "1 ground-truth boxes of the batch have no width",
        ),
    ],
)
def test_unusable_targets_raise(kind, change, message):
    targets = [objects(1, 3), objects(2, 4)]
    change(targets[1])
    with pytest.raises(ValueError, match=message):
        small_head(kind).losses(maps(), [found(3), found(3)], targets, infos())


def test_masks_are_optional_without_a_mask_head():
    targets = [Instances(one.boxes, one.labels) for one in (objects(1, 3), objects(2, 4))]
    assert "loss_mask" not in small_head(mask_head=None).losses(maps(), [found(3), found(3)], targets, infos())


def test_too_few_feature_maps_raise():
    with pytest.raises(ValueError, match=r"one feature map per stride \(4, 8\), got 1"):
        small_head().predict(maps()[:1], [found(3), found(3)], infos())
