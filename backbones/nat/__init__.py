"""Neighborhood attention transformers: NAT, DiNAT, DiNAT_s and the isotropic models.

Papers:
    Hassani, Walton, Li, Li, Shi: "Neighborhood Attention Transformer", CVPR 2023, https://arxiv.org/abs/2204.07143
    Hassani, Shi: "Dilated Neighborhood Attention Transformer", 2022, https://arxiv.org/abs/2209.15001

Every query attends to the `kernel_size` x `kernel_size` keys around it, with a learned relative position bias. DiNAT
dilates the neighborhoods of every other block. DiNAT_s has Swin's patch embedding and patch merging instead of
overlapping convolutions; the isotropic models have a single resolution.

Deviations from the official code, and why:
- One class, `NAT`, builds all models: a stem, stages with a downsampling layer and blocks, a norm, and a head.
- The official isotropic models take 224x224 images only. Here every size works: if an image has more tokens along an
  axis than ViT-rpb's bias table covers, the table is interpolated (see `GlobalAttention`).
- `dilations` works at any image size: maps smaller than kernel_size * dilation are padded, as in NATTEN before 0.17.
  Later releases raise an error, and so does the official code with them.
- Dropout and pooling of the head are arguments. Stochastic depth is off by default: the published rates are part of
  the training recipes.
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
