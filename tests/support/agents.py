"""Small agent transformers, and published weights and parameter names."""

from __future__ import annotations

import functools
import re
from typing import Any

import torch

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.agent import (
    AgentCSWin,
    AgentDeiT,
    AgentPVT,
    AgentSwin,
)
from attnzoo.backbones.common.backbone import Backbone
from support import parity


def tiny(body: str, **kwargs: Any) -> Any:
    """Builds a model with two stages for 32x48 images."""
    shared: dict[str, Any] = {"num_agents": (4, 9), "img_size": (32, 48), "num_classes": 5}
    if body == "deit":
        settings = {"embed_dim": 8, "num_heads": 2, "depths": (2, 2), "agent_blocks": (2, 1), "patch_size": 8}
        return AgentDeiT(**{**shared, **settings, **kwargs})
    settings = {"depths": (2, 2), "num_heads": (2, 2)}
    if body == "pvt":
        return AgentPVT(**{**shared, **settings, "embed_dims": (8, 16), "mlp_ratios": (2, 1.5), **kwargs})
    settings |= {"embed_dim": 8, "agent_blocks": (1, 0)}
    if body == "swin":
        return AgentSwin(**{**shared, **settings, "window_size": 3, **kwargs})
    return AgentCSWin(**{**shared, **settings, "stripe_sizes": (3, 3), **kwargs})


BODIES = ("deit", "pvt", "swin", "cswin")


def blocks_of(model: Any) -> list[list[Any]]:
    return [list(stage.blocks) for stage in model.stages]


@functools.cache
def official_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("agent_attention", variant)[0])


@functools.cache
def classifier(variant: str) -> Any:
    model = model_entrypoint(variant)().eval()
    load_weights(model, official_weights(variant))
    return model


def official(model: Backbone) -> dict[str, torch.Tensor]:
    """Returns a model's weights under the parameter names of the original implementation."""
    rename = {"AgentDeiT": _deit_name, "AgentPVT": _pvt_name, "AgentSwin": _swin_name, "AgentCSWin": _cswin_name}
    out: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        new = rename[type(model).__name__](model, name).replace("head.fc.", "head.")
        if isinstance(model, AgentPVT) and ".qkv." in new:
            dim = len(tensor) // 3
            out[new.replace(".qkv.", ".q.")], out[new.replace(".qkv.", ".kv.")] = tensor[:dim], tensor[dim:]
        else:
            out[new] = tensor.flatten(1).t() if new.endswith("bias_table") else tensor
    return out


def _deit_name(model: Any, name: str) -> str:
    starts = [sum(model.depths[:index]) for index in range(len(model.depths))]
    name = re.sub(r"^stem\.proj", "patch_embed.proj", name).replace("stem.", "")
    return re.sub(
        r"^stages\.(\d)\.blocks\.(\d+)", lambda match: f"blocks.{starts[int(match[1])] + int(match[2])}", name
    )


def _pvt_name(model: Any, name: str) -> str:
    name = re.sub(r"^stem\.", "stages.0.downsample.", name)
    name = re.sub(r"^stages\.(\d)\.", lambda match: f"stages.{int(match[1]) + 1}.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.pos_embed", r"pos_embed\1", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"patch_embed\1.", name)
    return re.sub(r"^stages\.(\d)\.blocks\.", r"block\1.", name)


def _swin_name(model: Any, name: str) -> str:
    name = re.sub(r"^stem\.", "patch_embed.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", lambda match: f"layers.{int(match[1]) - 1}.downsample.", name)
    return re.sub(r"^stages\.", "layers.", name).replace(".rpb", ".relative_position_bias_table")


def _cswin_name(model: Any, name: str) -> str:
    name = name.replace("stem.proj.", "stage1_conv_embed.0.").replace("stem.norm.", "stage1_conv_embed.2.")
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"merge\1.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.(\d+)", lambda match: f"stage{int(match[1]) + 1}.{match[2]}", name)
    name = re.sub(r"\.attn\.(qkv|proj)\.", r".\1.", name)
    name = re.sub(r"\.attn\.dwc\.([01])\.", r".attns.\1.get_v.", name)
    return name.replace(".attn.dwc.", ".attns.0.get_v.").replace(".attn.", ".attns.0.")
