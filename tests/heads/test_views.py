"""Detections of several views: mirrored back exactly, duplicates merged, best first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.heads.structures import Detections, ImageInfo
from attnzoo.heads.views import merge_views, unflip

SIZE = (40, 60)


def info(flip: bool = False, size: tuple[int, int] = SIZE) -> ImageInfo:
    return ImageInfo(image_size=size, original_size=size, flip=flip)


def found(rows: list[tuple[list[float], float, int]], masks: torch.Tensor | None = None) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        masks,
    )


def painted(*boxes: list[int]) -> torch.Tensor:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_mirroring_back_is_exact_for_boxes_and_masks():
    mirrored = found([([5, 10, 20, 30], 0.5, 1)], painted([5, 10, 20, 30]))
    upright = unflip(mirrored, width=60)
    assert upright.boxes.tolist() == [[40, 10, 55, 30]]
    assert upright.masks is not None
    assert torch.equal(upright.masks, painted([40, 10, 55, 30]))
    again = unflip(upright, width=60)
    assert torch.equal(again.boxes, mirrored.boxes)
    assert torch.equal(upright.boxes[:, 2] - upright.boxes[:, 0], torch.tensor([15.0]))


def test_the_same_object_in_two_views_is_found_once():
    plain = found([([0, 0, 20, 20], 0.6, 0), ([30, 0, 50, 20], 0.3, 1)], painted([0, 0, 20, 20], [30, 0, 50, 20]))
    # The same two objects, mirrored; the second is more certain here.
    flipped = found([([40, 0, 60, 20], 0.5, 0), ([10, 0, 30, 22], 0.9, 1)], painted([40, 0, 60, 20], [10, 0, 30, 22]))
    merged = merge_views([plain, flipped], [info(), info(flip=True)])
    assert merged.scores.tolist() == pytest.approx([0.9, 0.6])
    assert merged.labels.tolist() == [1, 0]
    assert merged.boxes.tolist() == [[30, 0, 50, 22], [0, 0, 20, 20]]
    assert merged.masks is not None
    assert torch.equal(merged.masks, painted([30, 0, 50, 22], [0, 0, 20, 20]))


def test_only_duplicates_of_a_class_merge():
    first = found([([0, 0, 20, 20], 0.6, 0)])
    second = found([([0, 0, 20, 20], 0.7, 1), ([0, 0, 9, 20], 0.5, 0), ([0, 0, 11, 20], 0.4, 0)])
    merged = merge_views([first, second], [info(), info()])
    # IoU with the first is 0.45 and 0.55.
    assert merged.scores.tolist() == pytest.approx([0.7, 0.6, 0.5])
    assert merged.masks is None
    assert len(merge_views([first, second], [info(), info()], nms_iou=0.4)) == 2
    assert merge_views([first, second], [info(), info()], max_per_img=2).scores.tolist() == pytest.approx([0.7, 0.6])


def test_one_view_comes_back_as_it_was():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(30, 2, generator=generator) * 1000
    boxes = torch.cat([corners, corners + 3], dim=1)  # too small to overlap often
    scores = torch.rand(30, generator=generator).sort(descending=True).values
    view = Detections(boxes, scores, torch.arange(30) % 80, torch.rand(30, *SIZE, generator=generator) > 0.5)
    merged = merge_views([view], [info()])
    for name in ("boxes", "scores", "labels", "masks"):
        assert torch.equal(getattr(merged, name), getattr(view, name))


def test_masks_follow_their_boxes():
    """Every detection of every view, none a duplicate, has its own mask afterwards."""
    views, infos = [], []
    for number, flip in enumerate((False, True, False, True)):
        boxes = [[14 * column, 10 * number, 14 * column + 9, 10 * number + 9] for column in range(4)]
        scores = [0.1 + ((7 * number + 5 * column) % 16) / 20 for column in range(4)]
        order = sorted(range(4), key=lambda place: -scores[place])
        shown = [[60 - boxes[place][2], boxes[place][1], 60 - boxes[place][0], boxes[place][3]] for place in order]
        rows = shown if flip else [boxes[place] for place in order]
        triples: Any = [(row, scores[place], number) for row, place in zip(rows, order, strict=True)]
        views.append(found(triples, painted(*rows)))
        infos.append(info(flip))
    merged = merge_views(views, infos)
    assert len(merged) == 16
    assert (merged.scores[:-1] >= merged.scores[1:]).all()
    assert merged.masks is not None
    assert torch.equal(merged.masks, painted(*merged.boxes.int().tolist()))


def test_views_without_detections():
    nothing = found([], torch.zeros(0, *SIZE, dtype=torch.bool))
    merged = merge_views([nothing, nothing], [info(), info(flip=True)])
    assert merged.boxes.shape == (0, 4)
    assert merged.masks is not None
    assert merged.masks.shape == (0, *SIZE)
    something = found([([0, 0, 20, 20], 0.6, 0)], painted([0, 0, 20, 20]))
    assert len(merge_views([nothing, something], [info(), info()])) == 1


def test_views_that_cannot_be_merged_raise():
    one = found([([0, 0, 20, 20], 0.6, 0)])
    with pytest.raises(ValueError, match="got 0 views and 0 infos"):
        merge_views([], [])
    with pytest.raises(ValueError, match="got 1 views and 2 infos"):
        merge_views([one], [info(), info()])
    with pytest.raises(ValueError, match=r"must show the same image, got original sizes.*\(20, 20\), \(40, 60\)"):
        merge_views([one, one], [info(), info(size=(20, 20))])
    with pytest.raises(ValueError, match="Either all views or none must have masks"):
        merge_views([one, found([], torch.zeros(0, *SIZE, dtype=torch.bool))], [info(), info()])
