"""Networks with efficient channel attention: ECA-ResNets, ECA-MobileNetV2 and timm's ECA-ResNets.

Paper:
    Wang, Wu, Zhu, Li, Zuo, Hu: "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
    CVPR 2020, https://arxiv.org/abs/1910.03151

A convolution along the channels' means, of a few weights, gates each channel at the end of every residual branch. The
authors' models are `eca_resnet*` and `eca_mobilenet_v2`; `ecaresnet*` and `ecaresnext*` are timm's, on ResNet-D bodies.

What deviates from the official code, and why:
- The authors' kernel sizes are arguments, 3 in all stages unless given, and a checkpoint does not say its own. Here
  each entry point has those of its published file (ResNet-18: 3, 5, 7, 7; 34: 3, 3, 5, 7; 50: 3, 5, 5, 7; 101 and 152:
  3, 3, 5, 7; MobileNetV2: 1 up to 64 channels, 3 from 96 on). They are not what the paper's formula gives;
  `k_size=None` asks for the formula, as timm's models have it.
- The sum of gated branch and shortcut is one operation, and in inference on a CPU maps are written over.
- MobileNetV2's 0.25 dropout before the classifier belongs to the training recipe, as all such rates.

timm's pruned models have the channels that timm lists for them. The authors' repository is under the MIT licence, timm
under Apache 2.0; nothing is copied from either.
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
