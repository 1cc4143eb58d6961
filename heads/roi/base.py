"""What RoI heads of one stage and of several do alike: sampling regions, looking at them, detections, masks."""

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
    """How the regions' classes and boxes become detections.

    Keys:
        score_thr: only pairs of region and class that score more than this are looked at. 0.05.
        nms_iou: a detection goes if its intersection over union with a better one of its class is above this. 0.5.
        max_per_img: how many detections an image has at most; -1 for any number. 100.
        mask_thr: from which probability on a pixel belongs to a mask, over 0. 0.5.
        rescale_before_nms: bring boxes to the original image's pixels before they suppress each other, not after: by
            rounding, a box right at the threshold then lives or dies otherwise. None: as OpenMMLab's mmdet 3, before
            where there is no mask head, after where there is one. True: as mmdet 2, with which most published Mask
            R-CNN were measured.
    """

    score_thr: float
    nms_iou: float
    max_per_img: int
    mask_thr: float
    rescale_before_nms: bool | None


TEST_DEFAULTS = RoITestSettings(score_thr=0.05, nms_iou=0.5, max_per_img=100, mask_thr=0.5, rescale_before_nms=None)


class ScoredBoxes(NamedTuple):
    """What a head says of an image's proposals, before anything is left out.

    Attributes:
        boxes: (n, 4 * num_classes), or (n, 4) where all classes share a box; in pixels of the image that the model saw.
        scores: (n, num_classes + 1), probabilities, the background's last.
    """

    boxes: torch.Tensor
    scores: torch.Tensor


