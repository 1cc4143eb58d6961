"""Base class of RoI heads with one or several stages: sampling, region features, detections, masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import nn

from ..assignment import MaxIoUAssigner, RandomSampler, Sample, SamplerSettings
from ..boxes import scale_boxes
from ..nms import multiclass_nms
from ..settings import filled
from ..structures import Detections, ImageInfo, Instances
from .bbox_head import BBoxHead
from .extraction import boxes_to_rois, extract_rois
from .mask_head import FCNMaskHead
from .masks import mask_targets, paste_masks


class RoITestSettings(TypedDict, total=False):
    """Settings for converting predictions to detections.

    Keys:
        score_thr: Minimum score (exclusive) of a pair of region and class. Default: 0.05.
        nms_iou: A detection is suppressed if its IoU with a better one of its class exceeds this. Default: 0.5.
        max_per_img: Maximum number of detections per image; -1 for no limit. Default: 100.
        mask_thr: Probability, positive, from which a pixel belongs to a mask. Default: 0.5.
        rescale_before_nms: Whether boxes are rescaled to the original image before NMS rather than after. Rounding can
            change the outcome for boxes right at the threshold. None follows OpenMMLab's mmdet 3: before NMS without
            a mask head, after NMS with one. True follows mmdet 2, with which most published Mask R-CNN results were
            measured.
    """

    score_thr: float
    nms_iou: float
    max_per_img: int
    mask_thr: float
    rescale_before_nms: bool | None


TEST_DEFAULTS = RoITestSettings(score_thr=0.05, nms_iou=0.5, max_per_img=100, mask_thr=0.5, rescale_before_nms=None)


class ScoredBoxes(NamedTuple):
    """Predictions for an image's proposals before filtering.

    Attributes:
        boxes: (n, 4 * num_classes), or (n, 4) if class-agnostic; in pixels of the network input.
        scores: (n, num_classes + 1) probabilities, background last.
    """

    boxes: torch.Tensor
    scores: torch.Tensor


class RoIHead(nn.Module):
    """Samples regions and converts region features to losses or detections; subclasses define the stages.

    Args:
        num_classes: Number of classes, without background.
        in_channels: Number of channels of the feature maps.
        mask_size: Height and width of predicted masks; region features for masks have half that size. None without a
            mask head.
        strides: Strides of the feature maps that regions are sampled from, finest first. Further maps are not used.
        sampling_ratio: Samples per bin and axis in RoIAlign; 0 adapts the number to the size of the bin.
        finest_scale: Regions with a side below twice this many pixels are sampled from the finest feature map.
        sampler: Arguments of `RandomSampler`; num=512 and pos_fraction=0.25 by default. Ground-truth boxes are
            candidates.
        test: Test settings, see `RoITestSettings`.

    Raises:
        ValueError: A setting is unknown or out of range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        *,
        mask_size: int | None,
        strides: Sequence[int] = (4, 8, 16, 32),
        sampling_ratio: int = 0,
        finest_scale: float = 56.0,
        sampler: SamplerSettings | None = None,
        test: RoITestSettings | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be >= 1 (without background), got {num_classes}.")
        if in_channels < 1:
            raise ValueError(f"in_channels must be >= 1, got {in_channels}.")
        if not strides or list(strides) != sorted(set(strides)) or min(strides) < 1:
            raise ValueError(f"strides must be positive and increasing, got {tuple(strides)}.")
        if mask_size is not None and (mask_size < 2 or mask_size % 2):
            raise ValueError(f"mask_size must be even and >= 2, got {mask_size}.")
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.strides = tuple(strides)
        self.mask_size = mask_size
        self.sampling_ratio = sampling_ratio
        self.finest_scale = finest_scale
        self.sampler = RandomSampler(**filled("sampler", sampler, SamplerSettings, num=512, pos_fraction=0.25))
        self.test = filled("test", test, RoITestSettings, **TEST_DEFAULTS)
        for name in ("score_thr", "nms_iou"):
            if not 0 <= self.test[name] <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {self.test[name]}.")
        if not 0 < self.test["mask_thr"] <= 1:
            raise ValueError(f"mask_thr must be in (0, 1], got {self.test['mask_thr']}.")

    @property
    def with_mask(self) -> bool:
        """Whether the head predicts masks."""
        return self.mask_size is not None

    def forward(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], infos: Sequence[ImageInfo]
    ) -> list[ScoredBoxes]:
        """Predicts classes and refined boxes for proposals.

        Args:
            features: Feature maps (B, in_channels, H, W), finest first.
            boxes: Proposals of each image, (n, 4) in pixels.
            infos: Metadata of each image.

        Returns:
            Boxes and scores of each image, one row per proposal.
        """
        raise NotImplementedError

    def mask_probabilities(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Predicts the masks of detections at low resolution, before pasting.

        Args:
            features: Feature maps (B, in_channels, H, W), finest first.
            boxes: Boxes of each image, (n, 4) in pixels of the network input.
            labels: Classes of each image, (n,).

        Returns:
            Probabilities (n, mask_size, mask_size) of each image.
        """
        raise NotImplementedError

    @torch.no_grad()
    def predict(
        self,
        features: Sequence[torch.Tensor],
        proposals: Sequence[Detections],
        infos: Sequence[ImageInfo],
        rescale: bool = True,
    ) -> list[Detections]:
        """Detects objects.

        Args:
            features: Feature maps (B, in_channels, H, W), finest first.
            proposals: Proposals of each image, as returned by the RPN.
            infos: Metadata of each image.
            rescale: Whether to return boxes and masks in pixels of the original image instead of the network input.

        Returns:
            Detections of each image, best first, with masks if there is a mask head.
        """
        test = self.test
        early = test["rescale_before_nms"]
        early = rescale and (not self.with_mask if early is None else early)
        detections = []
        for scored, info in zip(self(features, [proposal.boxes for proposal in proposals], infos), infos, strict=True):
            boxes = scale_boxes(scored.boxes, _inverse(info)) if early else scored.boxes
            detections.append(
                multiclass_nms(boxes, scored.scores, test["score_thr"], test["nms_iou"], test["max_per_img"])[0]
            )
        if self.with_mask:
            input_boxes = [
                scale_boxes(detected.boxes, info.scale_factor) if early else detected.boxes
                for detected, info in zip(detections, infos, strict=True)
            ]
            probabilities = self.mask_probabilities(features, input_boxes, [one.labels for one in detections])
        else:
            probabilities = [None] * len(detections)
        return [
            self._finalize(detected, masks, info, rescale, rescaled=early)
            for detected, masks, info in zip(detections, probabilities, infos, strict=True)
        ]

    def _finalize(
        self, detected: Detections, masks: torch.Tensor | None, info: ImageInfo, rescale: bool, rescaled: bool
    ) -> Detections:
        """Rescales an image's detections where that is still to be done, and pastes their masks."""
        if rescale and not rescaled:
            detected.boxes = detected.boxes / detected.boxes.new_tensor(info.scale_factor).repeat(2)
        if masks is not None:
            size = info.original_size if rescale else info.image_size
            detected.masks = paste_masks(masks, detected.boxes, size, self.test["mask_thr"])
        return detected

    def _run_bbox_head(
        self, head: BBoxHead, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs a box head on all regions of the batch and returns the outputs of `BBoxHead.forward`."""
        return head(self._extract(features, boxes, head.roi_size))

    def _run_mask_head(
        self, head: FCNMaskHead, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Runs a mask head on all regions of the batch and returns the output of `FCNMaskHead.forward`."""
        assert self.mask_size is not None
        return head(self._extract(features, boxes, self.mask_size // 2))

    def _extract(self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], size: int) -> torch.Tensor:
        if len(features) < len(self.strides):
            raise ValueError(f"Expected one feature map per stride {self.strides}, got {len(features)}.")
        rois = boxes_to_rois(boxes)
        return extract_rois(features, rois, self.strides, size, self.sampling_ratio, self.finest_scale)

    def _check_targets(self, targets: Sequence[Instances]) -> None:
        """Raises a ValueError if the targets are unusable for training."""
        if self.with_mask:
            for number, target in enumerate(targets):
                if target.masks is None:
                    raise ValueError(
                        f"The mask head needs ground-truth masks, but image {number} of the batch has none."
                    )
                if len(target.masks) != len(target):
                    raise ValueError(
                        f"Image {number} of the batch has {len(target)} boxes but {len(target.masks)} masks."
                    )
        labels, boxes = torch.cat([one.labels for one in targets]), torch.cat([one.boxes for one in targets])
        if not len(labels):
            return
        num_empty = (boxes[:, 2:] <= boxes[:, :2]).any(1).sum()
        low, high, num_empty = torch.stack([labels.min(), labels.max(), num_empty]).tolist()  # one synchronization
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f"Labels must be in [0, {self.num_classes - 1}] for num_classes={self.num_classes}, got "
                f"{low if low < 0 else high}."
            )
        if num_empty:
            raise ValueError(
                f"{num_empty} ground-truth boxes of the batch have no width or no height; remove them from the data."
            )

    def _sample(
        self, assigner: MaxIoUAssigner, boxes: Sequence[torch.Tensor], targets: Sequence[Instances]
    ) -> list[Sample]:
        """Matches each image's regions to its objects and samples those that are trained."""
        samples = []
        for candidates, target in zip(boxes, targets, strict=True):
            assignment = assigner.assign(candidates, target.boxes, target.labels, target.ignored_boxes)
            samples.append(self.sampler.sample(assignment, candidates, target.boxes, target.labels))
        return samples

    def _labels(self, sample: Sample) -> torch.Tensor:
        """Returns the labels (p + q,) of a sample's regions, num_classes for background."""
        return torch.cat([sample.pos_gt_labels, sample.neg_inds.new_full((len(sample.neg_inds),), self.num_classes)])

    def _bbox_losses(
        self, head: BBoxHead, logits: torch.Tensor, offsets: torch.Tensor, samples: Sequence[Sample]
    ) -> dict[str, torch.Tensor]:
        labels = torch.cat([self._labels(one) for one in samples])
        boxes = torch.cat([one.priors for one in samples])
        # Background has no ground-truth box; the region itself fills its place and is not used.
        gt_boxes = torch.cat([box for one in samples for box in (one.pos_gt_boxes, one.neg_priors)])
        return head.losses(logits, offsets, boxes, labels, gt_boxes)

    def _mask_losses(
        self,
        head: FCNMaskHead,
        features: Sequence[torch.Tensor],
        samples: Sequence[Sample],
        targets: Sequence[Instances],
    ) -> dict[str, torch.Tensor]:
        assert self.mask_size is not None
        logits = self._run_mask_head(head, features, [one.pos_priors for one in samples])
        truth = []
        for sample, target in zip(samples, targets, strict=True):
            assert target.masks is not None
            truth.append(mask_targets(target.masks, sample.pos_priors, sample.pos_assigned_gt_inds, self.mask_size))
        return head.losses(logits, torch.cat([one.pos_gt_labels for one in samples]), torch.cat(truth))


def _inverse(info: ImageInfo) -> tuple[float, float]:
    return 1 / info.scale_factor[0], 1 / info.scale_factor[1]
