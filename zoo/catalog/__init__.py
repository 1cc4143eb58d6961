"""Published checkpoints of detectors and segmentors: where they are, and what was published about them.

A module of this package per family of backbones registers the family's checkpoints. Backbones and classifiers are not
listed here: their weights belong to their entry points, see `attnzoo.list_models(pretrained=True)`.
"""

from .entries import Checkpoint, get_checkpoint, list_checkpoints, register_checkpoint
from .recipes import checkpoint_of_config

__all__ = ["Checkpoint", "checkpoint_of_config", "get_checkpoint", "list_checkpoints", "register_checkpoint"]
