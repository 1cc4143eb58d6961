"""Masks as run lengths: the same as COCO's own encoder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_masks

from attnzoo.zoo.evaluation.masks import decode_mask, encode_mask


def masks_of(shape: tuple[int, int]) -> Iterator[torch.Tensor]:
    """Empty and full ones, noise, rectangles at every border."""
    generator = torch.Generator().manual_seed(0)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        yield torch.rand(shape, generator=generator) < share
    for _ in range(20):
        mask = torch.zeros(shape, dtype=torch.bool)
        (top, low), (left, right) = (sorted(torch.randint(side + 1, (2,)).tolist()) for side in shape)
        mask[top:low, left:right] = True
        yield mask
    for rows, columns in [(slice(0, 1), slice(None)), (slice(-1, None), slice(None)), (slice(None), slice(-1, None))]:
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[rows, columns] = True
        yield mask
        yield ~mask


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (5, 7), (48, 64)])
def test_masks_are_encoded_as_coco_does(shape: tuple[int, int]):
    for mask in masks_of(shape):
        expected: Any = coco_masks.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        for given in (mask, mask.numpy(), mask.to(torch.uint8), mask.t().contiguous().t()):
            encoded = encode_mask(given)
            assert encoded == {"size": list(shape), "counts": expected["counts"].decode()}
        assert (decode_mask(encoded) == mask.numpy()).all()
        assert json.loads(json.dumps(encoded)) == encoded
