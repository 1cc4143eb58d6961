"""Plot the inside of a model: attention of a query, receptive field, feature maps, Grad-CAM, as PNGs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from attnzoo.tools.arguments import UserError, add_model_arguments, load_model_from_arguments, user_errors
from attnzoo.zoo.files import write_bytes
from attnzoo.zoo.model_loading import LoadedModel
from attnzoo.zoo.plots.activations import draw_feature_maps, draw_grad_cam, draw_receptive_field
from attnzoo.zoo.plots.attention import draw_attention
from attnzoo.zoo.plots.view import View

KINDS = ("attention", "receptive", "features", "gradcam")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="visualize",
        description="Draw which keys a query sees and how strongly (attention), which pixels a position depends on "
        "(receptive), feature maps as colours (features), and what speaks for a class (gradcam).",
        epilog="Blocks without attention by position (large kernels, channel attention) are shown by their receptive "
        "field. Models of Agent attention show the product of both steps, BiFormers the regions that were chosen.",
    )
    add_model_arguments(parser, "the image's shorter side as large as the model's images")
    parser.add_argument("image", metavar="IMAGE", help="a picture")
    parser.add_argument("--what", nargs="+", choices=KINDS, default=["attention"], help="default: attention")
    parser.add_argument("--query", type=float, nargs=2, metavar=("X", "Y"), help="pixel of IMAGE (default: its middle)")
    parser.add_argument("--stage", type=int, help="stage, from 0; negative from the end (default: the last but one)")
    parser.add_argument("--block", type=int, default=-1, help="block of the stage (default: -1, the last)")
    parser.add_argument("--head", type=int, nargs="+", help="heads to draw (default: the mean and up to 7)")
    parser.add_argument("--target", help="of gradcam: a class's index or name (default: the most probable)")
    parser.add_argument("--out", help="PNG, or folder for several (default: MODEL_WHAT.png in this folder)")
    return parser.parse_args(argv)


def load_image(path: str, size: list[int] | None, usual: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Reads a picture.

    Args:
        path: of the file.
        size: --size: the shorter side, or height and width; None for the model's usual size as the shorter side.
        usual: height and width of the model's images.

    Returns:
        The picture as it is, and resized, both RGB.

    Raises:
        UserError: there is no such file, it is no picture, or the size is none.
    """
    if size is not None and (len(size) > 2 or min(size) < 1):
        raise UserError(f"--size is one number of pixels or two, height and width; given: {size}.")
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except OSError as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from error
    if size is not None and len(size) == 2:
        height, width = size
    else:
        scale = (size[0] if size else min(usual)) / min(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture, picture.resize((width, height), Image.Resampling.BICUBIC)


def normalised(picture: Image.Image, loaded: LoadedModel) -> torch.Tensor:
    """Converts an image to a normalized batch (1, C, H, W)."""
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (loaded.mean, loaded.std))
    if loaded.in_chans == 1:
        pixels = pixels.mean(0, keepdim=True)
    if len(pixels) != loaded.in_chans:
        raise UserError(f"The model takes images of {loaded.in_chans} channels; pictures have 3 or 1.")
    return ((pixels - mean) / std)[None]


def find_target(given: str | None, loaded: LoadedModel) -> int | None:
    """Finds the class that --target names.

    Raises:
        UserError: there is none of that name.
    """
    if given is None or given.isdigit():
        return None if given is None else int(given)
    if loaded.classes is None or given not in loaded.classes:
        known = (
            "its classes have no names" if loaded.classes is None else f"it has {', '.join(loaded.classes[:10])}, ..."
        )
        raise UserError(f"--target {given}: the model knows no such class; {known}. Give the class's index.")
    return loaded.classes.index(given)


def short_name(model: str) -> str:
    """Returns the last part of a model name or config path."""
    return model.rpartition(":")[2].rstrip("/").rpartition("/")[2].removesuffix(".py")


def paths(args: argparse.Namespace) -> dict[str, Path]:
    """Returns the output file of each kind of plot."""
    stem = short_name(args.model)
    names = {kind: f"{stem}_{kind}.png" for kind in args.what}
    if args.out is None:
        return {kind: Path(name) for kind, name in names.items()}
    out = Path(args.out)
    if out.suffix.lower() == ".png":
        if len(args.what) > 1:
            raise UserError(f"--out {out} is one file, but {len(args.what)} pictures are asked for: name a folder.")
        return dict.fromkeys(names, out)
    return {kind: out / name for kind, name in names.items()}


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    with user_errors() as outcome:
        places = paths(args)
        loaded = load_model_from_arguments(args)
        original, picture = load_image(args.image, args.size, loaded.image_size)
        scale = picture.width / original.width, picture.height / original.height
        query = tuple(args.query) if args.query else (original.width / 2, original.height / 2)
        if not (0 <= query[0] < original.width and 0 <= query[1] < original.height):
            raise UserError(
                f"--query {query[0]:g} {query[1]:g} lies outside the picture, which is {original.width} wide and "
                f"{original.height} high."
            )
        backbone: Any = loaded.backbone
        stages = getattr(backbone, "body", backbone).stages
        stage = max(0, len(stages) - 2) if args.stage is None else args.stage
        look = View(
            model=backbone,
            name=short_name(args.model),
            image=normalised(picture, loaded),
            photo=np.asarray(picture),
            query=(query[0] * scale[0], query[1] * scale[1]),
            stage=stage,
            block=args.block,
        )
        for kind, path in places.items():
            if kind == "attention":
                content, said = draw_attention(look, heads=args.head)
            elif kind == "receptive":
                content, said = draw_receptive_field(look)
            elif kind == "features":
                content, said = draw_feature_maps(look)
            else:
                content, said = draw_grad_cam(look, find_target(args.target, loaded), loaded.classes)
            print(f"{write_bytes(path, content)}: {said}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
