"""BiFormer: vision transformers with bi-level routing attention.

Paper:
    Zhu, Wang, Ke, Zhang, Lau: "BiFormer: Vision Transformer with Bi-Level Routing Attention", CVPR 2023,
    https://arxiv.org/abs/2303.08810

Each region of the map selects the regions most similar to it, and its positions attend only to theirs. The first three
stages route (to 1, 4 and 16 of 49 regions), the last one attends to the complete map. Every block starts with a
depthwise convolution as position encoding. BiFormer-STL is the paper's ablation in Swin-T's layout, with
non-overlapping patches and without position encoding. In its published refactoring (`biformer_stl_nchw`), the last
stage computes LePE, the depthwise convolution added to the attention, from the values instead of the normalized map, so
it is a separate model.

Deviations from the official code, and why:
- One class, `BiFormer`, builds all models and takes maps of any size. They are padded as in the official backbones for
  detection and segmentation (`auto_pad`); the official classifiers reject sizes that do not divide. At 224x224 nothing
  is padded. The refactored STL pads after the projection and pools without the padding; here it pads like the others,
  because no official model was trained that way at another size. STL's patch embedding and merging drop the rows and
  columns that do not fill a patch, as the official ones do.
- Gathered keys and values are never stored; see `attnzoo.kernels.routed_attention_2d`.
- Options of the official classes that no published model uses (routing with parameters, differentiable or soft routing,
  pooled keys, convolutions instead of attention) are left out.
- Bugs of the official code that are fixed: reset_classifier raised a TypeError, train() of the detection backbone
  returned None, drop_rate was ignored, and the entry points did not take n_win. `no_weight_decay` listed parameters
  that do not exist, so it is empty here.
- Stochastic depth is off by default: the published rates are part of the training recipes.
"""

from .attention import BiLevelRoutingAttention, FullAttention
from .checkpoints import checkpoint_filter_fn
from .model import BiFormer, Routes
from .variants import *  # noqa: F403 - every entry point, as its __all__ lists them
from .variants import __all__ as _entry_points
from .variants import default_cfgs

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "BiFormer",
    "BiLevelRoutingAttention",
    "FullAttention",
    "Routes",
    "checkpoint_filter_fn",
    "default_cfgs",
    *_entry_points,
]
