"""Conversion of published ECA-Net checkpoints to this package's names.

Supported: the authors' files (ResNets and MobileNetV2, saved from DataParallel, so names begin with "module.") and
    timm's
ResNets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from ..common.checkpoints import strip_prefixes

_DEEP_STEM = {"0": "0.conv", "1": "0.bn", "3": "1.conv", "4": "1.bn", "6": "2.conv"}
"""Positions in timm's sequential deep stem; layers between have no parameters, and the last BatchNorm is `bn1`."""

_STAGE_STARTS = ((1, 0), (4, 1), (7, 2), (14, 3))
"""First of the authors' numbered blocks, `features.N`, in each stage of MobileNetV2."""
_LAST_CONV = 18
"""Index of MobileNetV2's convolution after the blocks."""


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """Converts a checkpoint of any published form to the model's names; the model's own names pass unchanged.

    Args:
        state_dict: Checkpoint entries. Prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            removed.
        model: Model to load into. The result does not depend on it.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.
    """
    stripped = strip_prefixes(state_dict)
    has_deep_stem = any(name.startswith("conv1.1.") for name in stripped)
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in stripped.items():
        is_mobilenet = name.startswith(("features.", "classifier."))
        renamed[_mobilenet(name) if is_mobilenet else _resnet(name, tensor, has_deep_stem)] = tensor
    return renamed


def _resnet(name: str, tensor: torch.Tensor, has_deep_stem: bool) -> str:
    """Renames an entry of the authors' or timm's ResNet."""
    name = re.sub(r"^conv1\.weight$", "stem.convs.0.conv.weight", name)
    name = re.sub(r"^conv1\.([01346])\.", lambda match: f"stem.convs.{_DEEP_STEM[match[1]]}.", name)
    name = re.sub(r"^bn1\.", f"stem.convs.{2 if has_deep_stem else 0}.bn.", name)
    name = re.sub(r"^fc\.", "head.fc.", name)
    match = re.match(r"^layer(\d+)\.(\d+)\.(.*)$", name)
    if match is None:
        return name
    rest = re.sub(r"^(?:eca|se)\.conv\.", "attn.conv.", match[3])
    rest = re.sub(r"^conv(\d)\.", r"conv\1.conv.", rest)
    rest = re.sub(r"^bn(\d)\.", r"conv\1.bn.", rest)
    # Convolution and BatchNorm are 1 and 2 in the sequence after a pooling, otherwise 0 and 1.
    rest = re.sub(r"^downsample\.\d\.", f"shortcut.layer.{'conv' if tensor.ndim == 4 else 'bn'}.", rest)
    return f"stages.{int(match[1]) - 1}.blocks.{match[2]}.{rest}"


def _mobilenet(name: str) -> str:
    """Renames an entry of the authors' MobileNetV2."""
    if name.startswith("classifier."):
        return re.sub(r"^classifier\.1\.", "head.fc.", name)
    match = re.match(r"^features\.(\d+)\.(.*)$", name)
    if match is None:
        return name
    number, rest = int(match[1]), match[2]
    if number in (0, _LAST_CONV):
        outer = "norm" if number else "stem.conv"
        return re.sub(r"^([01])\.", lambda part: f"{outer}.{('conv', 'bn')[int(part[1])]}.", rest)
    # The first block does not expand, so its layers are one position earlier.
    layers = ("depthwise", "project") if number == 1 else ("expand", "depthwise", "project")
    place, kinds = len(layers) - 1, ("conv", "bn")
    rest = re.sub(r"^conv\.(\d)\.([01])\.", lambda part: f"{layers[int(part[1])]}.{kinds[int(part[2])]}.", rest)
    for old, new in ((place, "project.conv"), (place + 1, "project.bn"), (place + 2, "attn")):
        rest = re.sub(rf"^conv\.{old}\.", f"{new}.", rest)
    start, stage = next(pair for pair in reversed(_STAGE_STARTS) if pair[0] <= number)
    return f"stages.{stage}.blocks.{number - start}.{rest}"
