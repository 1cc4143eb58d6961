"""Probing: what the features of a backbone that is not trained are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..registry import MODELS
from .base import HeadedTask, build_part
from .classification import ClassificationTask
from .mixing import Mixing
from .preprocessing import Normalisation


@MODELS.register_module()
class Probe(HeadedTask, ClassificationTask):
    """A frozen backbone and a classifier on its last features, which alone is trained.

    The backbone stays in evaluation mode (no drop path, fixed statistics of BatchNorm) and gets no gradients. What the
    probe sees is the normalised last map, or the tokens of the map where the backbone has a class token, too.

    Args:
        backbone: a config of MODELS, such as dict(type="nat_mini", pretrained=True); it is built without classifier. Or
            a module: a backbone of the zoo, or any that returns features, the last ones in a list of several.
        probe: a config of MODELS: dict(type="LinearProbe" or "EfficientProbe", num_classes=...), whose `in_channels`
            are the backbone's where it has none; or a module.
        loss: a config of MODELS: CrossEntropy, SoftTargetCrossEntropy or BinaryCrossEntropy; or a module.
        mixing: the settings of `Mixing`; None for none.
        data_preprocessor: mean and std of `ImagePreprocessor`, or a config of another type.
        seed: of mixing, which draws from (seed, epoch, indices of the batch).
        init_weights: a checkpoint of the backbone, anything that `attnzoo.load_weights` takes; loaded before training
            starts, not where a finished checkpoint is only evaluated.

    Raises:
        ValueError: arguments contradict each other, or the backbone does not tell its channels.
    """

    filled_arguments = {"probe": ("in_channels",)}
    classes_key = "model.probe.num_classes"

    def __init__(
        self,
        backbone: dict | nn.Module,
        probe: dict | nn.Module,
        loss: dict | nn.Module | None = None,
        mixing: Mixing | dict | None = None,
        data_preprocessor: Normalisation | dict | nn.Module | None = None,
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
        """Computes what the probe sees, without gradients.

        Args:
            image: (B, C, H, W), normalised.

        Returns:
            A map (B, channels, h, w) or tokens (B, n, channels).
        """
        with torch.no_grad():
            if not hasattr(self.backbone, "forward_features"):
                found = self.backbone(image)
                return found[-1] if isinstance(found, list | tuple) else found
            found = self.backbone.forward_features(image)
            return found[:, getattr(self.backbone, "num_prefix_tokens", 0) :] if found.ndim == 3 else found

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W), normalised, to logits (B, num_classes)."""
        return self.probe(self.features(image))


def _channels(backbone: Any) -> int:
    """Gives the channels of a backbone's last features."""
    if hasattr(backbone, "num_features"):
        return backbone.num_features
    info = getattr(backbone, "feature_info", None)
    if info is None or not callable(getattr(info, "channels", None)):
        raise ValueError(f"{type(backbone).__name__} does not tell its channels: give the probe its in_channels.")
    return info.channels()[-1]
