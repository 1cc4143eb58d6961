"""scikit-learn's handwritten digits as an image folder: {train,val}/{0..9}/*.png.

The 1797 images are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI Machine
Learning Repository, 1998): 8x8 pixels with 17 gray levels. scikit-learn ships them, so nothing is downloaded. The split
is stratified and depends only on the seed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.arguments import check_choice
from .folder import is_up_to_date, write_folder

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
RECORD = "digits.json"
"""File beside train/ and val/ with the settings, and a checksum of the images."""


def stratified_split(labels: np.ndarray, val_fraction: float, seed: int) -> np.ndarray:
    """Selects validation samples, the same fraction of every class.

    Args:
        labels: Class of each sample, shape (N,).
        val_fraction: Fraction of each class, rounded to a whole number of samples.
        seed: Seed of numpy's RandomState, whose stream does not change between versions.

    Returns:
        True for validation samples, shape (N,).
    """
    selected = np.zeros(len(labels), dtype=bool)
    random = np.random.RandomState(seed)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        selected[members[: round(len(members) * val_fraction)]] = True
    return selected


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns the digits, uint8 in [0, 255] of shape (1797, 8, 8), and their labels (1797,).

    Raises:
        ValueError: If scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ValueError("The digits need scikit-learn: pip install 'attnzoo[quickstart]'.") from error
    pixels, labels = datasets.load_digits(return_X_y=True)
    return np.round(np.asarray(pixels).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), np.asarray(labels)


def digit_files(size: int, interpolation: str, val_fraction: float, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields the relative path and PNG content of each image, in a fixed order."""
    images, labels = load_digits()
    validation = stratified_split(labels, val_fraction, seed)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(image).resize((size, size), INTERPOLATIONS[interpolation]).save(buffer, format="PNG")
        split = "val" if validation[index] else "train"
        yield f"{split}/{label}/{index:04d}.png", buffer.getvalue()


def make_digits(
    out: str | os.PathLike[str],
    size: int = 32,
    interpolation: str = "bicubic",
    val_fraction: float = 0.2,
    seed: int = 0,
    force: bool = False,
) -> bool:
    """Writes the image folder, unless it exists with the same settings and is intact.

    Args:
        out: Folder to write. It appears only when it is complete.
        size: Height and width of the images in pixels, >= 8.
        interpolation: "nearest", "bilinear" or "bicubic".
        val_fraction: Fraction of each class for validation, between 0.01 and 0.99.
        seed: Seed of the split.
        force: Replace a folder that was made with other settings.

    Returns:
        True if the folder was written, False if it existed.

    Raises:
        ValueError: If a setting is out of range, or `out` has other contents.
    """
    if size < 8:
        raise ValueError(f"--size must be >= 8, the size of the digits, got {size}.")
    check_choice("--interpolation", interpolation, INTERPOLATIONS)
    if not 0.01 <= val_fraction <= 0.99:
        raise ValueError(f"--val-fraction must be between 0.01 and 0.99, got {val_fraction}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed must be between 0 and {2**32 - 1}, got {seed}.")
    settings = {"size": size, "interpolation": interpolation, "val_fraction": val_fraction, "seed": seed}
    if is_up_to_date(Path(out), RECORD, settings, "make_digits", force):
        return False
    files = dict(digit_files(size, interpolation, val_fraction, seed))
    counts = {split: sum(name.startswith(f"{split}/") for name in files) for split in ("train", "val")}
    source = "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, UCI, 1998), from scikit-learn"
    write_folder(Path(out), RECORD, files.items(), {"what": source, "settings": settings, "counts": counts})
    return True
