"""Published forms of the family's checkpoints, turned into the model's own names.

There is one form: timm's (`stages.0.1.conv1_1x1.conv.weight`), with projections of attentions as 1x1 convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..common.checkpoints import strip_prefixes

if TYPE_CHECKING:
    from .model import HaloNet

_TIMM_BLOCK = re.compile(r"^stages\.(\d+)\.(\d+)\.")
_MODULES = {
    "attn": "gate",
    "self_attn": "attn",
    "post_attn": "norm",
    "conv1_1x1": "conv1",
    "conv2_kxk": "conv2",
    "conv3_1x1": "conv3",
}
"""timm's names inside of a block, and ours; others are the same."""
_EMBEDDINGS = {"pos_embed.height_rel": "row_embedding", "pos_embed.width_rel": "col_embedding"}
_PROJECTION = re.compile(r"\.attn\.(q|kv|qkv)\.weight$")


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: HaloNet) -> dict[str, torch.Tensor]:
    """Turns a checkpoint of timm's into the model's names; its own names pass unchanged.

    Args:
        state_dict: names to tensors; prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            taken off.
        model: the model to load into.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in strip_prefixes(state_dict).items():
        name = re.sub(r"^stem\.(conv|bn)\.", r"stem.conv1.\1.", name)
        for theirs, ours in model.moved_modules.items():
            name = re.sub(rf"^{re.escape(theirs)}\.", f"{ours}.", name)
        block = _TIMM_BLOCK.match(name)
        if block:
            module, _, rest = name[block.end() :].partition(".")
            name = f"stages.{block[1]}.blocks.{block[2]}.{_MODULES.get(module, module)}.{_EMBEDDINGS.get(rest, rest)}"
            if _PROJECTION.search(name):
                tensor = tensor.flatten(1)
            elif name.endswith(".conv_lambda.weight"):
                tensor = tensor.squeeze(-1)
        renamed[name] = tensor
    return renamed
