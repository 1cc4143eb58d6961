"""RetinaNet's head."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.heads.anchor_head import flatten_maps
from attnzoo.heads.boxes import DeltaXYWHBBoxCoder, box_iou, clip_boxes
from attnzoo.heads.fpn import FPN
from attnzoo.heads.losses import sigmoid_focal_loss
from attnzoo.heads.retinanet import RetinaHead
from attnzoo.heads.structures import ImageInfo, Instances
from support import head_packs

PACK, TENSORS = head_packs.load("retinanet")
INFO = ImageInfo((64, 64), (32, 128), (0.5, 2.0), batch_size=(64, 64), padded_size=(64, 64))
ANCHORS: Any = {"strides": (8, 16), "octave_base_scale": 2, "scales_per_octave": 2, "ratios": (1.0, 2.0)}


def official(test: dict[str, Any] | None = None, **changes: Any) -> Any:
    arguments = {**head_packs.retina_arguments(PACK, test), **changes}
    return head_packs.load_weights(RetinaHead(**arguments), PACK, "bbox_head.")


def tiny(**changes: Any) -> RetinaHead:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"in_channels": 8, "feat_channels": 8, "stacked_convs": 2, "anchor_generator": ANCHORS}
    head = RetinaHead(3, **{**defaults, **changes})
    for parameter in head.parameters():  # scores and boxes that differ
        nn.init.normal_(parameter, std=0.15)
    return head


def maps(batch: int = 2, size: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(batch, 8, size >> i, size >> i, generator=generator) for i in range(2)]


def objects(*boxes: list[float]) -> Instances:
    return Instances(torch.tensor(boxes, dtype=torch.float32).view(-1, 4), torch.arange(len(boxes)) % 3)


class TestOfficial:
    @pytest.mark.parametrize("name", head_packs.case_names("retinanet", "predict", "images"))
    def test_maps_and_detections(self, name: str):
        case = head_packs.case_of(PACK, name)
        head = official(case["inputs"].get("test_cfg"))
        with torch.no_grad():
            if case["call"] == "images":
                image = head_packs.batch(PACK, case)
                head_packs.check(image, case, TENSORS, "input")
                neck = head_packs.load_weights(FPN(**head_packs.fpn_arguments(PACK)), PACK, "neck.")
                features = neck(head_packs.tiny_backbone(PACK)(image))
                for level, one in enumerate(features):
                    head_packs.check(one, case, TENSORS, f"neck_{level}")
            else:
                features = head_packs.features(case)
            for kind, levels in zip(("cls", "reg"), head(features), strict=True):
                for level, one in enumerate(levels):
                    head_packs.check(one, case, TENSORS, f"{kind}_{level}")
        found = head.predict(features, head_packs.infos(case), case["inputs"]["rescale"])
        assert [len(one) for one in found] == case["found"]["detections"]
        assert [len(one.labels.unique()) for one in found] == case["found"]["classes"]
        for image, one in enumerate(found):
            head_packs.check_detections(one, case, TENSORS, image)

    def test_losses(self):
        case, head = head_packs.case_of(PACK, "loss"), official()
        features, infos = head_packs.features(case), head_packs.infos(case)
        targets = head_packs.targets(case, TENSORS)
        head_packs.check_losses(head.losses(features, infos, targets), case)
        trained = head.anchor_targets(head(features)[0], infos, targets)
        assert sum(max(one, 1) for one in trained.num_pos) == case["counts"]["avg_factor"]
        assert sum(trained.num_pos) == case["counts"]["positive_anchors"]


def test_initialisation():
    torch.manual_seed(0)
    head = RetinaHead(20, feat_channels=64)
    for name, parameter in head.named_parameters():
        if name == "retina_cls.bias":
            assert parameter.tolist() == pytest.approx([-math.log(99)] * 180)
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.05), name


def test_defaults_are_the_official_config():
    head, config = RetinaHead(80), official()
    assert head.test == {**config.test, "nms_pre_of": "pairs"}
    assert vars(head.assigner) == vars(config.assigner)
    assert vars(head.anchor_generator) == vars(config.anchor_generator)
    assert vars(head.bbox_coder) == vars(config.bbox_coder)
    for name in ("focal_gamma", "focal_alpha", "allowed_border", "loss_weights", "bbox_loss"):
        assert getattr(head, name) == getattr(config, name), name
    assert {name: tuple(one.shape) for name, one in head.state_dict().items()} == {
        name.removeprefix("bbox_head."): tuple(shape)
        for name, shape in PACK["state_dict"].items()
        if name.startswith("bbox_head.")
    }


def detect_slowly(
    head: RetinaHead, features: Any, info: ImageInfo, image: int, rescale: bool, test: dict[str, Any]
) -> list[tuple[float, int, list[float]]]:
    """The definition, an anchor and a class at a time; suppression in each class by itself."""
    candidates: list[tuple[float, int, list[float]]] = []
    with torch.no_grad():
        cls_maps, reg_maps = head(features)
    for logits, offsets, anchors in zip(cls_maps, reg_maps, head.anchors_for(cls_maps), strict=True):
        scores = logits[image].permute(1, 2, 0).reshape(len(anchors), 3).sigmoid().tolist()
        shifts = offsets[image].permute(1, 2, 0).reshape(-1, 4)
        boxes = clip_boxes(DeltaXYWHBBoxCoder().decode(anchors, shifts), info.image_size)
        if test["nms_pre_of"] == "anchors":
            best = sorted(range(len(anchors)), key=lambda row: -max(scores[row]))[: test["nms_pre"]]
            pairs = [(scores[row][label], label, row) for row in best for label in range(3)]
            pairs = [one for one in pairs if one[0] > test["score_thr"]]
        else:
            pairs = [(scores[row][label], label, row) for row in range(len(anchors)) for label in range(3)]
            pairs = sorted((one for one in pairs if one[0] > test["score_thr"]), reverse=True)[: test["nms_pre"]]
        for score, label, row in pairs:
            x1, y1, x2, y2 = boxes[row].tolist()
            if rescale:
                (x, y) = info.scale_factor
                x1, y1, x2, y2 = x1 / x, y1 / y, x2 / x, y2 / y
            if test["nms_pre_of"] == "anchors" or min(x2 - x1, y2 - y1) > test["min_bbox_size"]:
                candidates.append((score, label, [x1, y1, x2, y2]))
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box in sorted(candidates, reverse=True):
        rivals = torch.tensor([other for _, own, other in kept if own == label]).view(-1, 4)
        if not (box_iou(torch.tensor([box]), rivals) > test["nms_iou"]).any():
            kept.append((score, label, box))
    return kept[: test["max_per_img"]]


class TestDetections:
    @pytest.mark.parametrize("rescale", [True, False])
    @pytest.mark.parametrize("kind", ["pairs", "anchors"])
    def test_definition(self, kind: Any, rescale: bool):
        test = {
            "nms_pre": 50,
            "nms_pre_of": kind,
            "score_thr": 0.45,
            "nms_iou": 0.35,
            "max_per_img": 12,
            "min_bbox_size": 9,
        }
        head = tiny(test=test)
        infos = [INFO, dataclasses.replace(INFO, image_size=(40, 52))]
        for image, found in enumerate(head.predict(maps(), infos, rescale)):
            expected = detect_slowly(head, maps(), infos[image], image, rescale, test)
            assert found.labels.tolist() == [label for _, label, _ in expected]
            torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in expected]))
            torch.testing.assert_close(found.boxes, torch.tensor([box for _, _, box in expected]), rtol=1e-4, atol=1e-4)
            assert 8 < len(found) <= 12
            assert len(found.labels.unique()) >= 2

    def test_the_two_kinds_of_candidates_differ(self):
        """With few candidates, an anchor that is good for two classes takes up one place or two."""
        settings: dict[str, Any] = {"nms_pre": 20, "score_thr": 0.05}
        pairs, anchors = (
            tiny(test={**settings, "nms_pre_of": kind}).predict(maps(1), [INFO])[0] for kind in ("pairs", "anchors")
        )
        assert len(anchors) > len(pairs)

    def test_nothing_found(self):
        for kind in ("pairs", "anchors"):
            head = tiny(test={"score_thr": 1.0, "nms_pre_of": kind})
            for found in head.predict(maps(), [INFO, INFO]):
                assert found.boxes.shape == (0, 4)
                assert found.scores.shape == found.labels.shape == (0,)
                assert found.labels.dtype == torch.int64

    @pytest.mark.parametrize("kind", ["pairs", "anchors"])
    def test_scores_above_the_threshold_and_not_at_it(self, kind: Any):
        for threshold, expected in ((0.5, False), (0.4999, True)):
            head = tiny(test={"score_thr": threshold, "nms_pre_of": kind})
            nn.init.zeros_(head.retina_cls.weight)
            nn.init.zeros_(head.retina_cls.bias)  # pyright: ignore[reportArgumentType]
            assert bool(len(head.predict(maps(1), [INFO])[0])) is expected

    def test_another_number_of_images(self):
        with pytest.raises(ValueError, match="feature maps of 2 images and 1 infos"):
            tiny().predict(maps(), [INFO])


class TestLosses:
    def test_definition(self):
        head = tiny(loss_weights=(2.0, 3.0), focal_gamma=1.5, focal_alpha=0.4)
        target = objects([10, 10, 30, 32], [3, 20, 30, 60])
        infos, targets = [INFO, INFO], [target, objects()]
        cls_maps, reg_maps = head(maps())
        anchors = torch.cat(head.anchors_for(cls_maps))
        assigned = head.assigner.assign(anchors, target.boxes, target.labels)
        positive, ignored = assigned.gt_inds > 0, assigned.gt_inds == -1
        assert positive.sum() > 2
        assert ignored.any()
        count = int(positive.sum()) + 1  # the image without objects counts as one
        logits, offsets = flatten_maps(cls_maps, 3), flatten_maps(reg_maps, 4)
        labels = torch.where(positive, assigned.labels, 3)
        focal = sigmoid_focal_loss(logits[0, ~ignored], labels[~ignored], avg_factor=1, gamma=1.5, alpha=0.4)
        nothing = torch.full((len(anchors),), 3)
        focal = focal + sigmoid_focal_loss(logits[1], nothing, avg_factor=1, gamma=1.5, alpha=0.4)
        goal = DeltaXYWHBBoxCoder().encode(anchors[positive], target.boxes[assigned.gt_inds[positive] - 1])
        terms = head.losses(maps(), infos, targets)
        torch.testing.assert_close(terms["loss_cls"], 2 * focal / count)
        torch.testing.assert_close(terms["loss_bbox"], 3 * (offsets[0, positive] - goal).abs().sum() / count)

    def test_images_without_objects(self):
        head = RetinaHead(3, 8, 2, 8, anchor_generator=ANCHORS)
        terms = head.losses(maps(), [INFO, INFO], [objects(), objects()])
        assert terms["loss_bbox"].item() == 0
        assert 0 < terms["loss_cls"].item() < 10
        torch.stack(list(terms.values())).sum().backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert bool(parameter.grad.any()) != ("reg" in name), name

    def test_half_precision(self):
        head = tiny()
        with torch.autocast("cpu", torch.bfloat16):
            terms = head.losses(maps(), [INFO, INFO], [objects([10, 10, 40, 42]), objects()])
            (found, _) = head.predict(maps(), [INFO, INFO])
        assert all(one.dtype == torch.float32 and one.isfinite() for one in terms.values())
        assert found.boxes.dtype == found.scores.dtype == torch.float32


@pytest.mark.parametrize("norm", ["BN", "GN"])
def test_norms(norm: Any):
    head = RetinaHead(3, 32, 2, 32, norm=norm, anchor_generator=ANCHORS)
    assert f"cls_convs.1.{norm.lower()}.weight" in head.state_dict()
    assert "cls_convs.1.conv.bias" not in head.state_dict()
    assert head([torch.randn(2, 32, 4, 4), torch.randn(2, 32, 2, 2)])[0][1].shape == (2, 12, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ({"test": {"nms_pre_of": "anchor"}}, "Did you mean 'anchors'"),
        ({"test": {"score_threshold": 0.1}}, "Did you mean 'score_thr'"),
        ({"assigner": {"num": 0.1}}, "assigner has no setting"),
        ({"bbox_loss": "iou"}, "Did you mean 'giou'"),
        ({"anchor_generator": {"scales": (4,), "scales_per_octave": 3}}, "must be given together"),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        RetinaHead(**{"num_classes": 3, **arguments})


def test_losses_learn():
    """A few steps on one image find its object and what it is."""
    torch.manual_seed(0)
    head = RetinaHead(3, 8, 1, 32, anchor_generator=ANCHORS, norm="GN")
    features, target = maps(1), objects([10, 12, 45, 50])
    target.labels[0] = 2
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack(list(head.losses(features, [INFO], [target]).values())).sum().backward()
        optimizer.step()
    (found,) = head.predict(features, [INFO], rescale=False)
    assert found.labels[0] == 2
    assert box_iou(found.boxes[:1], target.boxes).item() > 0.7
    assert found.scores[0] > 0.3
