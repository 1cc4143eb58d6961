"""What tools that take a model share: it is named by an entry point, a saved model or a config."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnzoo import create_model, is_model
from attnzoo.backbones.registry import split_model_name_tag
from attnzoo.tools.arguments import UserError
from attnzoo.zoo.config import load_config
from attnzoo.zoo.config.parts import backbone_of
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.tasks import task_kind
from attnzoo.zoo.weights import load_weights, weights_target
from attnzoo.zoo.weights.sources import split_source

_DETECTOR_SIZE = (800, 1344)  # pixels: OpenMMLab's usual test image, padded to multiples of 32
_SEGMENTOR_SIZE = (512, 512)


@dataclass(frozen=True)
class OpenedModel:
    """A model, and what must be known to give it images.

    Attributes:
        model: a backbone or a task, in evaluation mode.
        name: what the user called it.
        image_size: height and width in pixels that it is usually given.
        in_chans: channels of the images.
        mean: per channel, for pixel values in [0, 1].
        std: per channel, for pixel values in [0, 1].
        classes: names of the classes, where they are known.
        architecture: the backbone's entry point.
    """

    model: nn.Module
    name: str
    image_size: tuple[int, int]
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] | None
    architecture: str

    @property
    def backbone(self) -> Any:
        """The backbone of a task, or the model itself."""
        inner = getattr(self.model, "backbone", None)
        return inner if isinstance(inner, nn.Module) else self.model


def add_model_arguments(parser: argparse.ArgumentParser, size_default: str = "what the model was made for") -> None:
    """Adds MODEL, --weights, --pretrained, --num-classes, --size and --cfg-options."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model's name, such as nat_mini; hf-hub:owner/name; local-dir:folder; or a config, by path or name",
    )
    parser.add_argument("--weights", help="a checkpoint in any published form: a file, a URL, hf-hub:owner/name")
    parser.add_argument("--pretrained", action="store_true", help="the published weights of a model's name")
    parser.add_argument("--num-classes", type=int, help="of a model's name (default: as many as its weights have)")
    parser.add_argument(
        "--size", type=int, nargs="+", metavar="PIXELS", help=f"image side, or height and width ({size_default})"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="settings of a config"
    )


def size_from_arguments(args: argparse.Namespace, default: tuple[int, int]) -> tuple[int, int]:
    """Reads --size: height and width in pixels.

    Raises:
        UserError: it is not one number or two of at least 1.
    """
    if args.size is None:
        return default
    if len(args.size) > 2 or min(args.size) < 1:
        raise UserError(f"--size is one number of pixels or two, height and width; given: {args.size}.")
    return args.size[0], args.size[-1]


def open_model(args: argparse.Namespace, on_meta: bool = False, **options: Any) -> OpenedModel:
    """Builds the model that a command line names, with its weights.

    Args:
        args: of `add_model_arguments`.
        on_meta: build it on PyTorch's meta device, without values and weights.
        **options: further arguments of `create_model`, such as `features_only=True`; for a model's name alone.

    Raises:
        ValueError: there is no such model or config, or weights and model do not fit.
    """
    with torch.device("meta" if on_meta else "cpu"):
        kind = split_source(args.model)[0] if ":" in args.model else ""
        if kind in ("hf-hub", "local-dir") or is_model(split_model_name_tag(args.model)[0]):
            return _open_by_name(args, on_meta, **options)
        return _open_config(args, on_meta, **options)


def _open_by_name(args: argparse.Namespace, on_meta: bool, **options: Any) -> OpenedModel:
    if args.cfg_options:
        raise UserError(f"--cfg-options are settings of a config, but {args.model} is a model.")
    if on_meta:
        model: Any = create_model(args.model, num_classes=args.num_classes, **options)
    else:
        model = create_model(
            args.model, args.pretrained, checkpoint_path=args.weights, num_classes=args.num_classes, **options
        )
    return _opened(model.eval(), args.model, model.pretrained_cfg, None, None)


def _open_config(args: argparse.Namespace, on_meta: bool, **options: Any) -> OpenedModel:
    if args.pretrained or args.num_classes is not None:
        raise UserError("--pretrained and --num-classes belong to a model's name; a config says them itself.")
    if options:
        raise UserError(f"{', '.join(options)} belong to a model's name; a config says them itself.")
    cfg = load_config(args.model, args.cfg_options)
    if not cfg.get("model"):
        raise UserError(f"The config {args.model} has no model.")
    found = backbone_of(cfg.to_dict())
    settings = cfg.model.to_dict()
    settings.pop("init_weights", None)  # where training begins, not what is opened
    inner = settings if found is None or found[0] == "model" else settings["backbone"]
    if args.weights or on_meta:
        for key in ("pretrained", "checkpoint_path"):
            inner.pop(key, None)
    task: Any = MODELS.build(settings).eval()
    if args.weights and not on_meta:
        load_weights(weights_target(task), args.weights)
    preprocessor = settings.get("data_preprocessor") or {}
    size = (cfg.get("test_dataloader") or {}).get("dataset", {}).get("transform", {})
    size = size.get("size") if isinstance(size, Mapping) else None
    cfg_of_backbone = getattr(getattr(task, "backbone", task), "pretrained_cfg", None)
    return _opened(task, args.model, cfg_of_backbone, preprocessor, size)


def _opened(
    model: Any, name: str, pretrained_cfg: Mapping[str, Any] | None, preprocessor: Mapping[str, Any] | None, size: Any
) -> OpenedModel:
    known = dict(pretrained_cfg or {})
    images = {**known, **(preprocessor or {})}
    usual = tuple(known.get("input_size", (3, 224, 224)))
    kind = task_kind(model)
    if isinstance(size, int):
        height, width = size, size
    elif kind == "classification":
        height, width = usual[1:]
    else:
        height, width = _DETECTOR_SIZE if kind == "detection" else _SEGMENTOR_SIZE
    backbone = getattr(model, "backbone", model)
    backbone = getattr(backbone, "body", backbone)
    classes = known.get("label_names")
    return OpenedModel(
        model=model,
        name=name,
        image_size=(height, width),
        in_chans=getattr(backbone, "in_chans", usual[0]),
        mean=tuple(images.get("mean", (0.485, 0.456, 0.406))),
        std=tuple(images.get("std", (0.229, 0.224, 0.225))),
        classes=tuple(classes) if classes else None,
        architecture=str(known.get("architecture", type(backbone).__name__)),
    )
