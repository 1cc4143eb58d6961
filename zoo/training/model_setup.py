"""Preparing a model for training: device, memory format, compilation, SyncBatchNorm, distributed wrapper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from torch import nn

from ...deprecated_paths import renamed_names
from ..registry import MODEL_WRAPPERS
from .distributed import local_rank


def prepare_model(
    model: nn.Module, cfg: Mapping[str, Any], distributed: bool, wrapper: Mapping[str, Any] | None = None
) -> nn.Module:
    """Moves a model to its device, applies options, and wraps it for distributed training.

    Args:
        model: The model.
        cfg: Options: `channels_last`, `compile` (True, or arguments of torch.compile), `sync_bn` (True or "torch"),
            `find_unused_parameters`.
        distributed: Whether there is a process group.
        wrapper: Type and arguments of the wrapper; by default MMDistributedDataParallel.

    Raises:
        ValueError: `sync_bn` is set, but there is no GPU.
    """
    if is_model_wrapper(model):
        return model
    device = get_device()
    if cfg.get("channels_last"):
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # missing in the stubs
    if not distributed:
        model = revert_sync_batchnorm(model)
    elif cfg.get("sync_bn"):
        if not device.startswith("cuda"):
            raise ValueError("sync_bn needs GPUs: torch.nn.SyncBatchNorm does not support CPUs.")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model = model.to(device)
    options = cfg.get("compile")
    if options:
        # In place, so that parameters keep their names. Only the backbone: the task around it is plain Python.
        target = getattr(model, "backbone", model)
        target.compile(**({} if options is True else dict(options)))
    if not distributed:
        return model
    return MODEL_WRAPPERS.build(
        {
            "type": MMDistributedDataParallel,
            "find_unused_parameters": cfg.get("find_unused_parameters", False),
            **(wrapper or {}),
            "module": model,
            "device_ids": [local_rank()] if device.startswith("cuda") else None,
        }
    )


def unwrap_model(model: nn.Module) -> nn.Module:
    """Returns the model without its distributed wrapper."""
    if is_model_wrapper(model):
        model = model.module  # pyright: ignore[reportAssignmentType]  # every wrapper has it
    return model


__getattr__ = renamed_names(__name__, {"bare": "unwrap_model", "place_model": "prepare_model"})
