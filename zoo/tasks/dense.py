"""Base class of detectors and segmentors: a backbone, a neck, and batches of images of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import nn

from ...heads.structures import ImageInfo
from ...names import unknown_name
from .base import MODES, ExportPart, HeadedTask, build_part, map_channels


class DenseNormalization(TypedDict, total=False):
    """Arguments of `DensePreprocessor` in a config without a type."""

    mean: Sequence[float]
    std: Sequence[float]
    size_divisor: int
    train_size: Sequence[int]
    non_blocking: bool


class DenseTask(HeadedTask):
    """A backbone that returns feature maps, an optional neck, and heads, which subclasses add.

    Args:
        backbone: Config of a model with feature maps, or a module.
        neck: Config such as dict(type="FPN"), or a module. Its `in_channels` default to those of the backbone.
        data_preprocessor: Arguments of `DensePreprocessor`, or the config of another type.
        frozen_stages: See `Task`.
        norm_eval: See `Task`.
        init_weights: See `Task`.

    Attributes:
        info_modes: Modes that require the `ImageInfo` of each image.
    """

    filled_arguments = {"neck": ("in_channels",)}
    info_modes: tuple[str, ...] = ("predict",)

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module | None,
        data_preprocessor: DenseNormalization | dict | nn.Module | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_weights: str | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor, "DensePreprocessor", frozen_stages, norm_eval, init_weights)
        if isinstance(neck, dict) and "in_channels" not in neck:
            neck = {**neck, "in_channels": map_channels(self.backbone)}
        self.neck: Any = None if neck is None else build_part(neck)

    def features(self, image: torch.Tensor) -> Sequence[torch.Tensor]:
        """Computes the inputs of the heads.

        Args:
            image: (B, C, H, W), normalized.

        Returns:
            One feature map (B, channels, h, w) per level, finest first.
        """
        maps = self.backbone(image)
        return maps if self.neck is None else self.neck(maps)

    def export_parts(self) -> dict[str, ExportPart]:
        """Lists what can be exported; with a neck also "neck", the maps that the heads see."""
        parts = super().export_parts()
        if self.neck is not None:
            parts["neck"] = ExportPart(
                lambda task, image: task.features(image), ("map",), "the maps that the heads see"
            )
        return parts

    def _checked_inputs(
        self, mode: str, image: Any, info: Any, views: Sequence[Any] | None
    ) -> tuple[torch.Tensor, Sequence[ImageInfo]]:
        """Returns the images and infos of a batch after checking that the inputs of the mode are there.

        Raises:
            ValueError: The mode is unknown, or an input that it requires is missing.
        """
        if mode not in MODES:
            raise ValueError(unknown_name("mode", mode, MODES))
        if views is not None and mode != "predict":
            raise ValueError(f"A batch with views must have mode 'predict', got mode={mode!r}.")
        if views is None and image is None:
            raise ValueError("The batch has no `image`.")
        if views is None and mode in self.info_modes and info is None:
            raise ValueError("The batch has no `info`. Use dense_collate and DensePreprocessor.")
        return image, info
