"""DaViT: dual attention vision transformers, and the image encoders of Florence-2.

Papers:
    Ding, Xiao, Codella, Luo, Wang, Yuan: "DaViT: Dual Attention Vision Transformers", ECCV 2022,
        https://arxiv.org/abs/2204.03645
    Xiao et al.: "Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks", CVPR 2024,
        https://arxiv.org/abs/2311.06242

Blocks alternate between attention in windows of positions and attention between channels over the complete map; the
cost of both is linear in the number of positions. Before each attention and each MLP, a depthwise convolution is added
as position encoding.

Deviations from the official code, and why:
- Blocks are numbered within each stage, with window attention at even and channel attention at odd indices, where the
  official names count pairs of blocks.
- The official classifier has a norm after pooling, and the official backbones for detection and segmentation one per
  map. Both are one class here, where `dense` or `output_norms` builds the latter.
- Stochastic depth is off by default: the published rates are part of the training recipes. The rate grows
  from block to block as in the official code; in timm both blocks of a pair have the same.
- Florence-2's image encoders can have a classifier. Their files have neither a classifier nor a norm after pooling.

The official repository is under the MIT license. The licenses of the files differ: see `license` of each checkpoint.
"""

from .attention import ChannelAttention, WindowAttention
from .checkpoints import checkpoint_filter_fn
from .model import DaViT
from .variants import *  # noqa: F403 - every entry point, as its __all__ lists them
from .variants import __all__ as _entry_points
from .variants import default_cfgs

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "ChannelAttention",
    "DaViT",
    "WindowAttention",
    "checkpoint_filter_fn",
    "default_cfgs",
    *_entry_points,
]
