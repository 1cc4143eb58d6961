"""Writes scikit-learn's handwritten digits as an image folder: data/digits/{train,val}/{0..9}/*.png.

The 1797 pictures are real: the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI
Machine Learning Repository, 1998), 8x8 pixels with 17 grey levels. scikit-learn carries them, so nothing is downloaded.
The split is stratified and depends on the seed alone.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from attnzoo.tools.arguments import UserError, user_errors

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


def pictures(size: int, interpolation: str, val_fraction: float, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields each picture's relative path and PNG bytes, in a fixed order."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("scikit-learn carries the digits: pip install 'attnzoo[demo]'.") from error
    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels).reshape(-1, 8, 8)
    validation = stratified_split(labels, val_fraction, seed)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
        buffer = io.BytesIO()
        grey.resize((size, size), INTERPOLATIONS[interpolation]).save(buffer, format="PNG")
        split = "val" if validation[index] else "train"
        yield f"{split}/{label}/{index:04d}.png", buffer.getvalue()


def checksum(folder: Path) -> str:
    """Hashes the names and bytes of all pictures below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*/*.png")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_record(folder: Path) -> dict | None:
    """Reads how `folder` was made; None if it was not made by this script or not finished."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


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
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        record = read_record(out) if out.is_dir() else None
        if record is None:
            raise UserError(f"{out} exists and was not made by make_digits; choose another folder with --out.")
        if record.get("settings") == settings and record.get("sha256") == checksum(out):
            return False
        if record.get("settings") != settings and not force:
            raise UserError(
                f"{out} was made with other settings ({record.get('settings')}); --force replaces it, --out chooses "
                "another folder."
            )

    out.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        fresh = workshop / "fresh"
        counts = {"train": 0, "val": 0}
        for name, content in pictures(size, interpolation, val_fraction, seed):
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            counts[name.split("/")[0]] += 1
        record = {
            "what": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, UCI, 1998), from scikit-learn",
            "settings": settings,
            "counts": counts,
            "sha256": checksum(fresh),
        }
        (fresh / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        if out.exists():
            os.replace(out, workshop / "replaced")
        os.replace(fresh, out)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return True


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        written = make_digits(args.out, args.size, args.interpolation, args.val_fraction, args.seed, args.force)
        record = read_record(Path(args.out))
        assert record is not None
        counts = record["counts"]
        state = "written" if written else "already there"
        print(f"{args.out}: {counts['train']} training and {counts['val']} validation images, {state}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
