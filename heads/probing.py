"""Probes: small classifiers that measure the quality of a frozen backbone's features.

Linear probing applies a linear layer to averaged features: He et al., "Masked Autoencoders Are Scalable Vision
Learners", CVPR 2022, section 4.1. Efficient probing pools features by attention with learned queries: Psomas et al.,
"Attention, Please! Revisiting Attentive Probing Through the Lens of Efficiency", arXiv:2506.10178. Parameter names are
those of the reference implementation.
"""

from __future__ import annotations

import torch
from torch import nn

_NORM_EPS = 1e-6


def to_tokens(features: torch.Tensor) -> torch.Tensor:
    """Reshapes features to tokens.

    Args:
        features: Feature map (B, C, H, W) or tokens (B, N, C).

    Returns:
        (B, N, C).

    Raises:
        ValueError: The features have another number of dimensions.
    """
    if features.ndim == 4:
        return features.flatten(2).transpose(1, 2)
    if features.ndim != 3:
        raise ValueError(f"Features must be a map (B, C, H, W) or tokens (B, N, C), got shape {tuple(features.shape)}.")
    return features


class LinearProbe(nn.Sequential):
    """Linear probe: global average pooling, BatchNorm without affine parameters, and a linear classifier.

    Args:
        in_channels: Number of feature channels.
        num_classes: Number of classes.
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
        """Maps features (B, C, H, W) or tokens (B, N, C) to logits (B, num_classes)."""
        return super().forward(to_tokens(features).mean(1))


class AttentivePooling(nn.Module):
    """Pooling of efficient probing: each query averages all tokens with its own weights and keeps a slice of channels.

    Keys are the tokens themselves. Values are a linear projection of the tokens, of which query j uses slice j.

    Args:
        in_channels: Number of token channels.
        num_queries: Number of learned queries.
        d_out: Reduction factor of the output channels.

    Raises:
        ValueError: num_queries * d_out does not divide in_channels.
    """

    def __init__(self, in_channels: int, num_queries: int = 32, d_out: int = 1) -> None:
        super().__init__()
        if num_queries < 1 or d_out < 1 or in_channels % (num_queries * d_out):
            raise ValueError(
                f"num_queries * d_out must divide in_channels, got in_channels={in_channels}, "
                f"num_queries={num_queries} and d_out={d_out}."
            )
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, num_queries, in_channels))
        self.v = nn.Linear(in_channels, in_channels // d_out, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps tokens (B, N, C) to one vector per image (B, C / d_out)."""
        channels, queries = tokens.shape[2], self.cls_token.shape[1]
        attention = (self.cls_token * channels**-0.5 @ tokens.transpose(1, 2)).softmax(-1)
        # Projecting after averaging is equivalent and avoids projecting every token.
        averages = attention @ tokens
        slices = self.v.weight.unflatten(0, (queries, -1))
        return torch.einsum("bqc,qdc->bqd", averages, slices).flatten(1)


class EfficientProbe(nn.Sequential):
    """Efficient probe: attentive pooling, BatchNorm without affine parameters, and a linear classifier.

    Args:
        in_channels: Number of feature channels.
        num_classes: Number of classes.
        num_queries: Number of queries; num_queries * d_out must divide in_channels.
        d_out: Reduction factor of the channels that are classified.

    Raises:
        ValueError: num_queries * d_out does not divide in_channels, or num_classes is below 1.
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
        """Maps features (B, C, H, W) or tokens (B, N, C) to logits (B, num_classes)."""
        return super().forward(to_tokens(features))


def _check_classes(num_classes: int) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes must be >= 1, got {num_classes}.")
