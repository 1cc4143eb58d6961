"""Reading label images: which class each pixel shows, exactly as the file has it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from PIL import Image

from ....heads.segmentation.pixel_losses import IGNORE_INDEX
from ..common.decoding import reading_image

MAX_CLASSES = 255
"""Labels are 0 to 254: label maps are uint8, and 255 is taken."""

_PNG_HEADER = struct.Struct(">8s4x4s8xBB")


def read_label_image(path: str) -> np.ndarray:
    """Reads the numbers of a label image, unchanged.

    A palette's indices are read, not its colours; gray of 1, 2 or 4 bits is not stretched to 8 (PIL's own reading
    makes 85 of a 1 in two bits).

    Args:
        path: of a PNG, TIFF or BMP of one channel: palette indices, or gray of 1 to 16 bits.

    Returns:
        (height, width) uint8, or uint16 or int32 where the file has more than 8 bits.

    Raises:
        ValueError: the image has colours or is compressed with losses, so that its values are no class numbers.
        BrokenImageError: the file is truncated, damaged or no image.
    """
    with reading_image(path), open(path, "rb") as file:
        start = file.read(_PNG_HEADER.size)
        file.seek(0)
        with Image.open(file) as image:
            image.load()
            mode, kind = image.mode, image.format
            values = np.asarray(image)
    if kind == "JPEG":
        raise ValueError(
            f"The label image {path} is a JPEG, whose values are only near to those saved: save it as PNG."
        )
    if values.ndim != 2 or mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(
            f"The label image {path} has colours (mode {mode}), not class numbers: write it anew as a PNG of one "
            "channel (gray, or a palette's indices) whose pixels are 0 for the first class, 1 for the second, and 255 "
            "for none."
        )
    if mode == "1":
        return values.astype(np.uint8)
    return values // _gray_factor(start) if mode == "L" else values


def _gray_factor(start: bytes) -> int:
    """What PIL multiplies gray of few bits by, found in the beginning of a PNG file; 1 for other files."""
    if len(start) < _PNG_HEADER.size:
        return 1
    signature, chunk, bits, colour = _PNG_HEADER.unpack(start)
    if signature != b"\x89PNG\r\n\x1a\n" or chunk != b"IHDR" or colour != 0 or bits >= 8:
        return 1
    return 255 // (2**bits - 1)


class LabelTable:
    """Turns a label image's values into labels, and finds values that mean nothing.

    Args:
        num_classes: labels are 0 to num_classes - 1, and 255.
        reduce_zero_label: the value 0 means nothing, and the classes begin with 1, as in ADE20K.
        values: which label each value has, where they are not the same; 255 for none. Values that are not in it are
            errors. None: the value is the label, and 255 is none.

    Raises:
        ValueError: there are more than 255 classes, or a label in `values` is none of them, or both ways are given.
    """

    def __init__(
        self, num_classes: int, reduce_zero_label: bool = False, values: Mapping[int, int] | None = None
    ) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise ValueError(
                f"A label map has 1 to {MAX_CLASSES} classes (255 marks ignored pixels), not {num_classes}."
            )
        if values is not None and reduce_zero_label:
            raise ValueError(
                "Give label_values or reduce_zero_label, not both: label_values={0: 255, 1: 0, ...} says it."
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
                    f"label_values gives the value {value} the label {label}: values are 0 to 65535, labels 0 to "
                    f"{num_classes - 1}, and 255 for pixels that do not count."
                )
            self._labels[int(value)] = label
            self._known[int(value)] = True

    def __call__(self, values: np.ndarray, path: str) -> np.ndarray:
        """Looks the labels up.

        Args:
            values: (height, width), as `read_label_image` gives them.
            path: for the error's message.

        Returns:
            (height, width) uint8.

        Raises:
            ValueError: some values mean nothing; the message names the file, the values and the remedy.
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
            return f"label_values knows {known}. Add the others, with the label 255 where they should not count."
        first = int(self.reduce_zero_label)
        return (
            f"with {self.num_classes} classes{' and reduce_zero_label' * self.reduce_zero_label}, values are "
            f"{first} to {self.num_classes - 1 + first}, and 255 for pixels that do not count. Correct the class "
            "names, or say what the values mean, as in label_values={0: 0, 255: 1}."
        )


def voc_palette(count: int = 256) -> list[list[int]]:
    """Pascal VOC's colours, which serve any set: near labels get colours far from each other.

    Each colour channel takes every third bit of the label, lowest bits first, into its highest bits.

    Args:
        count: of colours.

    Returns:
        [red, green, blue] by label.
    """
    return [
        [sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
        for label in range(count)
    ]
