"""Conversion of published checkpoints to the model's own names.

Forms: the official classifiers of BiFormer (`downsample_layers.*`, `stages.0.0.*`), BiFormer-STL
(`stages.0.blocks.0.*`) and its refactoring (1x1 convolutions instead of linear layers), and the official backbones for
detection and segmentation (BiFormer's names with the prefix `backbone.`, and `extra_norms`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..common.checkpoints import strip_prefixes

if TYPE_CHECKING:
    from .model import BiFormer

_NAMES = (
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.attn\.qkv\.qkv\.", ".attn.qkv."),
    (r"\.attn\.qkv_linear\.", ".attn.qkv."),
    (r"\.attn\.(?:wo|output_linear)\.", ".attn.proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.[23]\.", ".mlp.fc2."),
    (r"^extra_norms\.", "norm"),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)
_PLACES = {
    "conv": {
        "stem": {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2"},
        "downsample": {"0": "conv", "1": "bn"},
    },
    "patch": {
        "stem": {"0": "conv", "1": "bn"},
        "downsample": {"0": "bn", "1": "conv"},
    },
}
"""Our names of the numbered layers in `downsample_layers`, by `patches`."""
_LINEAR = re.compile(r"\.(?:attn\.(?:qkv|proj)|mlp\.fc[12])\.weight$")


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: BiFormer) -> dict[str, torch.Tensor]:
    """Converts a checkpoint of any published form to the model's names; the model's own names pass unchanged.

    Unknown names are kept, for strict loading to report.

    Args:
        state_dict: Tensors by name; prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            removed.
        model: Model to load into.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.

    Raises:
        ValueError: The checkpoint is one of biformer_stl and the model is a biformer_stl_nchw, or vice versa. All
        shapes
            match, but the outputs would be wrong.
    """
    state_dict = strip_prefixes(state_dict)
    _check_lepe(state_dict, model)
    places = _PLACES[model.patches]

    def place(match: re.Match[str]) -> str:
        index, number = int(match[1]), match[2]
        kind, start = ("downsample", f"stages.{index}.downsample") if index else ("stem", "stem")
        return f"{start}.{places[kind][number]}." if number in places[kind] else match[0]

    renamed = {}
    for name, tensor in state_dict.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"^downsample_layers\.(\d+)\.(\d+)\.", place, name)
        if _LINEAR.search(name) and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
            tensor = tensor.flatten(1)
        renamed[name] = tensor
    return renamed


def _check_lepe(state_dict: Mapping[str, torch.Tensor], model: BiFormer) -> None:
    """Raises a ValueError if the names show that the checkpoint computes LePE of the last stage from another input."""
    if model.patches != "patch":
        return
    for mark, lepe, name in (
        (".attn.qkv_linear.", "value", "biformer_stl_nchw"),
        (".attn.wo.", "input", "biformer_stl"),
    ):
        if model.full_lepe != lepe and any(mark in key for key in state_dict):
            raise ValueError(
                f"The checkpoint is one of {name}: its names contain {mark[1:-1]!r}. This model computes LePE of the "
                f"last stage from the {model.full_lepe} instead of the {lepe}. Build {name} to load it."
            )
