"""Semantic segmentation: a backbone, an optional neck, and heads that classify every pixel."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import torch
from torch import nn

from ...heads.segmentation.label_maps import View, best_classes, sliding_windows
from ...heads.segmentation.pixel_losses import IGNORE_INDEX, check_labels
from ...heads.structures import ImageInfo
from ...names import unknown_name
from ..registry import MODELS
from .base import build_part, map_channels
from .dense import DenseTask
from .dense_preprocessing import DensePreprocessor


class Inference(TypedDict, total=False):
    """How images are predicted: complete, or in windows of `crop_size` with a `stride`, (height, width) in pixels."""

    mode: Literal["whole", "slide"]
    crop_size: Sequence[int]
    stride: Sequence[int]


@MODELS.register_module()
class Segmentor(DenseTask):
    """A backbone, an optional neck, a head, and an optional auxiliary head for training.

    Both heads get the same feature maps. `in_channels` defaults to the channels of the backbone's maps for a neck, and
    to those of the maps that `in_index` chooses for a head.

    Args:
        backbone: Config such as dict(type="nat_mini", features_only=True, dense="ade20k"), or a module.
        decode_head: Config such as dict(type="UPerHead", num_classes=150), or a module.
        neck: Config such as dict(type="FPN", num_outs=4), or a module.
        auxiliary_head: Config such as dict(type="FCNHead", in_index=2, num_convs=1, concat_input=False,
            loss_weight=0.4, num_classes=150), or a module. It is not used for predictions.
        inference: dict(mode="whole"), or dict(mode="slide", crop_size=(512, 512), stride=(341, 341)).
        settings: `data_preprocessor`, `frozen_stages` and other arguments of `DenseTask`.

    Attributes:
        num_classes: Number of classes.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    kind = "segmentation"
    filled_arguments = dict.fromkeys(("neck", "decode_head", "auxiliary_head"), ("in_channels",))
    classes_key = "model.decode_head.num_classes"

    def __init__(
        self,
        backbone: dict | nn.Module,
        decode_head: dict | nn.Module,
        neck: dict | nn.Module | None = None,
        auxiliary_head: dict | nn.Module | None = None,
        inference: Inference | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, neck, **settings)
        self.decode_head: Any = self._build_head(decode_head)
        self.auxiliary_head: Any = None if auxiliary_head is None else self._build_head(auxiliary_head)
        self.num_classes: int = self.decode_head.num_classes
        for key in ("num_classes", "ignore_index"):
            values = [getattr(head, key) for head in (self.decode_head, self.auxiliary_head) if head is not None]
            if len(set(values)) > 1:
                raise ValueError(
                    f"The heads must have the same {key}, got decode_head.{key}={values[0]} and "
                    f"auxiliary_head.{key}={values[1]}."
                )
        ignored = self.decode_head.ignore_index
        if isinstance(self.data_preprocessor, DensePreprocessor) and ignored != IGNORE_INDEX:
            raise ValueError(
                f"ignore_index must be {IGNORE_INDEX}, with which DensePreprocessor pads labels, got {ignored}."
            )
        self.inference = _checked(inference or {"mode": "whole"})
        # Labels are checked on the CPU, because a check on a GPU would synchronize every step.
        limits = {"num_classes": self.num_classes, "ignore_index": ignored}
        self.data_preprocessor.register_forward_pre_hook(functools.partial(_check_batch, **limits), with_kwargs=True)

    def _build_head(self, head: dict | nn.Module) -> Any:
        if isinstance(head, Mapping) and "in_channels" not in head:
            if self.neck is None:
                channels = map_channels(self.backbone)
            else:
                channels = [self.neck.out_channels] * self.neck.num_outs
            head = {**head, "in_channels": _used_channels(head, channels)}
        return build_part(head)

    def filter_checkpoint(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Converts names in a checkpoint of the complete task, and drops an auxiliary head that this task lacks."""
        names = super().filter_checkpoint(state_dict)
        if self.auxiliary_head is not None:
            return names
        return {name: tensor for name, tensor in names.items() if not name.startswith("auxiliary_head.")}

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] (mmengine calls it with the batch's keys)
        self,
        image: torch.Tensor | None = None,
        info: Sequence[ImageInfo] | None = None,
        label_map: torch.Tensor | Sequence[torch.Tensor] | None = None,
        views: Sequence[Sequence[dict[str, Any]]] | None = None,
        index: Sequence[int] | None = None,
        epoch: Sequence[int] | None = None,
        repeat: Sequence[int] | None = None,
        path: Sequence[str] | None = None,
        broken: Sequence[str] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Computes the losses, label maps or logits of a batch from the data preprocessor.

        Args:
            image: (B, C, H, W), normalized and padded.
            info: Sizes and flips of each image; required by "predict".
            label_map: For "loss", labels (B, H, W) int64 in the size of `image`. For "predict", the labels of each
                original image, copied to the predictions.
            views: Several views of each image, instead of `image` and `info`; for "predict".
            index: Index of each sample, copied to the predictions.
            epoch: Unused.
            repeat: Unused.
            path: Path of each image, copied to the predictions.
            broken: Unused.
            mode: "loss", "predict" or "tensor".

        Returns:
            "loss": A dict with `decode.loss_ce` and `decode.acc_seg` (percent), and the same with `aux.`.
            "predict": A list with one dict per image: the predicted `label_map` (height, width), int64 on the CPU
            in the size of the original image, the labels `truth`, `info`, `index` and `path`, or None if unknown.
            "tensor": Logits (B, num_classes, h, w), smaller than the images.

        Raises:
            ValueError: The mode is unknown, or an input that it requires is missing.
        """
        image, info = self._checked_inputs(mode, image, info, views)
        if views is not None:
            found = [best_classes([self._view_logits(**_view_inputs(view))[0] for view in sample]) for sample in views]
            info = [sample[0]["info"] for sample in views]
        elif mode == "tensor":
            return self.decode_head(self.features(image))
        elif mode == "loss":
            if not isinstance(label_map, torch.Tensor):
                raise ValueError(
                    "The mode 'loss' needs label maps, but the batch has no `label_map` or no DensePreprocessor."
                )
            return self._losses(image, label_map)
        else:
            found = [best_classes([view]) for view in self._view_logits(image, info)]
        unknown = [None] * len(found)
        truths = unknown if label_map is None else label_map
        columns = zip(found, truths, info, index or unknown, path or unknown, strict=True)
        return [
            {"label_map": one.cpu(), "truth": truth, "info": facts, "index": place, "path": name}
            for one, truth, facts, place, name in columns
        ]

    def _losses(self, image: torch.Tensor, label_map: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.features(image)
        losses = {}
        for prefix, head in (("decode", self.decode_head), ("aux", self.auxiliary_head)):
            if head is not None:
                losses |= {f"{prefix}.{name}": value for name, value in head.losses(features, label_map).items()}
        return losses

    @torch.no_grad()
    def _view_logits(self, image: torch.Tensor, info: Sequence[ImageInfo]) -> list[View]:
        """Computes the logits of each image (B, C, H, W), complete or in windows."""
        height, width = image.shape[-2:]
        boxes = [(0, 0, height, width)]
        if self.inference["mode"] == "slide":
            boxes = sliding_windows((height, width), self.inference["crop_size"], self.inference["stride"])
        logits = [
            self.decode_head(self.features(image[..., top:bottom, left:right])) for top, left, bottom, right in boxes
        ]
        return [
            View(
                windows=[(one[number], box) for one, box in zip(logits, boxes, strict=True)],
                padded_size=(height, width),
                image_size=facts.image_size,
                original_size=facts.original_size,
                flip=facts.flip,
                align_corners=self.decode_head.align_corners,
            )
            for number, facts in enumerate(info)
        ]


def _view_inputs(view: Mapping[str, Any]) -> dict[str, Any]:
    return {"image": view["image"], "info": [view["info"]]}


def _used_channels(head: Mapping[str, Any], channels: Sequence[int]) -> list[int] | int:
    """Returns the channels of the feature maps that a head's config chooses, an int if the head takes a single map."""
    index = head.get("in_index")
    if index is None:
        parameter = inspect.signature(MODELS.get(head["type"])).parameters.get("in_index")
        index = None if parameter is None else parameter.default
    if index is None:
        return list(channels)
    wanted = [index] if isinstance(index, int) else list(index)
    if not all(-len(channels) <= one < len(channels) for one in wanted):
        raise ValueError(
            f"in_index of {head['type']} must be between {-len(channels)} and {len(channels) - 1}, got {index}."
        )
    return channels[index] if isinstance(index, int) else [channels[one] for one in wanted]


def _checked(inference: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of inference after checking them, with sizes as pairs."""
    mode = inference.get("mode", "whole")
    if mode not in ("whole", "slide"):
        raise ValueError(unknown_name("mode of inference", mode, ("whole", "slide")))
    allowed = ("mode", "crop_size", "stride") if mode == "slide" else ("mode",)
    for key in inference:
        if key not in allowed:
            raise ValueError(unknown_name(f"key of inference with mode {mode!r}", key, allowed))
    if mode == "whole":
        return {"mode": mode}
    sizes = {key: tuple(inference.get(key, ())) for key in ("crop_size", "stride")}
    for key, size in sizes.items():
        if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
            raise ValueError(f"inference.{key} must be (height, width) in pixels with mode 'slide', got {size}.")
    if any(step > crop for step, crop in zip(sizes["stride"], sizes["crop_size"], strict=True)):
        raise ValueError(
            f"inference.stride must not exceed crop_size={sizes['crop_size']}, got {sizes['stride']}: windows would "
            "leave gaps."
        )
    return {"mode": mode, **sizes}


def _check_batch(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], num_classes: int, ignore_index: int
) -> None:
    """Raises a ValueError if a training batch has a label out of range; a hook before the data preprocessor."""
    call = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    data = call.get("data")
    if not call.get("training") or not isinstance(data, Mapping) or data.get("label_map") is None:
        return
    for number, label_map in enumerate(data["label_map"]):
        path = data["path"][number] if data.get("path") else f"number {number} of the batch"
        check_labels(label_map, num_classes, ignore_index, f"The label map of {path}")
