"""Parity packs of RoI heads: converts reference configs to our arguments, and builds complete detectors."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import nn

from attnzoo.heads.fpn import FPN
from attnzoo.heads.roi import CascadeRoIHead, StandardRoIHead
from attnzoo.heads.rpn import RPNHead
from support import head_packs, parity

PACKS = ("faster_rcnn", "mask_rcnn", "cascade_mask_rcnn", "cascade_mask_rcnn_swin")
LOSSES = {"L1Loss": "l1", "SmoothL1Loss": "smooth_l1", "GIoULoss": "giou"}


def roi_arguments(pack: head_packs.Pack, without_chance: bool = True) -> dict[str, Any]:
    """Converts a pack's config to arguments of StandardRoIHead or CascadeRoIHead.

    Args:
        pack: Pack with RoI heads.
        without_chance: Use the training settings without random sampling.
    """
    config = pack["config"]
    head = config["roi_head"]
    train = (pack["loss_train_cfg"] if without_chance else config["train_cfg"])["rcnn"]
    test = config["test_cfg"]["rcnn"]
    stages = head["bbox_head"] if isinstance(head["bbox_head"], list) else [head["bbox_head"]]
    trains = train if isinstance(train, list) else [train]
    extractor = head["bbox_roi_extractor"]
    box = stages[0]
    assert extractor["roi_layer"]["output_size"] == box["roi_feat_size"]
    assert box["reg_class_agnostic"] or box["loss_bbox"]["type"] != "SmoothL1Loss"
    arguments: dict[str, Any] = {
        "num_classes": box["num_classes"],
        "in_channels": box["in_channels"],
        "strides": tuple(extractor["featmap_strides"]),
        "sampling_ratio": extractor["roi_layer"]["sampling_ratio"],
        "bbox_head": {
            "roi_size": box["roi_feat_size"],
            "num_shared_convs": box.get("num_shared_convs", 0),
            "conv_channels": box.get("conv_out_channels", 256),
            "num_shared_fcs": box.get("num_shared_fcs", 2),
            "fc_channels": box["fc_out_channels"],
            "norm": "BN" if "norm_cfg" in box else None,
            "class_agnostic": box["reg_class_agnostic"],
            "bbox_loss": LOSSES[box["loss_bbox"]["type"]],
            "smooth_l1_beta": box["loss_bbox"].get("beta", 1.0),
            "loss_weights": (box["loss_cls"]["loss_weight"], box["loss_bbox"]["loss_weight"]),
        },
        "sampler": head_packs.without_type(trains[0]["sampler"]),
        "test": {
            "score_thr": test["score_thr"],
            "nms_iou": test["nms"]["iou_threshold"],
            "max_per_img": test["max_per_img"],
            "mask_thr": test.get("mask_thr_binary", 0.5),
        },
    }
    if "mask_head" in head:
        mask = head["mask_head"]
        assert head["mask_roi_extractor"]["roi_layer"]["output_size"] * 2 == trains[0]["mask_size"]
        arguments["mask_size"] = trains[0]["mask_size"]
        arguments["mask_head"] = {
            "num_convs": mask["num_convs"],
            "conv_channels": mask["conv_out_channels"],
            "loss_weight": mask["loss_mask"]["loss_weight"],
        }
    if head["type"] == "StandardRoIHead":
        arguments["assigner"] = head_packs.without_type(trains[0]["assigner"])
        arguments["bbox_head"]["bbox_coder"] = head_packs.without_type(box["bbox_coder"])
    else:
        arguments["stages"] = tuple(
            {
                "iou": one["assigner"]["pos_iou_thr"],
                "loss_weight": weight,
                "target_stds": tuple(stage["bbox_coder"]["target_stds"]),
            }
            for one, stage, weight in zip(trains, stages, head["stage_loss_weights"], strict=True)
        )
        for one in trains:
            thresholds = {one["assigner"][key] for key in ("pos_iou_thr", "neg_iou_thr", "min_pos_iou")}
            assert len(thresholds) == 1
            assert not one["assigner"]["match_low_quality"]
    return arguments


def roi_head(pack: head_packs.Pack) -> Any:
    """Builds a pack's RoI head, without its weights."""
    kind = {"StandardRoIHead": StandardRoIHead, "CascadeRoIHead": CascadeRoIHead}
    return kind[pack["config"]["roi_head"]["type"]](**roi_arguments(pack))


def rle(mask: torch.Tensor) -> dict[str, Any]:
    """Encodes a mask (height, width) as COCO run lengths, the format of the packs."""
    found: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))  # pyright: ignore
    return {"size": found["size"], "counts": found["counts"].decode()}


class Detector(nn.Module):
    """The complete detector of a pack."""

    def __init__(self, pack: head_packs.Pack) -> None:
        super().__init__()
        self.pack = pack
        self.backbone = head_packs.TinyBackbone(pack["config"]["backbone"]["channels"])
        self.neck = FPN(**head_packs.fpn_arguments(pack))
        self.rpn_head = RPNHead(**head_packs.rpn_arguments(pack, without_chance=True))
        self.roi_head = roi_head(pack)


@functools.lru_cache(maxsize=1)
def loaded_detector(name: str) -> Detector:
    """Builds a pack's detector in eval mode and loads all weights strictly. It is cached: tests must not change it."""
    pack, _ = head_packs.load(name)
    detector = Detector(pack)
    detector.load_state_dict(parity.filled_state_dict(pack), strict=True)
    return detector.eval()


class Seen:
    """Records the outputs of the box and mask heads of a RoI head inside the `with` block.

    Attributes:
        boxes: Logits and offsets of every call of a box head.
        masks: Logits of every call of a mask head.
    """

    def __init__(self, head: nn.Module) -> None:
        self.boxes: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.masks: list[torch.Tensor] = []
        self._heads = [
            (one, kept)
            for kind, kept in (("bbox_head", self.boxes), ("mask_head", self.masks))
            for one in self._stages(getattr(head, kind, None))
        ]
        self._hooks = []

    @staticmethod
    def _stages(head: nn.Module | None) -> list[nn.Module]:
        if head is None:
            return []
        return list(head) if isinstance(head, nn.ModuleList) else [head]

    def __enter__(self) -> Seen:
        self._hooks = [
            one.register_forward_hook(lambda _module, _given, found, kept=kept: kept.append(found))
            for one, kept in self._heads
        ]
        return self

    def __exit__(self, *_exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
