"""What heads on anchors do alike: lay anchors, give them targets, compute the loss of boxes."""

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
    """Puts the numbers of all anchors of all levels in a row.

    Args:
        maps: (B, anchors * width, h, w) each.
        width: numbers of an anchor.

    Returns:
        (B, n, width), by level, row, column, anchor.
    """
    return torch.cat([one.permute(0, 2, 3, 1).reshape(len(one), -1, width) for one in maps], dim=1)


def sizes_of(maps: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    """Gives the (rows, columns) of maps (B, C, h, w)."""
    return [(int(one.shape[2]), int(one.shape[3])) for one in maps]


@dataclasses.dataclass
class AnchorTargets:
    """What the anchors of a batch are trained for. Rows count the anchors of all images, one image after the other.

    Attributes:
        pos_inds: (p,) int64, rows trained for objects.
        neg_inds: (q,) int64, rows trained for background.
        pos_anchors: (p, 4).
        pos_boxes: (p, 4), the objects' boxes.
        pos_labels: (p,) int64.
        num_pos: of each image.
        num_neg: of each image.
    """

    pos_inds: torch.Tensor
    neg_inds: torch.Tensor
    pos_anchors: torch.Tensor
    pos_boxes: torch.Tensor
    pos_labels: torch.Tensor
    num_pos: list[int]
    num_neg: list[int]


class AnchorHead(nn.Module):
    """A head that says something about every anchor; subclasses hold the convolutions.

    Args:
        anchor_generator: arguments of `AnchorGenerator`.
        bbox_coder: arguments of `DeltaXYWHBBoxCoder`.
        assigner: arguments of `MaxIoUAssigner`.
        sampler: draws the anchors that are trained.
        allowed_border: anchors that reach further than so many pixels out of the image are not trained; negative to
            train them too.
        bbox_loss: "l1" or "smooth_l1" on the offsets, "giou" on the boxes.
        smooth_l1_beta: below which difference "smooth_l1" is quadratic.
        loss_weights: of the loss of classes and of that of boxes.

    Raises:
        ValueError: unknown keys or an unknown loss.
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
            raise ValueError(unknown_name("loss of boxes", str(bbox_loss), BOX_LOSSES))
        if len(loss_weights) != 2:
            raise ValueError(f"loss_weights are those of classes and of boxes, not {tuple(loss_weights)}.")
        self.anchor_generator = AnchorGenerator(**filled("anchor generator", anchor_generator, AnchorSettings))
        self.bbox_coder = DeltaXYWHBBoxCoder(**filled("box coder", bbox_coder, CoderSettings))
        self.assigner = MaxIoUAssigner(**filled("assigner", assigner, AssignerSettings))
        self.sampler = sampler
        self.allowed_border = allowed_border
        self.bbox_loss = bbox_loss
        self.smooth_l1_beta = smooth_l1_beta
        self.loss_weights = tuple(loss_weights)

    def anchors_of(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Lays the anchors of each level's map (B, C, h, w): (h * w * anchors, 4)."""
        return self.anchor_generator.grid_anchors(sizes_of(maps), maps[0].device)

    @torch.no_grad()
    def targets_of(
        self, maps: Sequence[torch.Tensor], infos: Sequence[ImageInfo], targets: Sequence[Instances]
    ) -> AnchorTargets:
        """Finds what the anchors of a batch are trained for.

        Args:
            maps: (B, C, h, w) of each level.
            infos: of the B images.
            targets: the true objects of the B images.

        Returns:
            The anchors that are trained.

        Raises:
            ValueError: for other numbers of images.
        """
        if not len(maps[0]) == len(infos) == len(targets):
            raise ValueError(f"Maps of {len(maps[0])} images came with {len(infos)} infos, {len(targets)} targets.")
        sizes = sizes_of(maps)
        anchors = torch.cat(self.anchors_of(maps))
        rows: list[torch.Tensor] = []
        samples = []
        for index, (info, target) in enumerate(zip(infos, targets, strict=True)):
            trained = self._trained_rows(anchors, sizes, info)
            own = anchors if trained is None else anchors[trained]
            assigned = self.assigner.assign(own, target.boxes, target.labels, target.ignored_boxes)
            sample = self.sampler.sample(assigned, own, target.boxes, target.labels)
            samples.append(sample)
            for inds in (sample.pos_inds, sample.neg_inds):
                rows.append((inds if trained is None else trained[inds]) + index * len(anchors))
        return AnchorTargets(
            pos_inds=torch.cat(rows[0::2]),
            neg_inds=torch.cat(rows[1::2]),
            pos_anchors=torch.cat([one.pos_priors for one in samples]),
            pos_boxes=torch.cat([one.pos_gt_boxes for one in samples]),
            pos_labels=torch.cat([one.pos_gt_labels for one in samples]),
            num_pos=[len(one.pos_inds) for one in samples],
            num_neg=[len(one.neg_inds) for one in samples],
        )

    def _trained_rows(
        self, anchors: torch.Tensor, sizes: Sequence[tuple[int, int]], info: ImageInfo
    ) -> torch.Tensor | None:
        """Gives the rows of anchors that an image may train, None for all."""
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

    def loss_of_boxes(self, offsets: torch.Tensor, targets: AnchorTargets, avg_factor: float) -> torch.Tensor:
        """Computes the loss of boxes.

        Args:
            offsets: (n, 4), predicted for all anchors of the batch.
            targets: of those anchors.
            avg_factor: what the sum is divided by.

        Returns:
            A scalar, with its weight.
        """
        offsets = offsets[targets.pos_inds].float()
        if self.bbox_loss == "giou":
            boxes = self.bbox_coder.decode(targets.pos_anchors, offsets)
            loss = giou_loss(boxes, targets.pos_boxes, avg_factor=avg_factor)
        else:
            goal = self.bbox_coder.encode(targets.pos_anchors, targets.pos_boxes)
            if self.bbox_loss == "l1":
                loss = l1_loss(offsets, goal, avg_factor=avg_factor)
            else:
                loss = smooth_l1_loss(offsets, goal, avg_factor=avg_factor, beta=self.smooth_l1_beta)
        return self.loss_weights[1] * loss
