"""Probes: small classifiers on the features of a backbone that is not trained.

They tell what features are worth. Linear probing averages features and has a linear layer, as in He et al., "Masked
Autoencoders Are Scalable Vision Learners", CVPR 2022, section 4.1. Efficient probing pools them by attention of learned
queries: Psomas et al., "Attention, Please! Revisiting Attentive Probing Through the Lens of Efficiency",
arXiv:2506.10178. Parameter names are those of the official code.
"""

from __future__ import annotations

import torch
from torch import nn

_NORM_EPS = 1e-6


def to_tokens(features: torch.Tensor) -> torch.Tensor:
    """Views features as tokens.

    Args:
        features: a map (B, C, H, W), or tokens (B, N, C).

    Returns:
        (B, N, C).

    Raises:
        ValueError: they have another number of dimensions.
    """
    if features.ndim == 4:
        return features.flatten(2).transpose(1, 2)
    if features.ndim != 3:
        raise ValueError(
            f"A probe takes a map (B, C, H, W) or tokens (B, N, C), not features of the shape {tuple(features.shape)}."
        )
    return features


class LinearProbe(nn.Sequential):
    """Averages features over all places, normalises them over the batch, and classifies them.

    Args:
        in_channels: of the features.
        num_classes: of the logits.
    """

    class_layers = ("1",)
    """Layers whose size depends on the number of classes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        _check_classes(num_classes)
        classifier = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(classifier.weight, std=0.01)
        nn.init.zeros_(classifier.bias)
        super().__init__(nn.BatchNorm1d(in_channels, eps=_NORM_EPS, affine=False), classifier)
        self.in_channels = in_channels
        self.num_classes = num_classes

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps a map (B, C, H, W) or tokens (B, N, C) to logits (B, num_classes)."""
        return super().forward(to_tokens(features).mean(1))


class AttentivePooling(nn.Module):
    """Efficient probing's pooling: each query averages all tokens by its own weights, and keeps its share of channels.

    The keys are the tokens themselves; the values are a linear map of them, of which query j has slice j.

    Args:
        in_channels: of the tokens.
        num_queries: how many queries.
        d_out: by what factor the result has fewer channels than the tokens.

    Raises:
        ValueError: `num_queries` times `d_out` does not divide the channels.
    """

    def __init__(self, in_channels: int, num_queries: int = 32, d_out: int = 1) -> None:
        super().__init__()
        if num_queries < 1 or d_out < 1 or in_channels % (num_queries * d_out):
            raise ValueError(
                f"num_queries x d_out must divide the channels, but {in_channels} channels have {num_queries} queries "
                f"and d_out={d_out}."
            )
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, num_queries, in_channels))
        self.v = nn.Linear(in_channels, in_channels // d_out, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps tokens (B, N, C) to one vector an image (B, C / d_out)."""
        channels, queries = tokens.shape[2], self.cls_token.shape[1]
        attention = (self.cls_token * channels**-0.5 @ tokens.transpose(1, 2)).softmax(-1)
        # The values' linear map comes after the average, which is the same, and saves mapping every token.
        averages = attention @ tokens
        slices = self.v.weight.unflatten(0, (queries, -1))
        return torch.einsum("bqc,qdc->bqd", averages, slices).flatten(1)


class EfficientProbe(nn.Sequential):
    """Pools features by attention, normalises them over the batch, and classifies them.

    Args:
        in_channels: of the features.
        num_classes: of the logits.
        num_queries: how many queries pool them; with `d_out` it divides the channels.
        d_out: by what factor what is classified has fewer channels than the features.

    Raises:
        ValueError: see `AttentivePooling`; or there are no classes.
    """

    class_layers = ("2",)
    """Layers whose size depends on the number of classes."""

    def __init__(self, in_channels: int, num_classes: int, num_queries: int = 32, d_out: int = 1) -> None:
        _check_classes(num_classes)
        pooling = AttentivePooling(in_channels, num_queries, d_out)
        width = in_channels // d_out
        super().__init__(pooling, nn.BatchNorm1d(width, eps=_NORM_EPS, affine=False), nn.Linear(width, num_classes))
        self.in_channels = in_channels
        self.num_classes = num_classes

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps a map (B, C, H, W) or tokens (B, N, C) to logits (B, num_classes)."""
        return super().forward(to_tokens(features))


def _check_classes(num_classes: int) -> None:
    if num_classes < 1:
        raise ValueError(f"A probe needs at least 1 class, not {num_classes}.")
