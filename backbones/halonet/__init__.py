"""HaloNet: residual networks with halo attention in place of some or all 3x3 convolutions.

Papers:
    Vaswani, Ramachandran, Srinivas, Parmar, Hechtman, Shlens: "Scaling Local Self-Attention for Parameter Efficient
    Visual Backbones", CVPR 2021, https://arxiv.org/abs/2103.12731
    Srinivas et al., "Bottleneck Transformers for Visual Recognition", CVPR 2021, and Bello, "LambdaNetworks: Modeling
    Long-Range Interactions Without Attention", ICLR 2021, for two of timm's models.

    The authors published neither code nor weights. There are two groups of models:
    - timm's hybrids (Apache-2.0, with weights), which use halo attention instead of some 3x3 convolutions of the later
      stages: halonet26t, halonet50ts, sehalonet33ts, eca_halonext26ts, haloregnetz_b, halo2botnet50ts_256 and
      lamhalobotnet50ts_256. Names and hyperparameters are timm's.
    - The paper's halonet_h0 to halonet_h7, with halo attention in every block. Block size, halo size, widths, depths
    and
      image sizes follow the paper, and the parameter counts match it. Where the paper is silent, these models use SiLU,
      no norm or activation between an attention and the following convolution, 4 heads in the first stage and 8 in the
      others, unmasked zero padding, unscaled queries for the relative embeddings, and, in the first block of a stage, a
      1x1 convolution as the shortcut and (from the second stage on) strided queries.

    timm's own halonet_h1, which has no weights, is halonet_h1_timm. It differs from the paper's model: 8 heads in the
    first stage, ReLU, BatchNorm and an activation after each attention, and no projection in the first stage's
    shortcut.

    Differences from timm:
    - Images of any size work. Blocks at the bottom and right borders are cropped, and their windows extend `halo_size`
      beyond the feature map like all others. timm requires multiples of 256 (224 for haloregnetz_b), where the outputs
      are equal, and 256x256 for models with global attention. Odd sizes are rounded up, as strided convolutions do;
      timm rounds them down.
    - timm's `final_conv` is part of the last stage here, and so of the last feature map, as in timm's `features_only`.
    - Stochastic depth never drops a block without a shortcut (haloregnetz_b has four); in timm, an image whose block is
      dropped there becomes zero. It is off by default, because rates belong to the training recipes.
"""

from .attention import GlobalRelativeAttention, HaloAttention, LambdaLayer
from .checkpoints import checkpoint_filter_fn
from .model import HaloNet
from .variants import *  # noqa: F403 - every entry point, as its __all__ lists them
from .variants import __all__ as _entry_points
from .variants import default_cfgs

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "GlobalRelativeAttention",
    "HaloAttention",
    "HaloNet",
    "LambdaLayer",
    "checkpoint_filter_fn",
    "default_cfgs",
    *_entry_points,
]
