"""HaloNets: halo attention in place of some or all 3x3 convolutions of a residual network.

Papers:
    Vaswani, Ramachandran, Srinivas, Parmar, Hechtman, Shlens: "Scaling Local Self-Attention for Parameter Efficient
    Visual Backbones", CVPR 2021, https://arxiv.org/abs/2103.12731
    For two of timm's models also: Srinivas et al., "Bottleneck Transformers for Visual Recognition", CVPR 2021, and
    Bello, "LambdaNetworks: Modeling Long-Range Interactions Without Attention", ICLR 2021.

The authors published neither code nor weights. There are two kinds of models here:
- timm's hybrids (Apache-2.0, with weights), in which halo attention takes the place of some 3x3 convolutions of the
  later stages: halonet26t, halonet50ts, sehalonet33ts, eca_halonext26ts, haloregnetz_b, halo2botnet50ts_256 and
  lamhalobotnet50ts_256. Their names are timm's, and so are their numbers.
- The paper's halonet_h0 to halonet_h7, with halo attention in every block. Block, halo, widths, depths and image sizes
  are the paper's, and they have its numbers of parameters. What it leaves open is settled here as follows: SiLU; no
  norm and no activation between an attention and the convolution after it; 4 heads in the first stage, 8 in the others;
  zeros around the map, not masked; queries unscaled where they meet the relative embeddings; in the first block of a
  stage, a 1x1 convolution as shortcut and, from the second stage on, every other query.

timm's own halonet_h1, for which no weights exist, is halonet_h1_timm: other than the paper's it has 8 heads in the
first stage, ReLU, a batch norm and an activation after each attention, and no projection in the first stage's shortcut.

What deviates from timm, and why:
- Images of any size work: blocks at the lower and right border are cut, and their windows reach `halo_size` beyond the
  map as all others do. timm demands sides that are multiples of 256 (224 for haloregnetz_b), where the outputs are the
  same; its models with global attention take 256x256 alone. What is rounded down there is rounded up here, as
  convolutions of stride 2 do it.
- Where timm has a `final_conv`, it is here the end of the last stage, and so of the last map, as in timm's
  `features_only`.
- Stochastic depth leaves out no block without a shortcut (haloregnetz_b has four); in timm an image whose block is left
  out there is zero from then on. It is off unless asked for: rates belong to the training recipes.
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
