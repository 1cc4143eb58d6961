"""Checks the masks in annotation files in COCO's format, and packs them into bytes."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from .file_errors import MAX_PIXELS, FileErrors, shortened
from .run_lengths import MAX_DIGITS, run_length_totals

POLYGON_UNITS = 1000
"""Polygons are stored as integers in thousandths of a pixel, which is exact for files with up to 3 decimals."""

Segmentation = list[np.ndarray] | tuple[bytes, tuple[int, int]] | None
"""An instance's mask as in the file: polygons, each (k, 2) float64, x and y in pixels; or COCO's compressed run lengths
and the mask's (height, width); or None."""

_RULE = (
    "segmentation must be a list of polygons [[x, y, x, y, ...], ...] of finite numbers in pixels, or run lengths "
    "{size: [height, width], counts: ...}"
)
_LIMIT = 2**31 / POLYGON_UNITS
_REACH = 4
"""Polygons may extend this many times the longer side of their image from its upper left corner, because rasterizing
takes memory for all that is left of and above the image."""

_DAMAGED = b"~"
_CHUNK = 2**14
"""Number of masks that are converted at once, to bound the memory for their coordinates."""


def pack_segmentations(
    segmentations: Sequence[Any], sizes: np.ndarray, name: Callable[[int], str], errors: FileErrors
) -> list[bytes]:
    """Packs masks: 12 bytes for the number of polygons (0: run lengths), height and width; then the content.

    Args:
        segmentations: Masks as in the file.
        sizes: (masks, 2), height and width of their images.
        name: Returns the name of an annotation by its index, for messages.
        errors: Takes the masks that are wrong.

    Returns:
        One byte string per mask, which `unpack_segmentation` reads; empty for a mask without a polygon of at least
        three points, and for those that are wrong.
    """
    packed = [b""] * len(segmentations)
    for start in range(0, len(segmentations), _CHUNK):
        polygons, run_lengths = [], []
        for index in range(start, min(start + _CHUNK, len(segmentations))):
            segmentation = segmentations[index]
            if type(segmentation) is list:
                polygons.append(index)
            elif _are_run_lengths(segmentation):
                run_lengths.append(index)
            elif segmentation is not None:
                errors.add(_RULE, [f"{name(index)} has {shortened(segmentation)}"])
        _pack_polygons(polygons, segmentations, sizes, packed, name, errors)
        _pack_run_lengths(run_lengths, segmentations, sizes, packed, name, errors)
    return packed


def unpack_segmentation(packed: bytes) -> Segmentation:
    """Returns a mask that `pack_segmentations` packed."""
    if not packed:
        return None
    count, height, width = np.frombuffer(packed[:12], dtype=np.int32)
    if count == 0:
        return packed[12:], (int(height), int(width))
    sides = np.frombuffer(packed[12 : 12 + 4 * count], dtype=np.int32)
    points = np.frombuffer(packed[12 + 4 * count :], dtype=np.int32).reshape(-1, 2) / POLYGON_UNITS
    return np.split(points, np.cumsum(sides)[:-1])


def _pack_polygons(
    indices: Sequence[int],
    segmentations: Sequence[Any],
    sizes: np.ndarray,
    packed: list[bytes],
    name: Callable[[int], str],
    errors: FileErrors,
) -> None:
    if _points([segmentations[index] for index in indices]) is None:
        wrong = {index for index in indices if _points([segmentations[index]]) is None}
        errors.add(_RULE, (f"{name(index)} has {shortened(segmentations[index])}" for index in sorted(wrong)))
        indices = [index for index in indices if index not in wrong]
    # A polygon needs 3 points; mmdet drops those with fewer, too.
    kept = [[ring for ring in segmentations[index] if len(ring) >= 6] for index in indices]
    points = _points(kept)
    assert points is not None, "wrong ones are left out above"
    counts = [sum(map(len, rings)) for rings in kept]
    reach = _REACH * sizes[indices].max(axis=1) if indices else np.zeros(0)
    far = set(np.repeat(np.array(indices, dtype=np.int64), counts)[np.abs(points) > np.repeat(reach, counts)].tolist())
    errors.add(
        f"polygons must not extend beyond {_REACH} times the size of their image",
        (f"{name(index)} has {shortened(segmentations[index])}" for index in sorted(far)),
    )
    content = np.rint(points * POLYGON_UNITS).astype(np.int32).tobytes()
    begin = 0
    for index, rings in zip(indices, kept, strict=True):
        if rings:
            sides = [len(ring) // 2 for ring in rings]
            end = begin + 8 * sum(sides)
            head = struct.pack(f"{3 + len(rings)}i", len(rings), *sizes[index].tolist(), *sides)
            packed[index] = head + content[begin:end]
            begin = end


def _points(polygons: Sequence[list[Any]]) -> np.ndarray | None:
    """Returns the coordinates of all polygons in a row, float64; None if something in them is wrong."""
    rings = list(itertools.chain.from_iterable(polygons))
    if not set(map(type, rings)) <= {list} or any(len(ring) % 2 for ring in rings):
        return None
    if not set(map(type, itertools.chain.from_iterable(rings))) <= {int, float}:
        return None
    try:
        points = np.fromiter(itertools.chain.from_iterable(rings), np.float64, sum(map(len, rings)))
    except OverflowError:  # an integer of hundreds of digits
        return None
    return points if bool((np.abs(points) < _LIMIT).all()) else None  # NaN compares as false


def _are_run_lengths(value: Any) -> bool:
    if type(value) is not dict or type(value.get("size")) is not list or type(value.get("counts")) not in (str, list):
        return False
    size, counts = value["size"], value["counts"]
    if len(size) != 2 or not all(type(side) is int and 0 < side <= MAX_PIXELS for side in size):
        return False
    if type(counts) is str:
        return counts.isascii()
    return set(map(type, counts)) <= {int} and all(0 <= count <= MAX_PIXELS for count in counts)


def _pack_run_lengths(
    indices: Sequence[int],
    segmentations: Sequence[Any],
    sizes: np.ndarray,
    packed: list[bytes],
    name: Callable[[int], str],
    errors: FileErrors,
) -> None:
    texts: list[bytes] = []
    for index in indices:
        counts, size = segmentations[index]["counts"], segmentations[index]["size"]
        if isinstance(counts, list):
            # With a total that fits: the encoder would allocate what the numbers claim.
            fits = sum(counts) == size[0] * size[1]
            encoded: Any = coco_mask.frPyObjects({"size": size, "counts": counts}, *size) if fits else {"counts": b""}
            texts.append(encoded["counts"])
        else:
            # Longer than one run per pixel: not worth the memory to look at.
            texts.append(counts.encode() if len(counts) <= MAX_DIGITS * (size[0] * size[1] + 1) else _DAMAGED)
    for index, text, total in zip(indices, texts, run_length_totals(texts).tolist(), strict=True):
        height, width = segmentations[index]["size"]
        image_height, image_width = sizes[index].tolist()
        if (height, width) != (image_height, image_width):
            errors.add(
                "the size of run lengths must be the height x width of their image",
                [f"{name(index)} has {height}x{width}, its image {image_height}x{image_width}"],
            )
        elif total != height * width:
            errors.add(
                "run lengths must cover their height x width",
                [f"{name(index)} has {height}x{width}, but {_covered(segmentations[index]['counts'], total)}"],
            )
        else:
            packed[index] = struct.pack("3i", 0, height, width) + text


def _covered(counts: str | list[int], total: int) -> str:
    if isinstance(counts, list):
        return f"run lengths of {sum(counts)} pixels"
    return "damaged run lengths" if total < 0 else f"run lengths of {total} pixels"
