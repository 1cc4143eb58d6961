"""RoI heads name wrong arguments and targets that cannot be trained on."""

import pytest
import torch

from attnzoo.heads.roi import CascadeRoIHead, StandardRoIHead
from attnzoo.heads.structures import Instances
from support.small_rois import KINDS, found, infos, maps, objects, small_head


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes=0"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"strides": ()}, "strides"),
        ({"strides": (8, 4)}, r"strides=\(8, 4\)"),
        ({"mask_head": {}, "mask_size": 27}, "mask_size=27 must be even"),
        ({"bbox_head": {"fc_chanels": 8}}, "'fc_chanels'. Did you mean 'fc_channels'"),
        ({"bbox_head": {"bbox_loss": "iou"}}, "Did you mean 'giou'"),
        ({"bbox_head": {"num_shared_fcs": 0}}, "num_shared_fcs=0"),
        ({"bbox_head": {"loss_weights": (1.0,)}}, "loss_weights"),
        ({"mask_head": {"num_conv": 2}}, "Did you mean 'num_convs'"),
        ({"sampler": {"number": 2}}, "setting of the sampler 'number'"),
        ({"test": {"score_threshold": 0.1}}, "Did you mean 'score_thr'"),
        ({"test": {"mask_thr": 0.0}}, "mask_thr=0.0"),
        ({"test": {"score_thr": 5}}, "score_thr .* 0 to 1, not 5"),
        ({"test": {"nms_iou": -0.5}}, "nms_iou .* 0 to 1, not -0.5"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_arguments_are_named(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**{"num_classes": 2, "in_channels": 8, **arguments})


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (StandardRoIHead, {"assigner": {"pos_iou": 0.5}}, "Did you mean 'pos_iou_thr'"),
        (CascadeRoIHead, {"stages": ()}, "at least one stage"),
        (CascadeRoIHead, {"stages": ({}, {"loss_weight": "1"})}, "loss_weight of stage 1 .* not '1'"),
        (CascadeRoIHead, {"stages": ({"loss_weight": -1},)}, "loss_weight of stage 0"),
        (CascadeRoIHead, {"stages": ({"iou": 1.5},)}, "1.5"),
        (CascadeRoIHead, {"stages": ({"ious": 0.5},)}, "Did you mean 'iou'"),
        (CascadeRoIHead, {"bbox_head": {"bbox_coder": {}}}, "in `stages`"),
    ],
)
def test_impossible_settings_of_one_kind_are_named(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(2, 8, **arguments)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: setattr(one, "labels", torch.tensor([0, 3])), "label 3; with num_classes=3 labels are 0 to 2"),
        (lambda one: setattr(one, "labels", torch.tensor([-1, 0])), "label -1"),
        (lambda one: setattr(one, "masks", None), "target of image 1 in the batch has none"),
        (lambda one: setattr(one, "masks", one.masks[:1]), "2 boxes and 1 masks"),
        (lambda one: one.boxes.__setitem__((0, 2), one.boxes[0, 0]), "1 of the batch's true boxes have no width"),
    ],
)
def test_targets_that_cannot_be_trained_on_are_named(kind, change, message):
    targets = [objects(1, 3), objects(2, 4)]
    change(targets[1])
    with pytest.raises(ValueError, match=message):
        small_head(kind).losses(maps(), [found(3), found(3)], targets, infos())


def test_masks_may_be_missing_where_none_are_predicted():
    targets = [Instances(one.boxes, one.labels) for one in (objects(1, 3), objects(2, 4))]
    assert "loss_mask" not in small_head(mask_head=None).losses(maps(), [found(3), found(3)], targets, infos())


def test_too_few_maps_are_named():
    with pytest.raises(ValueError, match=r"\(4, 8\) need 2 maps; the neck gives 1"):
        small_head().predict(maps()[:1], [found(3), found(3)], infos())
