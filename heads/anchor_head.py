"""Base class of anchor-based heads: anchor generation, training targets and the box regression loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from ..names import unknown_name
from .anchors import AnchorGenerator, AnchorSettings
from .assignment import AssignerSettings, MaxIoUAssigner, PseudoSampler, RandomSampler
from .boxes import CoderSettings, DeltaXYWHBBoxCoder
from .losses import giou_loss, l1_loss, smooth_l1_loss
from .settings import filled
from .structures import ImageInfo, Instances

BoxLoss = Literal["l1", "smooth_l1", "giou"]

BOX_LOSSES = ("l1", "smooth_l1", "giou")


def flatten_maps(maps: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """Flattens the predictions of all levels to one row per anchor.

    Args:
        maps: Predictions of each level, (B, anchors * width, h, w).
        width: Number of predictions per anchor.

    Returns:
        (B, n, width), ordered by level, row, column and anchor.
    """
    return torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, width) for level in maps], dim=1)


def map_sizes(maps: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    """Returns the (rows, columns) of feature maps (B, C, h, w)."""
    return [(int(level.shape[2]), int(level.shape[3])) for level in maps]


@dataclasses.dataclass
class AnchorTargets:
    """Training targets of the anchors of a batch. Row numbers count through the anchors of all images in order.

    Attributes:
        pos_inds: (p,) int64, rows of positive anchors.
        neg_inds: (q,) int64, rows of negative anchors.
        pos_anchors: (p, 4) positive anchors.
        pos_boxes: (p, 4) ground-truth box of each positive anchor.
        pos_labels: (p,) int64 class of each positive anchor.
        num_pos: Number of positive anchors per image.
        num_neg: Number of negative anchors per image.
    """

    pos_inds: torch.Tensor
    neg_inds: torch.Tensor
    pos_anchors: torch.Tensor
    pos_boxes: torch.Tensor
    pos_labels: torch.Tensor
    num_pos: list[int]
    num_neg: list[int]


class AnchorHead(nn.Module):
    """Base class of heads that predict classes and offsets for every anchor; subclasses hold the convolutions.

    Args:
        anchor_generator: Arguments of `AnchorGenerator`.
        bbox_coder: Arguments of `DeltaXYWHBBoxCoder`.
        assigner: Arguments of `MaxIoUAssigner`.
        sampler: Selects the anchors that contribute to the loss.
        allowed_border: Anchors that extend more than this many pixels beyond the image are not trained. A negative
            value trains them too.
        bbox_loss: "l1" or "smooth_l1" on the offsets, or "giou" on the decoded boxes.
        smooth_l1_beta: Difference below which "smooth_l1" is quadratic.
        loss_weights: Weights of the classification loss and the box loss.

    Raises:
        ValueError: A setting or loss is unknown.
    """

    def __init__(
        self,
        anchor_generator: AnchorSettings | None,
        bbox_coder: CoderSettings | None,
        assigner: AssignerSettings | dict[str, Any] | None,
        sampler: RandomSampler | PseudoSampler,
        allowed_border: float,
        bbox_loss: BoxLoss,
        smooth_l1_beta: float,
        loss_weights: Sequence[float],
    ) -> None:
        super().__init__()
        if bbox_loss not in BOX_LOSSES:
            raise ValueError(unknown_name("box loss", str(bbox_loss), BOX_LOSSES))
        if len(loss_weights) != 2:
            raise ValueError(f"loss_weights must be two numbers (classification, boxes), got {tuple(loss_weights)}.")
        self.anchor_generator = AnchorGenerator(**filled("anchor_generator", anchor_generator, AnchorSettings))
        self.bbox_coder = DeltaXYWHBBoxCoder(**filled("bbox_coder", bbox_coder, CoderSettings))
        self.assigner = MaxIoUAssigner(**filled("assigner", assigner, AssignerSettings))
        self.sampler = sampler
        self.allowed_border = allowed_border
        self.bbox_loss = bbox_loss
        self.smooth_l1_beta = smooth_l1_beta
        self.loss_weights = tuple(loss_weights)

    def anchors_for(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the anchors (h * w * anchors, 4) of each level's feature map (B, C, h, w)."""
        return self.anchor_generator.grid_anchors(map_sizes(maps), maps[0].device)

    @torch.no_grad()
    def anchor_targets(
        self, maps: Sequence[torch.Tensor], infos: Sequence[ImageInfo], targets: Sequence[Instances]
    ) -> AnchorTargets:
        """Computes the training targets of the anchors of a batch.

        Args:
            maps: Feature maps (B, C, h, w) of all levels.
            infos: Metadata of the B images.
            targets: Ground truth of the B images.

        Returns:
            The sampled positive and negative anchors.

        Raises:
            ValueError: The numbers of images differ.
        """
        if not len(maps[0]) == len(infos) == len(targets):
            raise ValueError(
                f"Got feature maps of {len(maps[0])} images, {len(infos)} infos and {len(targets)} targets."
            )
        sizes = map_sizes(maps)
        anchors = torch.cat(self.anchors_for(maps))
        rows: list[torch.Tensor] = []
        samples = []
        for index, (info, target) in enumerate(zip(infos, targets, strict=True)):
            valid = self._valid_rows(anchors, sizes, info)
            candidates = anchors if valid is None else anchors[valid]
            assigned = self.assigner.assign(candidates, target.boxes, target.labels, target.ignored_boxes)
            sample = self.sampler.sample(assigned, candidates, target.boxes, target.labels)
            samples.append(sample)
            for inds in (sample.pos_inds, sample.neg_inds):
                rows.append((inds if valid is None else valid[inds]) + index * len(anchors))
        return AnchorTargets(
            pos_inds=torch.cat(rows[0::2]),
            neg_inds=torch.cat(rows[1::2]),
            pos_anchors=torch.cat([sample.pos_priors for sample in samples]),
            pos_boxes=torch.cat([sample.pos_gt_boxes for sample in samples]),
            pos_labels=torch.cat([sample.pos_gt_labels for sample in samples]),
            num_pos=[len(sample.pos_inds) for sample in samples],
            num_neg=[len(sample.neg_inds) for sample in samples],
        )

    def _valid_rows(
        self, anchors: torch.Tensor, sizes: Sequence[tuple[int, int]], info: ImageInfo
    ) -> torch.Tensor | None:
        """Returns the rows of the anchors that an image may train, None for all."""
        padded = info.padded_size or info.batch_size
        strides = self.anchor_generator.strides
        flags = None
        if padded is not None and any(
            stride * (rows - 1) >= padded[0] or stride * (columns - 1) >= padded[1]
            for (rows, columns), stride in zip(sizes, strides, strict=True)
        ):
            flags = torch.cat(self.anchor_generator.valid_flags(sizes, padded, anchors.device))
        if self.allowed_border >= 0:
            border, (height, width) = self.allowed_border, info.image_size
            inside = (
                (anchors[:, 0] >= -border)
                & (anchors[:, 1] >= -border)
                & (anchors[:, 2] < width + border)
                & (anchors[:, 3] < height + border)
            )
            flags = inside if flags is None else flags & inside
        return None if flags is None else flags.nonzero().flatten()

    def box_loss(self, offsets: torch.Tensor, targets: AnchorTargets, avg_factor: float) -> torch.Tensor:
        """Computes the box regression loss.

        Args:
            offsets: (n, 4) predicted offsets of all anchors of the batch.
            targets: Training targets of these anchors.
            avg_factor: Divisor of the summed loss.

        Returns:
            The weighted loss, a scalar.
        """
        offsets = offsets[targets.pos_inds].float()
        if self.bbox_loss == "giou":
            boxes = self.bbox_coder.decode(targets.pos_anchors, offsets)
            loss = giou_loss(boxes, targets.pos_boxes, avg_factor=avg_factor)
        else:
            expected = self.bbox_coder.encode(targets.pos_anchors, targets.pos_boxes)
            if self.bbox_loss == "l1":
                loss = l1_loss(offsets, expected, avg_factor=avg_factor)
            else:
                loss = smooth_l1_loss(offsets, expected, avg_factor=avg_factor, beta=self.smooth_l1_beta)
        return self.loss_weights[1] * loss
