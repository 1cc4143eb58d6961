"""Probing: evaluates the features of a frozen backbone with a small classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..registry import MODELS
from .base import HeadedTask, build_part
from .classification import ClassificationTask
from .mixing import Mixing
from .preprocessing import Normalization


@MODELS.register_module()
class Probe(HeadedTask, ClassificationTask):
    """A frozen backbone and a trainable classifier on its last features.

    The backbone stays in evaluation mode (no drop path, fixed BatchNorm statistics) and gets no gradients. The probe
    gets the last feature map after the final norm; if the backbone has a class token, it gets the other tokens.

    Args:
        backbone: Config such as dict(type="nat_mini", pretrained=True), which is built without a classifier, or a
            module that returns features (if it returns a list, the last element is used).
        probe: Config such as dict(type="LinearProbe", num_classes=10), or a module. Its `in_channels` default to those
            of the backbone.
        loss: Config of CrossEntropy, SoftTargetCrossEntropy, BinaryCrossEntropy or another type in MODELS, or a module.
        mixing: Settings of `Mixing`.
        data_preprocessor: Arguments of `ImagePreprocessor`, or the config of another type.
        seed: Seed of mixing, which depends on (seed, epoch, indices of the batch).
        init_weights: Checkpoint of the backbone, in any form that `attnzoo.load_weights` accepts. It is not loaded if
            the task is only evaluated.

    Raises:
        ValueError: Arguments contradict each other, or the number of channels of the backbone is unknown.
    """

    filled_arguments = {"probe": ("in_channels",)}
    classes_key = "model.probe.num_classes"

    def __init__(
        self,
        backbone: dict | nn.Module,
        probe: dict | nn.Module,
        loss: dict | nn.Module | None = None,
        mixing: Mixing | dict | None = None,
        data_preprocessor: Normalization | dict | nn.Module | None = None,
        seed: int = 0,
        init_weights: str | None = None,
    ) -> None:
        if isinstance(backbone, Mapping) and MODELS.is_backbone(str(backbone.get("type", ""))):
            backbone = {"num_classes": 0, **backbone}
        super().__init__(backbone, loss, mixing, data_preprocessor, -1, False, seed, init_weights)
        self.backbone.requires_grad_(False)
        self._frozen = [self.backbone]
        if isinstance(probe, Mapping) and "in_channels" not in probe:
            probe = {**probe, "in_channels": _channels(self.backbone)}
        self.probe: Any = build_part(probe)
        self.num_classes = int(self.probe.num_classes)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Computes the input of the probe, without gradients.

        Args:
            image: (B, C, H, W), normalized.

        Returns:
            A feature map (B, channels, h, w) or tokens (B, n, channels).
        """
        with torch.no_grad():
            if not hasattr(self.backbone, "forward_features"):
                found = self.backbone(image)
                return found[-1] if isinstance(found, list | tuple) else found
            found = self.backbone.forward_features(image)
            return found[:, getattr(self.backbone, "num_prefix_tokens", 0) :] if found.ndim == 3 else found

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Maps normalized images (B, C, H, W) to logits (B, num_classes)."""
        return self.probe(self.features(image))


def _channels(backbone: Any) -> int:
    """Returns the number of channels of a backbone's last features."""
    if hasattr(backbone, "num_features"):
        return backbone.num_features
    info = getattr(backbone, "feature_info", None)
    if info is None or not callable(getattr(info, "channels", None)):
        raise ValueError(
            f"Set in_channels of the probe: the number of channels of {type(backbone).__name__} is unknown."
        )
    return info.channels()[-1]
