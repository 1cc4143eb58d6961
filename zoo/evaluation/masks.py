"""Masks as run lengths, the way COCO's files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as coco_masks


def encode_mask(mask: torch.Tensor | np.ndarray) -> dict[str, Any]:
    """Encodes a mask.

    Args:
        mask: (height, width), of bool, or of 0 and 1; on the CPU.

    Returns:
        `{"size": [height, width], "counts": "..."}`: COCO's compressed run lengths, column by column, in ASCII.
    """
    array = mask.numpy() if isinstance(mask, torch.Tensor) else mask
    encoded = coco_masks.encode(np.asfortranarray(array.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode_mask(encoded: Mapping[str, Any]) -> np.ndarray:
    """Decodes a mask.

    Args:
        encoded: as `encode_mask` returns it.

    Returns:
        (height, width) bool.
    """
    return np.ascontiguousarray(coco_masks.decode(dict(encoded))).astype(bool)
