"""Object detection and instance segmentation: a backbone, a neck and detection heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import nn

from ...heads.structures import Detections, ImageInfo, Instances
from ...heads.views import merge_views
from ..registry import MODELS
from .base import ExportPart, build_part
from .dense import DenseTask


class ViewMerging(TypedDict, total=False):
    """How detections in several views of an image are merged; see `heads.views.merge_views`."""

    nms_iou: float
    max_per_img: int


class DetectionTask(DenseTask):
    """Base class of detectors. Subclasses implement `_losses`, `_detect` and `_raw`.

    Args:
        backbone: Config such as dict(type="nat_mini", features_only=True, dense="coco"), or a module.
        neck: See `DenseTask`.
        view_merging: How detections in several views are merged (test-time augmentation).
        settings: `data_preprocessor`, `frozen_stages` and other arguments of `DenseTask`.

    Attributes:
        num_classes: Number of classes, without the background.
    """

    kind = "detection"
    filled_arguments = dict.fromkeys(("neck", "rpn_head", "roi_head", "bbox_head"), ("in_channels",))
    num_classes: int
    info_modes = ("loss", "predict")
    tensor_outputs = ("cls_scores", "bbox_preds")

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module | None,
        view_merging: ViewMerging | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, neck, **settings)
        self.view_merging: dict[str, Any] = dict(view_merging or {})

    def _build_head(self, name: str, head: dict | nn.Module) -> Any:
        """Builds a head for the feature maps: sets its `in_channels`, and checks its strides."""
        channels = getattr(self.neck, "out_channels", None)
        if isinstance(head, dict) and "in_channels" not in head and channels is not None:
            head = {**head, "in_channels": channels}
        built = build_part(head)
        if channels is not None and getattr(built, "in_channels", channels) != channels:
            raise ValueError(
                f"model.{name}.in_channels is {built.in_channels}, but the neck returns {channels} channels. Leave it "
                "out to use those of the neck."
            )
        given = map_strides(self.backbone, self.neck)
        anchors = getattr(built, "anchor_generator", None)
        wanted = tuple(getattr(built, "strides", ()) if anchors is None else anchors.strides)
        if given is not None and tuple(given[: len(wanted)]) != wanted:
            key = f"model.{name}.strides" if anchors is None else f"model.{name}.anchor_generator.strides"
            raise ValueError(f"{key} is {wanted}, but the strides of the feature maps are {tuple(given)}.")
        return built

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] (mmengine calls it with the batch's keys)
        self,
        image: torch.Tensor | None = None,
        info: Sequence[ImageInfo] | None = None,
        target: Sequence[Instances] | None = None,
        views: Sequence[Sequence[dict[str, Any]]] | None = None,
        image_id: Sequence[int] | None = None,
        index: Sequence[int] | None = None,
        epoch: Sequence[int] | None = None,
        repeat: Sequence[int] | None = None,
        path: Sequence[str] | None = None,
        broken: Sequence[str] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Computes the losses, detections or raw outputs of a batch from the data preprocessor.

        Args:
            image: (B, C, H, W), normalized and padded.
            info: Sizes and flips of each image.
            target: Ground truth of each image; required by "loss".
            views: Several views of each image, instead of `image` and `info`; for "predict".
            image_id: Id of each image in its annotation file, copied to the predictions.
            index: Index of each sample, copied to the predictions.
            epoch: Unused.
            repeat: Unused.
            path: Path of each image, copied to the predictions.
            broken: Unused.
            mode: "loss", "predict" or "tensor".

        Returns:
            "loss": A dict with the terms of the loss, and metrics, which have no "loss" in their names.
            "predict": A list with one dict per image: `detections` (`Detections` on the CPU, in pixels of the original
            image), `info`, `index`, `image_id` and `path`, or None if they are unknown.
            "tensor": The output of the dense head's `forward`, for export.

        Raises:
            ValueError: The mode is unknown, or an input that it requires is missing.
        """
        image, info = self._checked_inputs(mode, image, info, views)
        if views is not None:
            found, info = self._detect_in_views(views)
        elif mode == "tensor":
            return self._raw(image)
        elif mode == "loss":
            if target is None or any(one is None for one in target):
                raise ValueError("The mode 'loss' needs ground truth, but the batch has no `target`.")
            return self._losses(image, info, target)
        else:
            found = self._detect(image, info)
        unknown = [None] * len(found)
        columns = zip(found, info, index or unknown, image_id or unknown, path or unknown, strict=True)
        return [
            {"detections": one.to("cpu"), "info": facts, "index": place, "image_id": number, "path": name}
            for one, facts, place, number, name in columns
        ]

    def _detect_in_views(self, samples: Sequence[Sequence[dict[str, Any]]]) -> tuple[list[Detections], list[ImageInfo]]:
        """Detects objects in every view of each image, and merges the detections."""
        merged, infos = [], []
        for views in samples:
            facts = [view["info"] for view in views]
            found = [self._detect(view["image"], [view["info"]])[0] for view in views]
            merged.append(merge_views(found, facts, **self.view_merging))
            infos.append(facts[0])
        return merged, infos

    def _losses(
        self, image: torch.Tensor, infos: Sequence[ImageInfo], targets: Sequence[Instances]
    ) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def _detect(self, image: torch.Tensor, infos: Sequence[ImageInfo]) -> list[Detections]:
        raise NotImplementedError

    def _raw(self, image: torch.Tensor) -> Any:
        raise NotImplementedError


