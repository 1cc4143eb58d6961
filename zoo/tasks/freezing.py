"""Freezing stages of a backbone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...backbones.common.features import FeatureMaps


def freeze_stages(backbone: Any, frozen_stages: int) -> list[nn.Module]:
    """Freezes the stem and the first stages.

    Args:
        backbone: A model with `stem` and `stages`, or `FeatureMaps` around one, whose output norms are still trained.
            Other parameters that its `group_matcher` assigns to the stem, such as position embeddings, are frozen as
            well.
        frozen_stages: Number of stages that are frozen in addition to the stem; -1 freezes nothing.

    Returns:
        The modules that must stay in evaluation mode.

    Raises:
        ValueError: The backbone has fewer stages, or no `stem` and `stages`.
    """
    if frozen_stages == -1:
        return []
    body = backbone.body if isinstance(backbone, FeatureMaps) else backbone
    stages = getattr(body, "stages", None)
    if not isinstance(getattr(body, "stem", None), nn.Module) or stages is None:
        raise ValueError(f"frozen_stages needs a backbone with `stem` and `stages`, which {type(body).__name__} lacks.")
    if not isinstance(frozen_stages, int) or not 0 <= frozen_stages <= len(stages):
        raise ValueError(f"frozen_stages must be -1 (nothing) or between 0 and {len(stages)}, got {frozen_stages!r}.")
    patterns = [r"^stem\b", *(rf"^stages\.{number}\b" for number in range(frozen_stages))]
    matcher = body.group_matcher(coarse=True) if hasattr(body, "group_matcher") else {}
    stem = matcher.get("stem", ())
    patterns += [stem] if isinstance(stem, str) else [pattern for pattern, *_ in stem]
    frozen = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    for name, parameter in body.named_parameters():
        if frozen.search(name):
            parameter.requires_grad_(False)
    return [module for name, module in body.named_modules() if name and frozen.search(name)]


def keep_frozen(module: nn.Module, frozen: Iterable[nn.Module], norm_eval: bool) -> None:
    """Sets frozen modules back to evaluation mode after `module` was set to training mode.

    Args:
        module: The module that contains them.
        frozen: Result of `freeze_stages`.
        norm_eval: Also keep the statistics of every BatchNorm in `module` fixed.
    """
    for part in frozen:
        part.eval()
    if norm_eval:
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.eval()
