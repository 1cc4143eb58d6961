"""Plot a model's attention, receptive fields, feature maps and Grad-CAM as PNGs."""

from __future__ import annotations

import attnzoo.tools.openmp  # noqa: F401  # isort: skip  # before torch is imported

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnzoo.names import unknown_name
from attnzoo.tools.arguments import UserError, add_model_arguments, load_model_from_arguments, user_errors

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from attnzoo.zoo.model_loading import LoadedModel

KINDS = ("attention", "receptive", "features", "gradcam")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="visualize",
        description="Plot the attention weights of a query (attention), the pixels that a position depends on "
        "(receptive), feature maps as colors (features), and the evidence for a class (gradcam).",
        epilog="For blocks that do not attend to positions (large kernels, channel attention), the receptive field is "
        "plotted. Plots of agent attention show the product of both steps; those of BiFormer show the routed regions.",
    )
    add_model_arguments(parser, "IMAGE resized so that its shorter side is that of the model's images")
    parser.add_argument("image", metavar="IMAGE", help="image file")
    parser.add_argument(
        "--what", nargs="+", choices=KINDS, default=["attention"], help="what to plot (default: attention)"
    )
    parser.add_argument("--query", type=float, nargs=2, metavar=("X", "Y"), help="pixel of IMAGE (default: its center)")
    parser.add_argument(
        "--stage", type=int, help="index of the stage; negative values count from the end (default: the second to last)"
    )
    parser.add_argument("--block", type=int, default=-1, help="index of the block in its stage (default: -1, the last)")
    parser.add_argument(
        "--head", type=int, nargs="+", help="indices of the heads to plot (default: all, and their mean)"
    )
    parser.add_argument("--target", help="class of gradcam, by index or name (default: the predicted class)")
    parser.add_argument(
        "--out", help="PNG, or folder for several plots (default: MODEL_WHAT.png in the current folder)"
    )
    return parser.parse_args(argv)


def load_image(path: str, size: list[int] | None, model_size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Reads an image.

    Args:
        path: Path of the image.
        size: Shorter side, or height and width. None uses the shorter side of `model_size`.
        model_size: Height and width of the model's images.

    Returns:
        The image in its original size, and resized, both in RGB.

    Raises:
        UserError: If the file does not exist or is not an image, or the size is not positive.
    """
    from PIL import Image

    if size is not None and (len(size) > 2 or min(size) < 1):
        raise UserError(f"--size takes one or two positive numbers, the shorter side or height and width, got {size}.")
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except OSError as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    if size is not None and len(size) == 2:
        height, width = size
    else:
        scale = (size[0] if size else min(model_size)) / min(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
    return image, image.resize((width, height), Image.Resampling.BICUBIC)


def to_batch(image: Image.Image, loaded: LoadedModel) -> torch.Tensor:
    """Converts an image to a normalized batch (1, C, H, W)."""
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (loaded.mean, loaded.std))
    if loaded.in_chans == 1:
        pixels = pixels.mean(0, keepdim=True)
    if len(pixels) != loaded.in_chans:
        raise UserError(f"The model must take images with 1 or 3 channels, got in_chans={loaded.in_chans}.")
    return ((pixels - mean) / std)[None]


def find_target(given: str | None, loaded: LoadedModel) -> int | None:
    """Returns the class index for --target, or None if the option was not given.

    Raises:
        UserError: If there is no class of that name.
    """
    if given is None or given.isdigit():
        return None if given is None else int(given)
    if loaded.classes is None or given not in loaded.classes:
        if loaded.classes is None:
            raise UserError(f"--target must be a class index, got {given!r}: the model has no class names.")
        raise UserError(f"--target: {unknown_name('class', given, loaded.classes)}")
    return loaded.classes.index(given)


def short_name(model: str) -> str:
    """Returns the last part of a model name or config path."""
    return model.rpartition(":")[2].rstrip("/").rpartition("/")[2].removesuffix(".py")


def output_paths(args: argparse.Namespace) -> dict[str, Path]:
    """Returns the output file of each kind of plot.

    Raises:
        UserError: If --out is a single file, but several plots are requested.
    """
    stem = short_name(args.model)
    names = {kind: f"{stem}_{kind}.png" for kind in args.what}
    if args.out is None:
        return {kind: Path(name) for kind, name in names.items()}
    out = Path(args.out)
    if out.suffix.lower() == ".png":
        if len(args.what) > 1:
            raise UserError(f"--out must be a folder for {len(args.what)} plots, got the file {out}.")
        return dict.fromkeys(names, out)
    return {kind: out / name for kind, name in names.items()}


def main(argv: list[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    args = parse_args(argv)
    import numpy as np

    from attnzoo.zoo.files import write_bytes
    from attnzoo.zoo.plots.activations import draw_feature_maps, draw_grad_cam, draw_receptive_field
    from attnzoo.zoo.plots.attention import draw_attention
    from attnzoo.zoo.plots.view import View

    with user_errors() as outcome:
        paths = output_paths(args)
        loaded = load_model_from_arguments(args)
        original, image = load_image(args.image, args.size, loaded.image_size)
        scale = image.width / original.width, image.height / original.height
        query = tuple(args.query) if args.query else (original.width / 2, original.height / 2)
        if not (0 <= query[0] < original.width and 0 <= query[1] < original.height):
            raise UserError(
                f"--query must be inside the image of {original.width}x{original.height} pixels (width x height), "
                f"got {query[0]:g} {query[1]:g}."
            )
        name = short_name(args.model)
        if loaded.has_random_weights:
            name += " (random weights)"
            print(
                f"warning: {args.model} has random weights, so the plots do not show what a trained model does. "
                "--pretrained or --weights loads trained ones.",
                file=sys.stderr,
            )
        backbone: Any = loaded.backbone
        stages = getattr(backbone, "body", backbone).stages
        stage = max(0, len(stages) - 2) if args.stage is None else args.stage
        view = View(
            model=backbone,
            name=name,
            image=to_batch(image, loaded),
            photo=np.asarray(image),
            query=(query[0] * scale[0], query[1] * scale[1]),
            stage=stage,
            block=args.block,
        )
        for kind, path in paths.items():
            if kind == "attention":
                content, summary = draw_attention(view, heads=args.head)
            elif kind == "receptive":
                content, summary = draw_receptive_field(view)
            elif kind == "features":
                content, summary = draw_feature_maps(view)
            else:
                content, summary = draw_grad_cam(view, find_target(args.target, loaded), loaded.classes)
            print(f"{write_bytes(path, content)}: {summary}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
