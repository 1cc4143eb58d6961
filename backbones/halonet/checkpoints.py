"""Conversion of timm's HaloNet checkpoints to this package's names.

timm's names look like `stages.0.1.conv1_1x1.conv.weight`; attention projections are 1x1 convolutions there.
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
"""timm's names inside a block and ours; other names are equal."""
_EMBEDDINGS = {"pos_embed.height_rel": "row_embedding", "pos_embed.width_rel": "col_embedding"}
_PROJECTION = re.compile(r"\.attn\.(q|kv|qkv)\.weight$")


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: HaloNet) -> dict[str, torch.Tensor]:
    """Converts a checkpoint of timm to the model's names; the model's own names pass unchanged.

    Args:
        state_dict: Checkpoint entries. Prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            removed.
        model: Model to load into.

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
