"""What all heads of semantic segmentation share: choice of maps, classifier, losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .pixel_losses import IGNORE_INDEX, check_labels, pixel_accuracy, pixel_cross_entropy


def resize(x: torch.Tensor, size: Sequence[int], align_corners: bool = False) -> torch.Tensor:
    """Resizes maps (B, C, h, w) bilinearly to (B, C, *size)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


class DecodeHead(nn.Module):
    """A head that gives each place of a map its class. A subclass makes the map: `pixel_features`.

    Parameter names and initial values are those of mmsegmentation: `conv_seg` is drawn from a normal distribution of
    std 0.01, if `init_std` says nothing else, and has zero biases.

    Args:
        in_channels: channels of each map that is used.
        in_index: which of the given maps are used; negative ones count from the end. None for all.
        channels: of the map that the classifier sees.
        num_classes: number of classes, at least 2.
        dropout_ratio: how often a channel of that map is left out in training.
        ignore_index: the label of pixels that do not count.
        loss_weight: what the loss is multiplied by.
        avg_non_ignore: divide the loss by the pixels that count, not by all; see `pixel_cross_entropy`.
        align_corners: how maps are resized, see `torch.nn.functional.interpolate`.
        class_weight: what a pixel of each class counts for in the loss.
        init_std: standard deviation of the classifier's initial weights. OpenMMLab's 0.01 is for backbones that were
            trained before. From scratch at a high learning rate the first steps, which tell all objects from the
            ground, are larger than that: they make the classes' weights alike, and take long to part again.

    Raises:
        ValueError: arguments contradict each other or are out of range.
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
                f"in_channels and in_index need one number a map, but are {self.in_channels} and {self.in_index}."
            )
        if num_classes < 2:
            raise ValueError(f"num_classes is at least 2 (the background counts as one), not {num_classes}.")
        if 0 <= ignore_index < num_classes:
            raise ValueError(
                f"ignore_index={ignore_index} is one of the {num_classes} classes, 0 to {num_classes - 1}: take a "
                "label that no class has."
            )
        if class_weight is not None and len(class_weight) != num_classes:
            raise ValueError(f"class_weight needs a number for each of {num_classes} classes, not {len(class_weight)}.")
        if init_std <= 0:
            raise ValueError(f"init_std is over 0, not {init_std!r}.")
        if not 0 <= dropout_ratio < 1:
            raise ValueError(f"dropout_ratio is at least 0 and below 1, not {dropout_ratio!r}.")
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
        """Makes the map (B, channels, h, w) that the classifier sees of the used maps."""
        raise NotImplementedError

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps a backbone's or a neck's maps (B, C_i, H_i, W_i), finest first, to logits (B, num_classes, h, w).

        Raises:
            ValueError: there is no map of an index.
        """
        least, most = min(self.in_index), max(self.in_index)
        if most >= len(features) or least < -len(features):
            raise ValueError(f"{type(self).__name__} uses the maps {self.in_index}, but {len(features)} are given.")
        x = self.pixel_features([features[index] for index in self.in_index])
        return self.conv_seg(self.dropout(x))

    def losses(self, features: Sequence[torch.Tensor], label_maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Computes the loss.

        Args:
            features: as for `forward`.
            label_maps: (B, H, W) int64, as large as the images: logits are resized to them.

        Returns:
            `loss_ce`, weighted, and `acc_seg`, the share of right pixels in percent; scalars.

        Raises:
            ValueError: a label is out of range. This is only looked for on the CPU: on a GPU it would make every step
                wait.
        """
        if label_maps.device.type == "cpu" and not torch.compiler.is_compiling():
            check_labels(label_maps, self.num_classes, self.ignore_index)
        # Small maps become float32 before they are enlarged, so that the large ones need no second copy for the loss.
        logits = resize(self(features).float(), label_maps.shape[-2:], self.align_corners)
        loss = pixel_cross_entropy(logits, label_maps, self.ignore_index, self.class_weight, self.avg_non_ignore)
        accuracy = pixel_accuracy(logits, label_maps, self.ignore_index)
        return {"loss_ce": loss * self.loss_weight, "acc_seg": accuracy}
