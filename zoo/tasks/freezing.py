"""Taking parts of a backbone out of training."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...backbones.common.features import FeatureMaps


def freeze_stages(backbone: Any, frozen_stages: int) -> list[nn.Module]:
    """Takes the stem and the first stages out of training.

    Args:
        backbone: with modules `stem` and `stages`, as the zoo's have them, or a `FeatureMaps` around one, whose output
            norms stay in training. Parameters and modules elsewhere that its `group_matcher` counts to the stem, such
            as position embeddings, are frozen with it.
        frozen_stages: -1 for nothing, else the number of stages that are frozen together with the stem.

    Returns:
        The modules that must stay in evaluation mode.

    Raises:
        ValueError: there are not so many stages, or the backbone is built otherwise.
    """
    if frozen_stages == -1:
        return []
    body = backbone.body if isinstance(backbone, FeatureMaps) else backbone
    stages = getattr(body, "stages", None)
    if not isinstance(getattr(body, "stem", None), nn.Module) or stages is None:
        raise ValueError(f"frozen_stages needs a backbone with `stem` and `stages`; {type(body).__name__} has not.")
    if not isinstance(frozen_stages, int) or not 0 <= frozen_stages <= len(stages):
        raise ValueError(f"frozen_stages is -1 (nothing) or 0 to {len(stages)} stages, not {frozen_stages!r}.")
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
    """Puts what stays in evaluation mode back there, after `module` was set to training.

    Args:
        module: whatever holds the frozen parts.
        frozen: what `freeze_stages` gave.
        norm_eval: keep the statistics of every BatchNorm in `module` fixed, too.
    """
    for part in frozen:
        part.eval()
    if norm_eval:
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.eval()
