"""Neighborhood attention transformers: NAT, DiNAT, DiNAT_s and the isotropic models.

Papers:
    Hassani, Walton, Li, Li, Shi: "Neighborhood Attention Transformer", CVPR 2023, https://arxiv.org/abs/2204.07143
    Hassani, Shi: "Dilated Neighborhood Attention Transformer", 2022, https://arxiv.org/abs/2209.15001

Every query attends to the `kernel_size` x `kernel_size` keys around it, with a learned bias by relative position. DiNAT
spaces the keys of every other block `dilation` apart. DiNAT_s has Swin's patch embedding and merging in place of
overlapping convolutions; the isotropic models have one resolution.

What deviates from the official code, and why:
- One class, `NAT`, builds them all: a stem, stages of blocks with a downsampling layer before them, a norm, a head.
- The official isotropic models take 224x224 images only. Here every size works; where an image of ViT-rpb's has more
  tokens along an axis than its table of biases knows, the table is stretched (see `GlobalAttention`).
- `dilations` holds for any image size: a map smaller than kernel_size * dilation is padded as NATTEN before 0.17 did.
  Later releases raise an error there, and the official code with them.
- The head's dropout and pooling can be chosen, and stochastic depth is off unless asked for: the published rates belong
  to the training recipes.
"""

from .attention import GlobalAttention, NeighborhoodAttention
from .checkpoints import checkpoint_filter_fn
from .model import NAT
from .variants import *  # noqa: F403 - every entry point, as its __all__ lists them
from .variants import __all__ as _entry_points
from .variants import default_cfgs

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "NAT",
    "GlobalAttention",
    "NeighborhoodAttention",
    "checkpoint_filter_fn",
    "default_cfgs",
    *_entry_points,
]
