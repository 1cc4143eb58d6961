"""Visual attention networks, VAN-B0 to B6: convolutional networks whose attention is a product with a large kernel.

Paper:
    Guo, Lu, Liu, Cheng, Hu: "Visual Attention Network", Computational Visual Media 2023,
    https://arxiv.org/abs/2202.09741

A map is multiplied by what a depthwise convolution, a dilated depthwise convolution and a 1x1 convolution make of it.
The MLPs have a depthwise convolution inside. Blocks begin with batch norms; a layer norm ends each stage, in the main
path: `FeatureMaps` returns the maps behind it, as the official code for segmentation does.

What deviates from the official code, and why:
- The official code for segmentation gives these layer norms an eps of 1e-5, the one for classification 1e-6. Here it is
  1e-6 unless `norm_eps` says otherwise; the outputs differ by about 4e-6.
- Maps are channels last in memory, and on CPUs the dilated convolution runs on the grids of every third row and column,
  which gives the same numbers (see `dilated_depthwise`).
- Stochastic depth is off unless asked for: the published rates belong to the training recipes. `drop_rate` is the
  head's dropout; the one in the MLPs, which the official code calls so, is `proj_drop_rate`.
- The official `reset_classifier` fails, and its `pretrained=True` fails for B4 to B6; these do what they say here.

Images are normalised with a mean and a standard deviation of 0.5, those of the ImageNet-22K models with ImageNet's (the
script that trained them is LGYoung/VAN-Classification's). The README of the official code, which is under
Apache 2.0, adds: "For commercial use, please contact the authors".
"""

from .attention import LargeKernelAttention
from .checkpoints import checkpoint_filter_fn
from .model import VAN
from .variants import *  # noqa: F403 - every entry point, as its __all__ lists them
from .variants import __all__ as _entry_points
from .variants import default_cfgs

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "VAN",
    "LargeKernelAttention",
    "checkpoint_filter_fn",
    "default_cfgs",
    *_entry_points,
]
