"""Detections in several views of an image, scaled or mirrored, put together: test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .nms import batched_nms
from .structures import Detections, ImageInfo


def unflip(detections: Detections, width: float) -> Detections:
    """Mirrors what was found in a mirrored image back.

    Args:
        detections: n of them.
        width: of the image that boxes and masks are in, in pixels.

    Returns:
        The same detections: x becomes width - x, and a mask's first column its last.
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
    """Puts together what was found in several views of one image, as OpenMMLab's DetTTAModel does.

    The boxes of all views, mirrored back, go through a non-maximum suppression within each class: of boxes that
    overlap, that with the highest score stays, wherever it was found. OpenMMLab's merges no masks; here each kept box
    keeps the mask of its own view.

    Args:
        views: what was found in each view, as a head's `predict` gives it: boxes in pixels of the original image, masks
            as large as that, but mirrored where the view was.
        infos: of each view.
        nms_iou: boxes of a class whose IoU is higher are duplicates.
        max_per_img: how many detections stay at most.

    Returns:
        Best first.

    Raises:
        ValueError: there are no views, or views of several images, or only some views have masks.
    """
    if not views or len(views) != len(infos):
        raise ValueError(f"Merging needs one ImageInfo a view, and a view: there are {len(views)} and {len(infos)}.")
    sizes = {info.original_size for info in infos}
    if len(sizes) > 1:
        raise ValueError(f"These are views of different images: their original sizes are {sorted(sizes)}.")
    with_masks = {view.masks is not None for view in views}
    if len(with_masks) > 1:
        raise ValueError("Some views have masks and some have none: they cannot be merged.")
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
    """The masks of kept detections (n,), mirrored back; the others, which can be many and large, are not touched."""
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