class RoIHead(nn.Module):
    """Samples regions, looks at them, and turns what was seen into losses or detections; subclasses order the stages.

    Args:
        num_classes: without background.
        in_channels: of the maps.
        mask_size: height and width of a predicted mask; regions are read at half of it. None without a mask head.
        strides: pixels to a step of each map that regions are read from, finest first. Further maps are not read.
        sampling_ratio: samples to an axis of a bin of RoIAlign; 0: as many as the bin has steps of the map.
        finest_scale: regions with a side below twice this many pixels read the finest map.
        sampler: arguments of `RandomSampler` that differ from num=512, pos_fraction=0.25; the true boxes take part.
        test: see `RoITestSettings`.

    Raises:
        ValueError: a number outside its range, or an unknown key.
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
            raise ValueError(f"A RoI head needs at least one class besides background: num_classes={num_classes}.")
        if in_channels < 1:
            raise ValueError(f"Maps have at least one channel: in_channels={in_channels}.")
        if not strides or list(strides) != sorted(set(strides)) or min(strides) < 1:
            raise ValueError(f"The maps' strides are positive and grow: strides={tuple(strides)}.")
        if mask_size is not None and (mask_size < 2 or mask_size % 2):
            raise ValueError(f"A mask head doubles the size of its regions: mask_size={mask_size} must be even.")
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.strides = tuple(strides)
        self.mask_size = mask_size
        self.sampling_ratio = sampling_ratio
        self.finest_scale = finest_scale
        self.sampler = RandomSampler(**filled("sampler", sampler, SamplerSettings, num=512, pos_fraction=0.25))
        self.test = filled("RoI head's test", test, RoITestSettings, **TEST_DEFAULTS)
        for name in ("score_thr", "nms_iou"):
            if not 0 <= self.test[name] <= 1:
                raise ValueError(f"{name} of a RoI head's test is 0 to 1, not {self.test[name]}.")
        if not 0 < self.test["mask_thr"] <= 1:
            raise ValueError(f"A pixel's probability is over 0 and at most 1: mask_thr={self.test['mask_thr']}.")

    @property
    def with_mask(self) -> bool:
        """Whether masks are predicted."""
        return self.mask_size is not None

    def forward(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], infos: Sequence[ImageInfo]
    ) -> list[ScoredBoxes]:
        """Gives classes and better boxes of proposals.

        Args:
            features: maps (B, in_channels, H, W), finest first.
            boxes: (n, 4) for each image, the proposals in pixels.
            infos: of each image.

        Returns:
            For each image as many boxes and scores as proposals.
        """
        raise NotImplementedError

    def mask_probabilities(
        self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Gives the small masks of detections, not yet pasted.

        Args:
            features: maps (B, in_channels, H, W), finest first.
            boxes: (n, 4) for each image, in pixels of the image that the model saw.
            labels: (n,) for each image.

        Returns:
            For each image (n, mask_size, mask_size), 0 to 1.
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
            features: maps (B, in_channels, H, W), finest first.
            proposals: of each image, as the RPN gives them.
            infos: of each image.
            rescale: give boxes and masks in pixels of the original image, not of the one that the model saw.

        Returns:
            Detections of each image, best first, with masks where there is a mask head.
        """
        test = self.test
        early = test["rescale_before_nms"]
        early = rescale and (not self.with_mask if early is None else early)
        found = []
        for scored, info in zip(self(features, [one.boxes for one in proposals], infos), infos, strict=True):
            boxes = scale_boxes(scored.boxes, _inverse(info)) if early else scored.boxes
            found.append(
                multiclass_nms(boxes, scored.scores, test["score_thr"], test["nms_iou"], test["max_per_img"])[0]
            )
        if self.with_mask:
            seen = [
                scale_boxes(one.boxes, info.scale_factor) if early else one.boxes
                for one, info in zip(found, infos, strict=True)
            ]
            probabilities = self.mask_probabilities(features, seen, [one.labels for one in found])
        else:
            probabilities = [None] * len(found)
        return [
            self._finish(one, small, info, rescale, scaled=early)
            for one, small, info in zip(found, probabilities, infos, strict=True)
        ]

    def _finish(
        self, found: Detections, small: torch.Tensor | None, info: ImageInfo, rescale: bool, scaled: bool
    ) -> Detections:
        """Brings an image's detections to the size asked for, and pastes their masks there."""
        if rescale and not scaled:
            found.boxes = found.boxes / found.boxes.new_tensor(info.scale_factor).repeat(2)
        if small is not None:
            size = info.original_size if rescale else info.image_size
            found.masks = paste_masks(small, found.boxes, size, self.test["mask_thr"])
        return found

    def _look(
        self, head: BBoxHead, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs a box head on all regions of the batch: logits and offsets, as `BBoxHead.forward` gives them."""
        return head(self._extract(features, boxes, head.roi_size))

    def _look_for_masks(
        self, head: FCNMaskHead, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Runs a mask head on all regions of the batch: logits, as `FCNMaskHead.forward` gives them."""
        assert self.mask_size is not None
        return head(self._extract(features, boxes, self.mask_size // 2))

    def _extract(self, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], size: int) -> torch.Tensor:
        if len(features) < len(self.strides):
            raise ValueError(f"Strides {self.strides} need {len(self.strides)} maps; the neck gives {len(features)}.")
        rois = boxes_to_rois(boxes)
        return extract_rois(features, rois, self.strides, size, self.sampling_ratio, self.finest_scale)

    def _check_targets(self, targets: Sequence[Instances]) -> None:
        """Raises a ValueError where targets cannot be trained on."""
        if self.with_mask:
            for number, one in enumerate(targets):
                if one.masks is None:
                    raise ValueError(
                        f"The mask head needs masks, and the target of image {number} in the batch has none."
                    )
                if len(one.masks) != len(one):
                    raise ValueError(f"Image {number} of the batch has {len(one)} boxes and {len(one.masks)} masks.")
        labels, boxes = torch.cat([one.labels for one in targets]), torch.cat([one.boxes for one in targets])
        if not len(labels):
            return
        flat = (boxes[:, 2:] <= boxes[:, :2]).any(1).sum()
        low, high, flat = torch.stack([labels.min(), labels.max(), flat]).tolist()  # one wait for the device
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f"A target has label {low if low < 0 else high}; with num_classes={self.num_classes} labels are 0 to "
                f"{self.num_classes - 1}."
            )
        if flat:
            raise ValueError(
                f"{flat} of the batch's true boxes have no width or no height; the data must leave them out."
            )

    def _draw(
        self, assigner: MaxIoUAssigner, boxes: Sequence[torch.Tensor], targets: Sequence[Instances]
    ) -> list[Sample]:
        """Assigns each image's regions to its objects, and draws those that are trained."""
        samples = []
        for one, target in zip(boxes, targets, strict=True):
            assignment = assigner.assign(one, target.boxes, target.labels, target.ignored_boxes)
            samples.append(self.sampler.sample(assignment, one, target.boxes, target.labels))
        return samples

    def _labels(self, sample: Sample) -> torch.Tensor:
        """Gives the labels of a sample's regions (p + q,), num_classes for background."""
        return torch.cat([sample.pos_gt_labels, sample.neg_inds.new_full((len(sample.neg_inds),), self.num_classes)])

    def _box_losses(
        self, head: BBoxHead, logits: torch.Tensor, offsets: torch.Tensor, samples: Sequence[Sample]
    ) -> dict[str, torch.Tensor]:
        labels = torch.cat([self._labels(one) for one in samples])
        boxes = torch.cat([one.priors for one in samples])
        # Background has no true box; its own stands there, and is not read.
        true_boxes = torch.cat([box for one in samples for box in (one.pos_gt_boxes, one.neg_priors)])
        return head.losses(logits, offsets, boxes, labels, true_boxes)

    def _mask_losses(
        self,
        head: FCNMaskHead,
        features: Sequence[torch.Tensor],
        samples: Sequence[Sample],
        targets: Sequence[Instances],
    ) -> dict[str, torch.Tensor]:
        assert self.mask_size is not None
        logits = self._look_for_masks(head, features, [one.pos_priors for one in samples])
        truth = []
        for sample, target in zip(samples, targets, strict=True):
            assert target.masks is not None
            truth.append(mask_targets(target.masks, sample.pos_priors, sample.pos_assigned_gt_inds, self.mask_size))
        return head.losses(logits, torch.cat([one.pos_gt_labels for one in samples]), torch.cat(truth))


def _inverse(info: ImageInfo) -> tuple[float, float]:
    return 1 / info.scale_factor[0], 1 / info.scale_factor[1]
