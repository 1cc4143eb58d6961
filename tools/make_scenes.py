"""Writes scenes of real handwritten digits on textured ground as a COCO data set and as pairs of image and label map.

    data/scenes/{train,val}/*.jpg                 the pictures
    data/scenes/annotations/instances_{split}.json   boxes and masks of the digits, in COCO's format
    data/scenes/labels/{train,val}/*.png          label maps: 0 is the ground, 1 to 10 are the digits 0 to 9

The digits are those of `make_digits`, split in the same way: no digit of a training scene occurs in a validation scene.
They are written in a bright ink of any tint on dark ground of any colour, are a fifth to two fifths of the scene large,
and may cover each other and reach over the border. Everything depends on the seed alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as rle
from PIL import Image

from attnzoo.tools.arguments import UserError, user_errors
from attnzoo.tools.made_folder import is_up_to_date, read_record, write_folder
from attnzoo.tools.make_digits import load_digits, stratified_split

RECORD = "scenes.json"
LEAST_VISIBLE = 0.75  # of a digit's pixels; with less it is not placed, and nothing may hide more of it


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: (size, size, 3) uint8.
        digits: which digit each object is.
        masks: (objects, size, size) bool, the visible pixels of each; disjoint.
    """

    image: np.ndarray
    digits: list[int]
    masks: np.ndarray


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="make_scenes",
        description="Write scenes of handwritten digits as a COCO data set and as image and label map pairs.",
    )
    parser.add_argument("--out", default="data/scenes", help="folder to write (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels, 64 or more (default: 128)")
    parser.add_argument("--train", type=int, default=3200, help="training scenes (default: 3200)")
    parser.add_argument("--val", type=int, default=100, help="validation scenes (default: 100)")
    parser.add_argument("--most", type=int, default=4, help="most digits in a scene (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace a folder that was made with other settings")
    return parser.parse_args(argv)


def ground(size: int, random: np.random.RandomState) -> np.ndarray:
    """Makes textured ground: noise of several scales around one dark colour, (size, size, 3) float of 0 to 255."""
    colour = random.uniform(20, 120, 3)
    texture = np.zeros((size, size, 3))
    for cells in (3, 8, 20, size):
        grid = Image.fromarray((random.uniform(size=(cells, cells, 3)) * 255).astype(np.uint8))
        layer = np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), dtype=float) - 127.5
        texture += layer * random.uniform(0.05, 0.2)
    return np.clip(colour + texture, 0, 255)


