"""Which part of a task a checkpoint is loaded into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .state_dicts import find_state_dict


def weights_target(task: Any, checkpoint: Mapping[str, Any] | None = None) -> nn.Module:
    """Returns the module that `load_weights` loads a checkpoint into.

    Args:
        task: A task, or a model alone.
        checkpoint: Content of the checkpoint file; None if it was saved from such a task.

    Returns:
        A detector or segmentor itself, because its checkpoints contain its heads, or its backbone if the checkpoint
        contains a backbone only. The backbone of a classifier, which includes the head. A model alone itself.
    """
    backbone = getattr(task, "backbone", task)
    if not getattr(task, "has_separate_heads", False):
        return backbone
    if checkpoint is None:
        return task
    names = find_state_dict(checkpoint, keep_all_parts=True).state_dict
    return task if any(name.startswith("backbone.") for name in names) else backbone