@MODELS.register_module()
class TwoStageDetector(DetectionTask):
    """A detector with region proposals: Faster R-CNN and its descendants.

    Faster R-CNN (Ren et al., NeurIPS 2015), Mask R-CNN (He et al., ICCV 2017), Cascade R-CNN (Cai and Vasconcelos, CVPR
    2018).

    Args:
        backbone: See `DetectionTask`.
        neck: See `DenseTask`.
        rpn_head: Config such as dict(type="RPNHead"), or a module.
        roi_head: Config such as dict(type="StandardRoIHead", num_classes=80), or a module.
        settings: `data_preprocessor`, `frozen_stages` and other arguments of `DetectionTask`.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    classes_key = "model.roi_head.num_classes"
    not_exportable = {
        "whole": "how many proposals and boxes there are depends on the image (non-maximum suppression, pooling of "
        "regions), which a fixed graph of operators cannot hold"
    }

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module | None,
        rpn_head: dict | nn.Module,
        roi_head: dict | nn.Module,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, neck, **settings)
        self.rpn_head: Any = self._build_head("rpn_head", rpn_head)
        self.roi_head: Any = self._build_head("roi_head", roi_head)
        self.num_classes = self.roi_head.num_classes

    def _losses(
        self, image: torch.Tensor, infos: Sequence[ImageInfo], targets: Sequence[Instances]
    ) -> dict[str, torch.Tensor]:
        features = self.features(image)
        maps = self.rpn_head(features)
        losses = self.rpn_head.losses(maps, infos, targets)
        proposals = self.rpn_head.propose(maps, infos, training=True)
        return {**losses, **self.roi_head.losses(features, proposals, targets, infos)}

    def _detect(self, image: torch.Tensor, infos: Sequence[ImageInfo]) -> list[Detections]:
        features = self.features(image)
        proposals = self.rpn_head.propose(self.rpn_head(features), infos, training=False)
        return self.roi_head.predict(features, proposals, infos)

    def _raw(self, image: torch.Tensor) -> Any:
        return self.rpn_head(self.features(image))

    def export_parts(self) -> dict[str, ExportPart]:
        """Lists what can be exported: backbone, neck, and "rpn", the maps of the proposal network."""
        parts = super().export_parts()
        rpn = parts.pop("whole")
        return {**parts, "rpn": dataclasses.replace(rpn, description="the maps of the proposal network")}

    def forward_dummy(self, image: torch.Tensor, proposals: int, detections: int) -> dict[str, int]:
        """Runs the proposal network on an image, and the heads on regions; see `Task.forward_dummy`."""
        regions = {**super().forward_dummy(image, proposals, detections), "proposals": proposals}
        for head in _as_list(self.roi_head.bbox_head):
            head(image.new_zeros(proposals, self.roi_head.in_channels, head.roi_size, head.roi_size))
        if self.roi_head.with_mask:
            regions["detections"] = detections
            side = self.roi_head.mask_size // 2
            for head in _as_list(self.roi_head.mask_head):
                head(image.new_zeros(detections, self.roi_head.in_channels, side, side))
        return regions


@MODELS.register_module()
class SingleStageDetector(DetectionTask):
    """A detector with a dense head on all feature maps, such as RetinaNet (Lin et al., ICCV 2017).

    Args:
        backbone: See `DetectionTask`.
        neck: See `DenseTask`.
        bbox_head: Config such as dict(type="RetinaHead", num_classes=80), or a module.
        settings: `data_preprocessor`, `frozen_stages` and other arguments of `DetectionTask`.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    classes_key = "model.bbox_head.num_classes"

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module | None,
        bbox_head: dict | nn.Module,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, neck, **settings)
        self.bbox_head: Any = self._build_head("bbox_head", bbox_head)
        self.num_classes = self.bbox_head.num_classes

    def _losses(
        self, image: torch.Tensor, infos: Sequence[ImageInfo], targets: Sequence[Instances]
    ) -> dict[str, torch.Tensor]:
        return self.bbox_head.losses(self.features(image), infos, targets)

    def _detect(self, image: torch.Tensor, infos: Sequence[ImageInfo]) -> list[Detections]:
        return self.bbox_head.predict(self.features(image), infos)

    def _raw(self, image: torch.Tensor) -> Any:
        return self.bbox_head(self.features(image))


def _as_list(heads: Any) -> list[Any]:
    """Lists the heads of a cascade, or the only one."""
    return list(heads) if isinstance(heads, nn.ModuleList) else [heads]


def map_strides(backbone: Any, neck: Any) -> list[int] | None:
    """Returns the strides of the heads' feature maps in pixels.

    Args:
        backbone: A model with timm's `feature_info`.
        neck: An `FPN`, or None.

    Returns:
        One stride per level; None if they cannot be derived from the backbone and the neck.
    """
    info = getattr(backbone, "feature_info", None)
    if info is None or not callable(getattr(info, "reduction", None)):
        return None
    strides = list(info.reduction())
    if neck is None:
        return strides
    if not hasattr(neck, "start_level") or not hasattr(neck, "num_outs"):
        return None
    strides = strides[neck.start_level : neck.end_level + 1][: neck.num_outs]
    while len(strides) < neck.num_outs:
        strides.append(2 * strides[-1])
    return strides
