"""Agent attention in four bodies: Agent-DeiT, Agent-PVT, Agent-Swin and Agent-CSwin.

Paper:
    Han, Ye, Han, Xia, Pan, Wan, Song, Huang: "Agent Attention: On the Integration of Softmax and Linear Attention",
    ECCV 2024, https://arxiv.org/abs/2312.08874

A few agent tokens, averages of the queries over a coarse grid, attend to all keys; then all queries attend to the
agents. These two softmax attentions have linear cost in the number of positions. Position biases and a depthwise
convolution of the values are added (`AgentAttention`). In each body, agent attention replaces the attention of the
first blocks; the other blocks keep their own: global (DeiT), shifted windows (Swin), stripes (CSWin).

License: the official repository states none, so all rights are its authors'. This is an independent implementation
from the paper and from facts about the published models (names, shapes, outputs); it contains none of the official
code. Published weights are linked, never shipped.

Differences from the official code:
- All bodies support every image size. The official classification code supports the training size only; its code for
  dense prediction (PVT and Swin) is followed here: biases and position embeddings are interpolated.
- Agent-PVT compares the feature map with the grid of its own stage before interpolating position embeddings. The
  official code compares the number of positions with that of the first stage at every stage, so 448x448 images fail and
  some sizes get an embedding with scrambled rows.
- Agent-Swin shifts the windows of every second block only if the feature map is larger than a window, as its weights
  were trained. `always_shift=True`, which `dense="coco"` and `dense="ade20k"` set, is the official rule for dense
  prediction. The two differ in the last stage at 224x224.
- `dense` also selects the published agent grids, which are larger than those of training, and a norm per feature map
  (Swin; PVT has none).
- Agent-CSwin and Agent-DeiT were never published for dense prediction. Here they zero-pad images to full patches and
  feature maps to full stripes, at the bottom and right.
- PVT's separate query and key/value projections are one layer; its unused reduction of keys is omitted.
- Stochastic depth is off by default: the published rates belong to the training recipes.
"""

from ...deprecated_paths import renamed_names
from .attention import AgentAttention, ClassTokenAgentAttention
from .checkpoints import checkpoint_filter_fn
from .cswin import AgentCSWin, GlobalAttention, StripeAttention
from .deit import AgentDeiT, TokenAttention
from .pvt import AgentPVT
from .swin import AgentSwin, ShiftedWindowAttention
from .variants import *  # noqa: F403 - every entry point, as its __all__ lists them
from .variants import __all__ as _entry_points
from .variants import default_cfgs

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "AgentAttention",
    "AgentCSWin",
    "AgentDeiT",
    "AgentPVT",
    "AgentSwin",
    "ClassTokenAgentAttention",
    "ShiftedWindowAttention",
    "StripeAttention",
    "TokenAttention",
    "GlobalAttention",
    "checkpoint_filter_fn",
    "default_cfgs",
    *_entry_points,
]

__getattr__ = renamed_names(__name__, {"WholeMapAttention": "GlobalAttention"})
