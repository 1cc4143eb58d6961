"""Masks as run lengths, as in COCO's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as coco_masks


def encode_mask(mask: torch.Tensor | np.ndarray) -> dict[str, Any]:
    """Run-length encodes a mask.

    Only the bounding rectangle of the mask is transposed and searched. For objects that are much smaller than the image
    this is several times faster than COCO's own encoder, which reads every pixel.

    Args:
        mask: (height, width), bool or 0 and 1, on the CPU.

    Returns:
        `{"size": [height, width], "counts": "..."}` with COCO's compressed run lengths in column-major order, in ASCII.
    """
    array = (mask.numpy() if isinstance(mask, torch.Tensor) else mask).astype(bool, copy=False)
    height, width = array.shape
    rows = np.flatnonzero(array.any(axis=1))
    runs = np.array([height * width], dtype=np.int64)
    if rows.size:
        top, low = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(array[top:low].any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        # Column-major with a zero above and below each column, so that every run begins and ends in its column.
        transposed = np.zeros((right - left, low - top + 2), dtype=bool)
        transposed[:, 1:-1] = array[top:low, left:right].T
        steps = transposed[:, 1:] != transposed[:, :-1]
        column, row = np.divmod(np.flatnonzero(steps), steps.shape[1])
        borders = ((column + left) * height + row + top).reshape(-1, 2)  # start and end of each run
        # A run that ends at the lower border of the image continues at the top of the next column.
        separate = borders[1:, 0] != borders[:-1, 1]
        starts = borders[np.append(True, separate), 0]
        ends = borders[np.append(separate, True), 1]
        changes = np.stack([starts, ends], axis=1).reshape(-1)
        runs = np.diff(changes, prepend=0, append=height * width)
        runs = runs[:-1] if runs[-1] == 0 else runs
    encoded: Any = coco_masks.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def decode_mask(encoded: Mapping[str, Any]) -> np.ndarray:
    """Decodes a mask to (height, width) bool.

    Args:
        encoded: A mask as `encode_mask` returns it.
    """
    return np.ascontiguousarray(coco_masks.decode(dict(encoded))).astype(bool)
