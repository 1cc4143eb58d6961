"""Visual attention networks, VAN-B0 to B6: convolutional networks with large kernel attention.

Paper:
    Guo, Lu, Liu, Cheng, Hu: "Visual Attention Network", Computational Visual Media 2023,
    https://arxiv.org/abs/2202.09741

The attention multiplies a map by the output of a depthwise, a dilated depthwise and a 1x1 convolution of it. MLPs
contain a depthwise convolution. Blocks start with batch norms. Each stage ends with a layer norm in the main path;
`FeatureMaps` returns the maps after it, as the official code for segmentation does.

Deviations from the official code, and why:
- The official code for segmentation gives these layer norms an eps of 1e-5, the one for classification 1e-6. Here the
  default is 1e-6 (`norm_eps`); the outputs differ by about 4e-6.
- Maps are in channels-last memory format, and on CPUs the dilated convolution runs without dilation on every third row
  and column, which gives the same result (see `common.conv.dilated_depthwise`).
- Stochastic depth is off by default: the published rates are part of the training recipes. `drop_rate`
  is the dropout of the head; the dropout of the MLPs, which has this name in the official code, is `proj_drop_rate`.
- The official `reset_classifier` fails, and so does its `pretrained=True` for B4 to B6. Both work here.

Images are normalized with mean and standard deviation 0.5, and with ImageNet's for the models trained on ImageNet-22K
(by the script of LGYoung/VAN-Classification). The README of the official code, which is under
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
