"""Reads label images, without changing the values of the file, and maps values to labels."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from ....deprecated_paths import renamed_names
from ....heads.segmentation.pixel_losses import IGNORE_INDEX
from ..common.decoding import open_image, read_file, reading_image

MAX_CLASSES = 255
"""Labels are 0 to 254, because label maps are uint8 and 255 marks pixels to ignore."""

_PNG_HEADER = struct.Struct(">8s4x4s8xBB")


def read_label_image(path: str) -> np.ndarray:
    """Reads the values of a label image.

    Of a palette image, the indices are read, not the colors. Gray images of 1, 2 or 4 bits are not scaled to 8 bits
    (PIL turns a 1 in two bits into 85).

    Args:
        path: Path of a PNG, TIFF or BMP with one channel: palette indices, or gray of 1 to 16 bits.

    Returns:
        (height, width) uint8, or uint16 or int32 if the file has more than 8 bits.

    Raises:
        ValueError: If the image has colors or lossy compression, so that its values are not labels.
        BrokenImageError: If the file is truncated, damaged or not an image.
    """
    file = read_file(path)
    start = file.getvalue()[: _PNG_HEADER.size]
    with reading_image(path), open_image(file) as image:
        image.load()
        mode, file_format = image.mode, image.format
        values = np.asarray(image)
    if file_format == "JPEG":
        raise ValueError(
            f"The label image {path} is a JPEG, whose compression changes values: save label images as PNG."
        )
    if values.ndim != 2 or mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(
            f"The label image {path} has colors (mode {mode}), not labels: convert it to a PNG with one channel (gray, "
            "or a palette's indices) whose pixels are 0 for the first class, 1 for the second, and 255 to be ignored."
        )
    if mode == "1":
        return values.astype(np.uint8)
    return values // _gray_factor(start) if mode == "L" else values


def _gray_factor(start: bytes) -> int:
    """Returns the factor by which PIL scales gray of less than 8 bits, read from a PNG header; 1 for other files."""
    if len(start) < _PNG_HEADER.size:
        return 1
    signature, chunk, bits, color_type = _PNG_HEADER.unpack(start)
    if signature != b"\x89PNG\r\n\x1a\n" or chunk != b"IHDR" or color_type != 0 or bits >= 8:
        return 1
    return 255 // (2**bits - 1)


class LabelTable:
    """Maps the values of label images to labels, and reports values without a label.

    Args:
        num_classes: Number of classes: labels are 0 to num_classes - 1, and 255.
        reduce_zero_label: Whether the value 0 is ignored and the classes begin at the value 1, as in ADE20K.
        values: Label of each value, 255 to ignore it; other values are errors. None means that values are labels.

    Raises:
        ValueError: If there are more than 255 classes, `values` contains an impossible label, or is given together with
            `reduce_zero_label`.
    """

    def __init__(
        self, num_classes: int, reduce_zero_label: bool = False, values: Mapping[int, int] | None = None
    ) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise ValueError(
                f"A label map can have 1 to {MAX_CLASSES} classes (255 marks ignored pixels), got {num_classes}."
            )
        if values is not None and reduce_zero_label:
            raise ValueError(
                "Set label_values or reduce_zero_label, not both: label_values={0: 255, 1: 0, ...} does the same."
            )
        self.num_classes = num_classes
        self.reduce_zero_label = reduce_zero_label
        self._given = values is not None
        if values is None:
            first = int(reduce_zero_label)
            values = {label + first: label for label in range(num_classes)} | {IGNORE_INDEX: IGNORE_INDEX}
            if reduce_zero_label:
                values[0] = IGNORE_INDEX
        self._labels = np.full(1 << 16, IGNORE_INDEX, np.uint8)
        self._known = np.zeros(1 << 16, bool)
        for value, label in values.items():
            if not 0 <= int(value) < 1 << 16 or not (0 <= label < num_classes or label == IGNORE_INDEX):
                raise ValueError(
                    f"label_values maps {value} to {label}: values must be in [0, 65535], labels in [0, "
                    f"{num_classes - 1}], or 255 for pixels to ignore."
                )
            self._labels[int(value)] = label
            self._known[int(value)] = True

    def __call__(self, values: np.ndarray, path: str) -> np.ndarray:
        """Looks up the labels.

        Args:
            values: (height, width), as `read_label_image` returns them.
            path: Path of the label image, for the error message.

        Returns:
            (height, width) uint8.

        Raises:
            ValueError: If values have no label; the message names the file, the values and the remedy.
        """
        if values.dtype != np.uint8 and values.size and not 0 <= values.min() <= values.max() < 1 << 16:
            raise ValueError(
                f"The label image {path} has values from {values.min()} to {values.max()}: {self._remedy()}"
            )
        size = 256 if values.dtype == np.uint8 else 1 << 16
        if not self._known[:size].all() and not self._known.take(values).all():
            unknown = np.unique(values[~self._known[values]])
            some = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise ValueError(f"The label image {path} has the value{'s' * (len(unknown) > 1)} {some}: {self._remedy()}")
        return self._labels.take(values)

    def _remedy(self) -> str:
        if self._given:
            known = ", ".join(map(str, np.flatnonzero(self._known)[:20]))
            return f"label_values contains {known}. Add the others, with the label 255 if they are to be ignored."
        first = int(self.reduce_zero_label)
        return (
            f"with {self.num_classes} classes{' and reduce_zero_label' * self.reduce_zero_label}, values must be in "
            f"[{first}, {self.num_classes - 1 + first}], or 255 for pixels to ignore. Correct the class names, or map "
            "the values to labels, as in label_values={0: 0, 255: 1}."
        )


def voc_palette(count: int = 256) -> list[list[int]]:
    """Returns Pascal VOC's colors, which suit any data set, because consecutive labels get very different colors.

    Each color channel takes every third bit of the label; the lowest bits of the label become its highest bits.

    Args:
        count: Number of colors.

    Returns:
        [red, green, blue] by label.
    """
    return [
        [sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
        for label in range(count)
    ]


__getattr__ = renamed_names(__name__, {"IGNORED": "IGNORE_INDEX", "MOST_CLASSES": "MAX_CLASSES"})
