"""Merging of detections from several views of an image (scales, flips) for test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .nms import batched_nms
from .structures import Detections, ImageInfo


def unflip(detections: Detections, width: float) -> Detections:
    """Maps the detections of a horizontally flipped image back to the original one.

    Args:
        detections: n detections.
        width: Width in pixels of the image that boxes and masks refer to.

    Returns:
        The detections with x replaced by width - x, and masks flipped.
    """
    left, top, right, bottom = detections.boxes.unbind(-1)
    return Detections(
        boxes=torch.stack([width - right, top, width - left, bottom], dim=-1),
        scores=detections.scores,
        labels=detections.labels,
        masks=None if detections.masks is None else detections.masks.flip(-1),
    )


def merge_views(
    views: Sequence[Detections], infos: Sequence[ImageInfo], nms_iou: float = 0.5, max_per_img: int = 100
) -> Detections:
    """Merges detections from several views of one image, as OpenMMLab's DetTTAModel does.

    The boxes of all views go through non-maximum suppression per class after being flipped back. OpenMMLab does not
    merge masks; here each kept box keeps the mask of its own view.

    Args:
        views: Detections of each view, as returned by `predict`: boxes in pixels of the original image, masks in its
            size, both flipped where the view was flipped.
        infos: Metadata of each view.
        nms_iou: IoU above which boxes of a class are duplicates.
        max_per_img: Maximum number of detections.

    Returns:
        The merged detections, best first.

    Raises:
        ValueError: There are no views, they belong to different images, or only some of them have masks.
    """
    if not views or len(views) != len(infos):
        raise ValueError(
            f"Expected one ImageInfo per view and at least one view, got {len(views)} views and {len(infos)} infos."
        )
    sizes = {info.original_size for info in infos}
    if len(sizes) > 1:
        raise ValueError(f"All views must show the same image, got original sizes {sorted(sizes)}.")
    with_masks = {view.masks is not None for view in views}
    if len(with_masks) > 1:
        raise ValueError("Either all views or none must have masks, got both.")
    width = infos[0].original_size[1]
    upright = [
        unflip(Detections(view.boxes, view.scores, view.labels), width) if info.flip else view
        for view, info in zip(views, infos, strict=True)
    ]
    boxes = torch.cat([view.boxes for view in upright])
    scores = torch.cat([view.scores for view in upright])
    labels = torch.cat([view.labels for view in upright])
    keep = batched_nms(boxes, scores, labels, nms_iou)[:max_per_img]
    return Detections(boxes[keep], scores[keep], labels[keep], _kept_masks(views, infos, keep))


def _kept_masks(views: Sequence[Detections], infos: Sequence[ImageInfo], keep: torch.Tensor) -> torch.Tensor | None:
    """Returns the masks of the kept detections (n,), flipped back, without touching the others."""
    first = views[0].masks
    if first is None:
        return None
    kept = first.new_zeros((len(keep), *first.shape[1:]))
    start = 0
    for view, info in zip(views, infos, strict=True):
        assert view.masks is not None
        own = (keep >= start) & (keep < start + len(view))
        masks = view.masks[keep[own] - start]
        kept[own] = masks.flip(-1) if info.flip else masks
        start += len(view)
    return kept
