"""Detectors put together from a backbone, a neck and heads by config."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from attnzoo.heads.structures import ImageInfo, Instances
from attnzoo.heads.views import merge_views
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.tasks import SingleStageDetector, TwoStageDetector

BACKBONE = {
    "type": "nat_mini",
    "features_only": True,
    "depths": (1, 1, 1),
    "embed_dims": (16, 32, 64),
    "num_heads": (1, 1, 2),
    "kernel_size": 3,
}
RPN = {
    "type": "RPNHead",
    "in_channels": 16,
    "feat_channels": 16,
    "anchor_generator": {"strides": (4, 8, 16), "scales": (4,)},
    "train_proposals": {"nms_pre": 40, "max_per_img": 20},
    "test_proposals": {"nms_pre": 40, "max_per_img": 20},
}
ROI = {
    "type": "StandardRoIHead",
    "num_classes": 3,
    "in_channels": 16,
    "strides": (4, 8, 16),
    "bbox_head": {"fc_channels": 16},
    "mask_head": {"num_convs": 1, "conv_channels": 16},
    "test": {"score_thr": 0.0, "max_per_img": 5},
}
MASK_RCNN = {
    "type": "TwoStageDetector",
    "backbone": BACKBONE,
    "neck": {"type": "FPN", "out_channels": 16, "num_outs": 3},
    "rpn_head": RPN,
    "roi_head": ROI,
    "data_preprocessor": {"size_divisor": 32},
}
RETINANET = {
    "type": "SingleStageDetector",
    "backbone": {**BACKBONE, "out_indices": (1, 2)},
    "neck": {"type": "FPN", "out_channels": 16, "num_outs": 3, "add_extra_convs": "on_input"},
    "bbox_head": {
        "type": "RetinaHead",
        "num_classes": 3,
        "in_channels": 16,
        "feat_channels": 16,
        "stacked_convs": 1,
        "anchor_generator": {"strides": (8, 16, 32)},
        "test": {"score_thr": 0.0, "max_per_img": 5},
    },
    "data_preprocessor": {"size_divisor": 32},
}
DETECTORS = {"mask_rcnn": MASK_RCNN, "retinanet": RETINANET}
SIZES = [(50, 70), (64, 33)]


def build(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return MODELS.build(copy.deepcopy(config))


def batch(with_targets: bool = True) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    images, infos, targets = [], [], []
    for rows, columns in SIZES:
        images.append(torch.randint(0, 256, (3, rows, columns), dtype=torch.uint8, generator=generator))
        infos.append(ImageInfo((rows, columns), (2 * rows, 2 * columns), (0.5, 0.5)))
        masks = torch.zeros(2, rows, columns, dtype=torch.uint8)
        masks[0, 4:20, 5:25] = 1
        masks[1, 10:40, 2:30] = 1
        boxes = torch.tensor([[5.0, 4.0, 25.0, 20.0], [2.0, 10.0, 30.0, 40.0]])
        targets.append(Instances(boxes, torch.tensor([0, 2]), masks))
    data: dict[str, Any] = {"image": images, "info": infos, "index": [4, 9], "image_id": [40, 90], "path": ["a", "b"]}
    return {**data, "target": targets} if with_targets else data


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_detector_is_put_together_from_its_config_and_learns(kind: str):
    model = build(DETECTORS[kind])
    assert isinstance(model, TwoStageDetector if kind == "mask_rcnn" else SingleStageDetector)
    assert model.num_classes == 3
    losses = model(**model.data_preprocessor(batch(), True), mode="loss")
    expected = {
        "mask_rcnn": {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask", "acc"},
        "retinanet": {"loss_cls", "loss_bbox"},
    }
    assert set(losses) == expected[kind]
    total = model.parse_losses(losses)[0]
    total.backward()
    assert torch.isfinite(total)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("kind", DETECTORS)
def test_detections_are_in_pixels_of_the_original_image(kind: str):
    model = build(DETECTORS[kind]).eval()
    with torch.no_grad():
        found = model.val_step(batch(with_targets=False))
    assert [(one["index"], one["image_id"], one["path"]) for one in found] == [(4, 40, "a"), (9, 90, "b")]
    for one, (rows, columns) in zip(found, SIZES, strict=True):
        detections = one["detections"]
        assert len(detections) == 5
        assert (detections.scores.diff() <= 0).all()
        assert detections.boxes.min() >= 0
        assert detections.boxes[:, 2].max() <= 2 * columns
        assert detections.boxes[:, 3].max() <= 2 * rows
        assert detections.boxes[:, [0, 2]].max() > columns / 2, "boxes were brought back to the original size"
        if kind == "mask_rcnn":
            assert detections.masks.shape == (5, 2 * rows, 2 * columns)
            assert detections.masks.dtype == torch.bool


def test_proposals_have_the_limits_of_training_or_testing(monkeypatch: pytest.MonkeyPatch):
    rpn = {**RPN, "train_proposals": {"nms_pre": 40, "max_per_img": 7}, "test_proposals": {"max_per_img": 3}}
    model = build({**MASK_RCNN, "rpn_head": rpn})
    counts = {}

    def count(name: str) -> Any:
        head_method = getattr(model.roi_head, name)

        def counted(features: Any, proposals: Any, *others: Any) -> Any:
            counts[name] = [len(one) for one in proposals]
            return head_method(features, proposals, *others)

        return counted

    for name in ("losses", "predict"):
        monkeypatch.setattr(model.roi_head, name, count(name))
    data = model.data_preprocessor(batch(), True)
    with torch.no_grad():
        model(**data, mode="loss")
        model(**data, mode="predict")
    assert counts == {"losses": [7, 7], "predict": [3, 3]}


def test_images_of_a_batch_are_told_apart():
    model = build(MASK_RCNN).eval()
    data = batch(with_targets=False)
    with torch.no_grad():
        together = model.val_step(data)
        alone = [model.val_step({key: [value[place]] for key, value in data.items()})[0] for place in (0, 1)]
    # The smaller image is padded further in the batch; features near its border may differ, detections' number not.
    assert len(together[0]["detections"]) == len(alone[0]["detections"])
    wide = {**data, "image": [data["image"][0]] * 2, "info": [data["info"][0]] * 2}
    with torch.no_grad():
        first, second = model.val_step(wide)
    torch.testing.assert_close(first["detections"].boxes, second["detections"].boxes)


def test_detections_of_every_view_are_flipped_back_and_merged():
    merging: Any = {"nms_iou": 0.3, "max_per_img": 7}
    model = build({**MASK_RCNN, "view_merging": merging}).eval()
    data = batch(with_targets=False)
    image, info = data["image"][0], data["info"][0]
    mirrored = dataclasses.replace(info, flip=True)
    views = [{"image": image, "info": info}, {"image": image.flip(-1), "info": mirrored}]
    with torch.no_grad():
        alone = [
            model.val_step({"image": [view["image"]], "info": [view["info"]], **one_of(data)})[0]["detections"]
            for view in views
        ]
        both = {"views": [views, views[1:]], "index": data["index"], "image_id": data["image_id"], "path": data["path"]}
        merged, single = model.val_step(both)
    for result, expected, first in (
        (merged, merge_views(alone, [info, mirrored], **merging), info),
        (single, merge_views(alone[1:], [mirrored], **merging), mirrored),
    ):
        torch.testing.assert_close(vars(result["detections"]), vars(expected))
        assert result["info"].flip == first.flip
    assert not torch.equal(alone[0].boxes, alone[1].boxes)
    assert not torch.equal(single["detections"].boxes, alone[1].boxes[:7])
    assert len(merged["detections"]) == 7
    assert merged["detections"].masks.shape[1:] == tuple(info.original_size)


def one_of(data: dict[str, Any]) -> dict[str, Any]:
    return {key: data[key][:1] for key in ("index", "image_id", "path")}


def test_tensor_mode_gives_the_maps_of_the_dense_head():
    image = torch.zeros(1, 3, 64, 96)
    maps = build(MASK_RCNN).eval()(image)
    assert [tuple(one.shape) for one in maps[0]] == [(1, 3, 16, 24), (1, 3, 8, 12), (1, 3, 4, 6)]
    scores, boxes = build(RETINANET).eval()(image)
    assert [one.shape[1] for one in scores] == [27, 27, 27]
    assert [one.shape[1] for one in boxes] == [36, 36, 36]


def test_frozen_stages_get_no_gradients():
    model = build({**MASK_RCNN, "frozen_stages": 1, "norm_eval": True}).train()
    model.parse_losses(model(**model.data_preprocessor(batch(), True), mode="loss"))[0].backward()
    body = model.backbone.body
    assert all(parameter.grad is None for parameter in body.stages[0].parameters())
    assert all(parameter.grad is not None for parameter in body.stages[1].parameters())


def test_what_is_missing_is_named():
    model = build(MASK_RCNN)
    prepared = model.data_preprocessor(batch(), True)
    with pytest.raises(ValueError, match="no `target`"):
        model(**{**prepared, "target": None}, mode="loss")
    with pytest.raises(ValueError, match="dense_collate"):
        model(image=prepared["image"], mode="predict")
    with pytest.raises(ValueError, match="no `image`"):
        model(mode="predict")
    with pytest.raises(ValueError, match="predict"):
        model(**prepared, mode="prediction")
    with pytest.raises(ValueError, match="views must have mode 'predict', got mode='loss'"):
        model(views=[[]], mode="loss")
    with pytest.raises(ValueError, match="features_only=True"):
        build({**MASK_RCNN, "backbone": {**BACKBONE, "features_only": False}})
    with pytest.raises(ValueError, match="FPN"):
        build({**MASK_RCNN, "neck": {"type": "FPM"}})


def test_heads_are_fitted_to_the_maps():
    narrow = build({**MASK_RCNN, "neck": {"type": "FPN", "out_channels": 8, "num_outs": 3}, **without_channels()})
    assert (narrow.rpn_head.rpn_conv.in_channels, narrow.roi_head.in_channels) == (8, 8)
    with pytest.raises(ValueError, match=r"model\.rpn_head\.in_channels is 16, but the neck returns 8"):
        build({**MASK_RCNN, "neck": {"type": "FPN", "out_channels": 8, "num_outs": 3}})
    with pytest.raises(ValueError, match=r"model\.roi_head\.strides is \(8, 16, 32\), but .* \(4, 8, 16\)"):
        build({**MASK_RCNN, "roi_head": {**ROI, "strides": (8, 16, 32)}})
    with pytest.raises(ValueError, match=r"model\.rpn_head\.anchor_generator\.strides is \(4, 8, 16, 32\)"):
        build({**MASK_RCNN, "rpn_head": {**RPN, "anchor_generator": {"strides": (4, 8, 16, 32)}}})
    with pytest.raises(ValueError, match=r"model\.bbox_head\.anchor_generator\.strides .* are \(8, 16, 32\)"):
        build({**RETINANET, "bbox_head": {**RETINANET["bbox_head"], "anchor_generator": {"strides": (4, 8, 16)}}})


def without_channels() -> dict[str, Any]:
    heads = {"rpn_head": RPN, "roi_head": ROI}
    return {name: {key: x for key, x in head.items() if key != "in_channels"} for name, head in heads.items()}