def stamp(digit: np.ndarray, side: int) -> np.ndarray:
    """Enlarges a digit (8, 8) to (side, side), cut to its strokes: float of 0 to 1."""
    enlarged = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    alpha = np.clip((np.asarray(enlarged, dtype=float) / 255 - 0.25) * 2, 0, 1)
    strokes = alpha > 0.5
    rows, columns = np.flatnonzero(strokes.any(1)), np.flatnonzero(strokes.any(0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def compose(digits: np.ndarray, labels: np.ndarray, size: int, most: int, random: np.random.RandomState) -> Scene:
    """Composes a scene.

    Args:
        digits: to choose from, uint8 (N, 8, 8).
        labels: which digit each is, (N,).
        size: height and width in pixels.
        most: most digits in the scene; at least one is.
        random: what everything is drawn from.
    """
    image, masks, found, whole = ground(size, random), [], [], []
    attempts = random.randint(1, most + 1)
    while attempts > 0 or not masks:
        attempts -= 1
        choice = random.randint(len(digits))
        alpha = stamp(digits[choice], random.randint(size // 5, 2 * size // 5 + 1))
        top, left = (random.randint(-side // 6, size - side + side // 6) for side in alpha.shape)
        layer = np.zeros((size, size))
        inside = tuple(
            slice(max(0, at), min(size, at + side)) for at, side in zip((top, left), alpha.shape, strict=True)
        )
        rows, columns = inside
        layer[inside] = alpha[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        mask = layer > 0.5
        covered = [known & ~mask for known in masks]
        kept = [int(known.sum()) >= LEAST_VISIBLE * area for known, area in zip(covered, whole, strict=True)]
        if mask.sum() < LEAST_VISIBLE * (alpha > 0.5).sum() or not all(kept):
            continue
        inks = random.uniform(150, 255, (8, 3))
        colour = inks[np.abs(inks - image[mask].mean(0)).sum(1).argmax()]
        image = image + (colour - image) * layer[..., None]
        masks = [*covered, mask]
        whole.append(int((alpha > 0.5).sum()))
        found.append(int(labels[choice]))
    pixels = np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    return Scene(pixels, found, np.stack(masks))


def coco(scenes: list[Scene]) -> dict[str, Any]:
    """Writes scenes down as COCO does: boxes as x, y, width, height, masks run-length encoded."""
    images, annotations = [], []
    for index, scene in enumerate(scenes):
        height, width = scene.image.shape[:2]
        images.append({"id": index + 1, "file_name": f"{index + 1:06d}.jpg", "height": height, "width": width})
        for digit, mask in zip(scene.digits, scene.masks, strict=True):
            encoded: Any = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": digit + 1,
                    "bbox": [float(value) for value in rle.toBbox(encoded)],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": encoded["counts"].decode()},
                }
            )
    categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
    return {"images": images, "annotations": annotations, "categories": categories}


def files(size: int, train: int, val: int, most: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields the relative path and content of each file, in a fixed order."""
    digits, labels = load_digits()
    validation = stratified_split(labels, 0.2, seed=0)
    for split, count, chosen in (("train", train, ~validation), ("val", val, validation)):
        random = np.random.RandomState([seed, split == "val"])
        scenes = [compose(digits[chosen], labels[chosen], size, most, random) for _ in range(count)]
        for index, scene in enumerate(scenes):
            name = f"{index + 1:06d}"
            label_map = np.zeros((size, size), dtype=np.uint8)
            for digit, mask in zip(scene.digits, scene.masks, strict=True):
                label_map[mask] = digit + 1
            yield f"{split}/{name}.jpg", _encoded(scene.image, "JPEG", quality=90)
            yield f"labels/{split}/{name}.png", _encoded(label_map, "PNG")
        yield f"annotations/instances_{split}.json", json.dumps(coco(scenes)).encode()


def _encoded(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form, **options)
    return buffer.getvalue()


def make_scenes(
    out: str | os.PathLike[str],
    size: int = 128,
    train: int = 3200,
    val: int = 100,
    most: int = 4,
    seed: int = 0,
    force: bool = False,
) -> bool:
    """Makes the folder, unless it is there already with these settings and undamaged.

    Args:
        out: the folder.
        size: height and width of the scenes in pixels.
        train: number of training scenes.
        val: number of validation scenes.
        most: most digits in a scene.
        seed: of everything.
        force: replaces a folder that this script made with other settings.

    Returns:
        Whether anything had to be written.

    Raises:
        ValueError: a setting is out of range, or `out` holds something else.
    """
    for name, value, least in (("size", size, 64), ("train", train, 1), ("val", val, 1), ("most", most, 1)):
        if value < least:
            raise UserError(f"--{name} is {value}; it must be at least {least}.")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}; it must lie between 0 and {2**32 - 1}.")
    settings = {"size": size, "train": train, "val": val, "most": most, "seed": seed}
    if is_up_to_date(Path(out), RECORD, settings, force):
        return False
    write_folder(Path(out), RECORD, files(**settings), {"settings": settings})
    return True


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        written = make_scenes(args.out, args.size, args.train, args.val, args.most, args.seed, args.force)
        record = read_record(Path(args.out), RECORD)
        assert record is not None
        settings = record["settings"]
        state = "written" if written else "already there"
        print(f"{args.out}: {settings['train']} training and {settings['val']} validation scenes, {state}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
