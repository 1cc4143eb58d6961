"""Which part of a task takes a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .state_dicts import find_state_dict


def weights_target(task: Any, checkpoint: Mapping[str, Any] | None = None) -> nn.Module:
    """Gives what `load_weights` is to load a checkpoint into.

    Args:
        task: a task, or a model alone.
        checkpoint: what `read_checkpoint` returned; None for one that was saved from such a task.

    Returns:
        A detector or segmentor itself, since its checkpoints hold its heads, or its backbone where the checkpoint is
        a backbone's alone; the backbone of a classifier, whose head is part of it; a model alone itself.
    """
    backbone = getattr(task, "backbone", task)
    if not getattr(task, "takes_whole_checkpoints", False):
        return backbone
    if checkpoint is None:
        return task
    names = find_state_dict(checkpoint, whole=True).state_dict
    return task if any(name.startswith("backbone.") for name in names) else backbone
