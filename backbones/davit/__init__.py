"""DaViT: dual attention vision transformers, and the image towers of Florence-2.

Papers:
    Ding, Xiao, Codella, Luo, Wang, Yuan: "DaViT: Dual Attention Vision Transformers", ECCV 2022,
        https://arxiv.org/abs/2204.03645
    Xiao et al.: "Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks", CVPR 2024,
        https://arxiv.org/abs/2311.06242

Blocks attend in turn inside windows of positions and between the channels of the whole map, both linear in the number
of positions. Before each attention and each MLP, a depthwise convolution adds what it makes of the map to it.

What deviates from the official code, and why:
- Blocks are numbered through each stage, window attention at even places and channel attention at odd ones, where the
  official names count pairs.
- The official classifier has one norm after pooling, and the official backbones for detection and segmentation one a
  map; both are one class here, and the latter are built by `dense` or `output_norms`.
- Stochastic depth is off unless asked for: the published rates belong to the training recipes. Its rates grow block by
  block as in the official code; timm gives both blocks of a pair the same.
- Florence-2's towers take any number of classes. Their files have no norm after pooling and no classifier.

The official repository is under the MIT licence. What is published with the files differs; see each checkpoint's
`license`.
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
