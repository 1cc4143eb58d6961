"""ECA-Net: ResNets and MobileNetV2 with efficient channel attention, including timm's ECA-ResNets.

Paper:
    Wang, Wu, Zhu, Li, Zuo, Hu: "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
    CVPR 2020, https://arxiv.org/abs/1910.03151

A short 1-D convolution over the channel means gates each channel at the end of every residual branch. The authors'
models are `eca_resnet*` and `eca_mobilenet_v2`; `ecaresnet*` and `ecaresnext*` are timm's, on ResNet-D bodies.

Differences from the official code:
- The official kernel sizes are arguments that default to 3 in all stages and are not stored in checkpoints. Here each
  entry point has the sizes of its published file (ResNet-18: 3, 5, 7, 7; 34: 3, 3, 5, 7; 50: 3, 5, 5, 7; 101 and 152:
  3, 3, 5, 7; MobileNetV2: 1 up to 64 channels, 3 from 96). They differ from the paper's formula; `k_size=None` selects
  the formula, which timm's models use.
- Gating and adding the shortcut is one operation, and feature maps are overwritten in CPU inference.
- MobileNetV2's dropout of 0.25 before the classifier belongs to the training recipe.

timm's pruned models have the channels that timm lists for them. The authors' repository is MIT-licensed, timm
Apache-2.0; nothing is copied from either.
"""

from .attention import EfficientChannelAttentionMixer
from .checkpoints import checkpoint_filter_fn
from .mobilenet import ECAMobileNetV2
from .resnet import ECAResNet
from .variants import *  # noqa: F403 - every entry point, as its __all__ lists them
from .variants import __all__ as _entry_points
from .variants import default_cfgs

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "ECAMobileNetV2",
    "ECAResNet",
    "EfficientChannelAttentionMixer",
    "checkpoint_filter_fn",
    "default_cfgs",
    *_entry_points,
]
