"""Writes scikit-learn's handwritten digits as an image folder: data/digits/{train,val}/{0..9}/*.png.

The 1797 pictures are real: the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI
Machine Learning Repository, 1998), 8x8 pixels with 17 grey levels. scikit-learn carries them, so nothing is downloaded.
The split is stratified and depends on the seed alone.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from attnzoo.tools.arguments import UserError, user_errors
from attnzoo.tools.made_folder import is_up_to_date, read_record, write_folder

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
RECORD = "digits.json"  # beside train/ and val/: how the folder was made, and a checksum over its pictures


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="make_digits",
        description="Write scikit-learn's 1797 handwritten digits as an image folder with a fixed stratified split.",
    )
    parser.add_argument("--out", default="data/digits", help="folder to write (default: %(default)s)")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels, 8 or more (default: 32)")
    parser.add_argument(
        "--interpolation",
        choices=sorted(INTERPOLATIONS),
        default="bicubic",
        help="how 8x8 is enlarged (default: bicubic)",
    )
    parser.add_argument(
        "--val-fraction", type=float, default=0.2, help="part of each class kept for validation (default: 0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace a folder that was made with other settings")
    return parser.parse_args(argv)


def stratified_split(labels: np.ndarray, val_fraction: float, seed: int) -> np.ndarray:
    """Chooses the validation samples, the same share of every class.

    Args:
        labels: class of each sample, shape (N,).
        val_fraction: share of each class, rounded to whole samples.
        seed: numpy's RandomState stream, which is frozen for good; so is the split.

    Returns:
        True for the samples kept for validation, shape (N,).
    """
    chosen = np.zeros(len(labels), dtype=bool)
    random = np.random.RandomState(seed)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        chosen[members[: round(len(members) * val_fraction)]] = True
    return chosen


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Gives the digits, uint8 of 0 to 255 (1797, 8, 8), and their labels (1797,).

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise UserError("scikit-learn carries the digits: pip install 'attnzoo[demo]'.") from error
    pixels, labels = datasets.load_digits(return_X_y=True)
    return np.round(np.asarray(pixels).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), np.asarray(labels)


def pictures(size: int, interpolation: str, val_fraction: float, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields each picture's relative path and PNG bytes, in a fixed order."""
    images, labels = load_digits()
    validation = stratified_split(labels, val_fraction, seed)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        grey = Image.fromarray(image)
        buffer = io.BytesIO()
        grey.resize((size, size), INTERPOLATIONS[interpolation]).save(buffer, format="PNG")
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
    """Makes the folder, unless it is there already with these settings and undamaged.

    Everything is written beside `out` and moved there in one step, so a folder called `out` is always complete.

    Args:
        out: the folder.
        size: height and width of the pictures in pixels.
        interpolation: "nearest", "bilinear" or "bicubic".
        val_fraction: share of each class for validation, above 0 and below 1.
        seed: seed of the split.
        force: replaces a folder that this script made with other settings.

    Returns:
        Whether anything had to be written.

    Raises:
        ValueError: a setting is out of range, or `out` holds something else.
    """
    out = Path(out)
    if size < 8:
        raise UserError(f"--size is {size}; the digits have 8x8 pixels, so it must be at least 8.")
    if not 0.01 <= val_fraction <= 0.99:
        raise UserError(f"--val-fraction is {val_fraction}; it must lie between 0.01 and 0.99.")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}; it must lie between 0 and {2**32 - 1}.")
    settings = {"size": size, "interpolation": interpolation, "val_fraction": val_fraction, "seed": seed}
    if is_up_to_date(out, RECORD, settings, force):
        return False
    files = dict(pictures(size, interpolation, val_fraction, seed))
    counts = {split: sum(name.startswith(f"{split}/") for name in files) for split in ("train", "val")}
    what = "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, UCI, 1998), from scikit-learn"
    write_folder(out, RECORD, files.items(), {"what": what, "settings": settings, "counts": counts})
    return True


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        written = make_digits(args.out, args.size, args.interpolation, args.val_fraction, args.seed, args.force)
        record = read_record(Path(args.out), RECORD)
        assert record is not None
        counts = record["counts"]
        state = "written" if written else "already there"
        print(f"{args.out}: {counts['train']} training and {counts['val']} validation images, {state}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
