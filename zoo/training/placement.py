"""A model brought to its device: memory format, compilation, synchronised BatchNorm, several processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from torch import nn

from ..registry import MODEL_WRAPPERS
from .distributed import local_rank


def place_model(
    model: nn.Module, cfg: Mapping[str, Any], distributed: bool, wrapper: Mapping[str, Any] | None = None
) -> nn.Module:
    """Brings a model to its device, in the wanted form, and wraps it where there are several processes.

    Args:
        model: the model.
        cfg: `channels_last`, `compile` (True, or arguments of torch.compile), `sync_bn` (True or "torch"),
            `find_unused_parameters`.
        distributed: whether there is a process group.
        wrapper: type and arguments of the wrapper; None is MMDistributedDataParallel.

    Raises:
        ValueError: `sync_bn` without GPUs.
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
            raise ValueError("sync_bn needs GPUs: torch's SyncBatchNorm has no CPU form.")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model = model.to(device)
    options = cfg.get("compile")
    if options:
        # In place, so that parameters keep their names; the task around a backbone is plain Python.
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


def bare(model: nn.Module) -> nn.Module:
    """The model without its wrapper for several processes."""
    if is_model_wrapper(model):
        model = model.module  # pyright: ignore[reportAssignmentType]  # every wrapper has it
    return model
