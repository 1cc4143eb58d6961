"""Base class of semantic segmentation heads: choice of feature maps, classifier, losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .pixel_losses import IGNORE_INDEX, check_labels, pixel_accuracy, pixel_cross_entropy


def resize(x: torch.Tensor, size: Sequence[int], align_corners: bool = False) -> torch.Tensor:
    """Resizes feature maps (B, C, h, w) bilinearly to (B, C, *size)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


class DecodeHead(nn.Module):
    """A head that predicts the class of every position. Subclasses implement `pixel_features`.

    Parameter names and initialization are those of mmsegmentation: `conv_seg` is drawn from a normal distribution with
    standard deviation `init_std` and has zero biases.

    Args:
        in_channels: Number of channels of each feature map that is used.
        in_index: Indices of the feature maps that are used; negative ones count from the end. None for all.
        channels: Number of channels of the classifier's input.
        num_classes: Number of classes, at least 2.
        dropout_ratio: Probability of dropping a channel of the classifier's input during training.
        ignore_index: Label of pixels that are ignored.
        loss_weight: Weight of the loss.
        avg_non_ignore: Average the loss over labeled pixels instead of all pixels; see `pixel_cross_entropy`.
        align_corners: As in `torch.nn.functional.interpolate`.
        class_weight: Weight of each class in the loss.
        init_std: Standard deviation of the classifier's initial weights. OpenMMLab's 0.01 suits pretrained backbones.
            When training from scratch with a high learning rate, the first steps, which separate objects from
            background, exceed it: they make the classes' weights alike, and the classes take long to separate.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    class_weight: torch.Tensor | None

    class_layers = ("conv_seg",)
    """Layers whose size depends on the number of classes."""

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int] | None,
        channels: int,
        *,
        num_classes: int,
        dropout_ratio: float = 0.1,
        ignore_index: int = IGNORE_INDEX,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
        align_corners: bool = False,
        class_weight: Sequence[float] | None = None,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.in_index = tuple(range(len(self.in_channels)) if in_index is None else in_index)
        if not self.in_channels or len(self.in_channels) != len(self.in_index):
            raise ValueError(
                f"in_channels and in_index must have the same length >= 1, got {self.in_channels} and {self.in_index}."
            )
        if num_classes < 2:
            raise ValueError(f"num_classes must be >= 2 (including background), got {num_classes}.")
        if 0 <= ignore_index < num_classes:
            raise ValueError(f"ignore_index must not be a class label (0 to {num_classes - 1}), got {ignore_index}.")
        if class_weight is not None and len(class_weight) != num_classes:
            raise ValueError(f"class_weight must have one number per class ({num_classes}), got {len(class_weight)}.")
        if init_std <= 0:
            raise ValueError(f"init_std must be positive, got {init_std!r}.")
        if not 0 <= dropout_ratio < 1:
            raise ValueError(f"dropout_ratio must be in [0, 1), got {dropout_ratio!r}.")
        self.channels = channels
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight
        self.avg_non_ignore = avg_non_ignore
        self.align_corners = align_corners
        weights = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)
        self.dropout = nn.Dropout2d(dropout_ratio)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=init_std)
        nn.init.zeros_(self.conv_seg.bias)  # pyright: ignore[reportArgumentType] (it has one)

    def pixel_features(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Computes the classifier's input (B, channels, h, w) from the feature maps that are used."""
        raise NotImplementedError

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps feature maps (B, C_i, H_i, W_i), finest first, to logits (B, num_classes, h, w).

        Raises:
            ValueError: A feature map that `in_index` names is missing.
        """
        least, most = min(self.in_index), max(self.in_index)
        if most >= len(features) or least < -len(features):
            raise ValueError(
                f"{type(self).__name__} needs feature maps {self.in_index}, got {len(features)} feature maps."
            )
        x = self.pixel_features([features[index] for index in self.in_index])
        return self.conv_seg(self.dropout(x))

    def losses(self, features: Sequence[torch.Tensor], label_maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Computes the loss.

        Args:
            features: As in `forward`.
            label_maps: (B, H, W) int64 in the size of the images; logits are resized to it.

        Returns:
            Scalars: `loss_ce`, weighted, and `acc_seg`, the percentage of correct pixels.

        Raises:
            ValueError: A label is out of range. This is checked on the CPU only, where it does not require a
                synchronization.
        """
        if label_maps.device.type == "cpu" and not torch.compiler.is_compiling():
            check_labels(label_maps, self.num_classes, self.ignore_index)
        # Converted to float32 before resizing, so that the loss needs no second copy of the large maps.
        logits = resize(self(features).float(), label_maps.shape[-2:], self.align_corners)
        loss = pixel_cross_entropy(logits, label_maps, self.ignore_index, self.class_weight, self.avg_non_ignore)
        accuracy = pixel_accuracy(logits, label_maps, self.ignore_index)
        return {"loss_ce": loss * self.loss_weight, "acc_seg": accuracy}
