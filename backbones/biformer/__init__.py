"""BiFormer: vision transformers with bi-level routing attention.

Paper:
    Zhu, Wang, Ke, Zhang, Lau: "BiFormer: Vision Transformer with Bi-Level Routing Attention", CVPR 2023,
    https://arxiv.org/abs/2303.08810

Each region of the map chooses the regions that resemble it most, and its positions attend to their positions alone. The
first three stages route (1, 4 and 16 of 49 regions), the last one attends to its whole map. Every block begins with a
depthwise convolution as position encoding. BiFormer-STL is the paper's ablation in Swin-T's layout: plain patches, no
position encoding. Of its published refactoring (`biformer_stl_nchw`) the last stage computes LePE, the depthwise
convolution beside the attention, from the values instead of the normed map: another function, so another model.

What deviates from the official code, and why:
- One class, `BiFormer`, builds them all, and reads maps of any size: maps are padded as the official backbones for
  detection and segmentation pad them (their auto_pad; the official classifiers refuse what does not divide). At 224x224
  nothing is padded. The refactored STL pads after the projection and pools without the pads; here it pads as the others
  do, because no official model with that rule was trained at another size. STL's patches are padded as well.
- The gathered keys and values are never stored: `attnzoo.kernels.routed_attention_2d`.
- Options of the official classes that no published model uses (routing with parameters, differentiable or soft routing,
  pooled keys, convolutions in place of attention) are left out.
- Official mistakes that are not repeated: reset_classifier raised a TypeError, train() of the detection backbone
  returned None, drop_rate was ignored, n_win could not be given to the entry points. `no_weight_decay` named parameters
  that do not exist: nothing is exempt by name.
- Stochastic depth is off unless asked for: the published rates belong to the training recipes.
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
