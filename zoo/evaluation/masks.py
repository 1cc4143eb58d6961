"""Masks as run lengths, the way COCO's files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as coco_masks


def encode_mask(mask: torch.Tensor | np.ndarray) -> dict[str, Any]:
    """Encodes a mask.

    Only the rectangle that holds the mask is turned to columns and searched: for objects that are much smaller than
    their image this is several times faster than COCO's own encoder, which reads every pixel.

    Args:
        mask: (height, width), of bool, or of 0 and 1; on the CPU.

    Returns:
        `{"size": [height, width], "counts": "..."}`: COCO's compressed run lengths, column by column, in ASCII.
    """
    array = (mask.numpy() if isinstance(mask, torch.Tensor) else mask).astype(bool, copy=False)
    height, width = array.shape
    rows = np.flatnonzero(array.any(axis=1))
    runs = np.array([height * width], dtype=np.int64)
    if rows.size:
        top, low = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(array[top:low].any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        # Column by column, with a zero above and below each: every run begins and ends in its column.
        turned = np.zeros((right - left, low - top + 2), dtype=bool)
        turned[:, 1:-1] = array[top:low, left:right].T
        steps = turned[:, 1:] != turned[:, :-1]
        column, row = np.divmod(np.flatnonzero(steps), steps.shape[1])
        borders = ((column + left) * height + row + top).reshape(-1, 2)  # begin and end of each run
        # What ends at an image's lower border goes on at the top of the next column.
        apart = borders[1:, 0] != borders[:-1, 1]
        begins = borders[np.append(True, apart), 0]
        ends = borders[np.append(apart, True), 1]
        changes = np.stack([begins, ends], axis=1).reshape(-1)
        runs = np.diff(changes, prepend=0, append=height * width)
        runs = runs[:-1] if runs[-1] == 0 else runs
    encoded: Any = coco_masks.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def decode_mask(encoded: Mapping[str, Any]) -> np.ndarray:
    """Decodes a mask.

    Args:
        encoded: as `encode_mask` returns it.

    Returns:
        (height, width) bool.
    """
    return np.ascontiguousarray(coco_masks.decode(dict(encoded))).astype(bool)
