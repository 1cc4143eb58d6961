"""Agent attention in four bodies: Agent-DeiT, Agent-PVT, Agent-Swin and Agent-CSwin.

Paper:
    Han, Ye, Han, Xia, Pan, Wan, Song, Huang: "Agent Attention: On the Integration of Softmax and Linear Attention",
    ECCV 2024, https://arxiv.org/abs/2312.08874

A few agent tokens, averages of the queries over a coarse grid, attend to all keys; then all queries attend to the
agents. That is two softmax attentions whose cost is linear in the map, with biases by position and a depthwise
convolution of the values beside them (`AgentAttention`). In the bodies it takes the place of the first blocks'
attention; the other blocks keep that of their body: plain (DeiT), shifted windows (Swin), stripes (CSWin).

Licence: the official repository states none, so all rights are its authors'. This is an independent implementation
from the paper and from facts about the published models (names, shapes, outputs); it contains none of the official
code. Published weights are linked, never shipped.

What deviates from the official code, and why:
- Every image size works, in all bodies. The official classification code takes the training size alone; its code for
  dense prediction (PVT and Swin) is followed here: biases are interpolated, and so is the embedding of places.
- Agent-PVT compares a map with the grid of its own stage before it interpolates the embedding of places. The official
  code compares the number of positions with that of the first stage at every stage, so that 448x448 images fail, and
  some sizes get an embedding whose rows are scrambled.
- Agent-Swin shifts the windows of every second block only on maps larger than a window, as when its weights were
  trained; `always_shift=True`, which `dense="coco"` and `dense="ade20k"` set, is the official rule for dense
  prediction. The two differ in the last stage at 224x224.
- `dense` also sets the published grids of agents, which are larger than those of training, and a norm for each map
  (Swin; PVT has none).
- Agent-CSwin and Agent-DeiT were never published for dense prediction. Here they pad images to whole patches and maps
  to whole stripes, with zeros, below and on the right.
- PVT's separate layers of queries and of keys and values are one layer; its unused reduction of keys is left out.
- Stochastic depth is off unless asked for: the published rates belong to the training recipes.
"""

from .attention import AgentAttention, ClassTokenAgentAttention
from .checkpoints import checkpoint_filter_fn
from .cswin import AgentCSWin, StripeAttention, WholeMapAttention
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
    "WholeMapAttention",
    "checkpoint_filter_fn",
    "default_cfgs",
    *_entry_points,
]
