"""Small segmentation heads, with feature maps and labels for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from attnzoo.heads.segmentation import FCNHead, FPNHead, MLPHead, UPerHead

WIDTHS = (4, 6, 8, 10)


def maps(height: int = 16, width: int = 24, count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """Returns random feature maps of four levels; each level halves the size, rounded up."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(4)]
    return [torch.randn(count, c, *size, generator=generator) for c, size in zip(WIDTHS, sizes, strict=True)]


def small_heads() -> dict[str, Callable[..., Any]]:
    """Returns functions that build a small head of each kind, by name."""
    return {
        "fpn": lambda **options: FPNHead([*WIDTHS], 8, num_classes=5, **options),
        "uper": lambda **options: UPerHead([*WIDTHS], 8, num_classes=5, **options),
        "fcn": lambda **options: FCNHead(8, 8, num_classes=5, in_index=2, **options),
        "mlp": lambda **options: MLPHead([*WIDTHS], 8, num_classes=5, **options),
    }


HEADS = tuple(small_heads())


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(1)
    return small_heads()[name](**options)


def trained(name: str, **options: Any) -> Any:
    """Builds a head in eval mode with random statistics, weights and biases."""
    head = build(name, **options)
    generator = torch.Generator().manual_seed(2)
    for key, value in head.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.2 * noise.abs() if "running_var" in key else 0.3 * noise)
    return head.eval()


def convolved(state: dict[str, torch.Tensor], name: str, x: torch.Tensor, **options: Any) -> torch.Tensor:
    """Applies convolution, BatchNorm in eval mode and ReLU with the weights of a state dict."""
    x = F.conv2d(x, state[f"{name}.conv.weight"], **options)
    shape = (1, -1, 1, 1)
    mean, var = (state[f"{name}.bn.running_{kind}"].view(shape) for kind in ("mean", "var"))
    weight, bias = (state[f"{name}.bn.{kind}"].view(shape) for kind in ("weight", "bias"))
    return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)


def classified(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, state["conv_seg.weight"], state["conv_seg.bias"])


def random_labels(shape: tuple[int, ...], ignored: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 5, shape, generator=generator)
    return labels.masked_fill(torch.rand(shape, generator=generator) < ignored, 255)
