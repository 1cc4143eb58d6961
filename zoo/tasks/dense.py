"""What detectors and segmentors do alike: a backbone's maps through a neck, and a batch of images of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import nn

from ...heads.structures import ImageInfo
from ...names import unknown_name
from .base import MODES, ExportPart, HeadedTask, build_part, map_channels


class DenseNormalisation(TypedDict, total=False):
    """The settings of `DensePreprocessor`, where a config names no type."""

    mean: Sequence[float]
    std: Sequence[float]
    size_divisor: int
    train_size: Sequence[int]
    non_blocking: bool


class DenseTask(HeadedTask):
    """A backbone that gives maps, a neck where there is one, and heads that a subclass adds.

    Args:
        backbone: a config of MODELS that builds feature maps, or a module.
        neck: a config of MODELS, such as dict(type="FPN"), whose `in_channels` are the backbone's where it has none; a
            module; None for none.
        data_preprocessor: settings of `DensePreprocessor`, or a config of another type.
        frozen_stages: see `Task`.
        norm_eval: see `Task`.
        init_weights: see `Task`.

    Attributes:
        info_modes: the modes that need to know how an image came to be.
    """

    filled_arguments = {"neck": ("in_channels",)}
    info_modes: tuple[str, ...] = ("predict",)

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module | None,
        data_preprocessor: DenseNormalisation | dict | nn.Module | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_weights: str | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor, "DensePreprocessor", frozen_stages, norm_eval, init_weights)
        if isinstance(neck, dict) and "in_channels" not in neck:
            neck = {**neck, "in_channels": map_channels(self.backbone)}
        self.neck: Any = None if neck is None else build_part(neck)

    def features(self, image: torch.Tensor) -> Sequence[torch.Tensor]:
        """Gives the maps that the heads see.

        Args:
            image: (B, C, H, W), normalised.

        Returns:
            One (B, channels, h, w) a level, the finest first.
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

    def _given(
        self, mode: str, image: Any, info: Any, views: Sequence[Any] | None
    ) -> tuple[torch.Tensor, Sequence[ImageInfo]]:
        """Gives a batch's image and infos where the mode needs them.

        Raises:
            ValueError: there is no such mode, or something that it needs is missing.
        """
        if mode not in MODES:
            raise ValueError(unknown_name("mode", mode, MODES))
        if views is not None and mode != "predict":
            raise ValueError(f"Views of an image are for predictions, not for mode {mode!r}.")
        if views is None and image is None:
            raise ValueError("The batch has no `image`.")
        if views is None and mode in self.info_modes and info is None:
            raise ValueError("The batch has no `info`: it needs dense_collate and DensePreprocessor.")
        return image, info
