"""Data loaders from configs."""

from __future__ import annotations

import copy
import functools
import inspect
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..registry import DATA_SAMPLERS, DATASETS, FUNCTIONS, Registry
from .signals import shield_worker

_WORKERS_ONLY = ("persistent_workers", "prefetch_factor", "timeout")


def build_dataloader(dataloader: DataLoader | Mapping[str, Any], seed: int | None = None) -> DataLoader:
    """Builds a data loader.

    Args:
        dataloader: dict(dataset, sampler, batch_sampler, collate_fn, ...) and arguments of torch's DataLoader. Without
            workers, options of workers are ignored. A batch sampler receives `batch_size` and `drop_last`.
        seed: Seed of the sampler and the data set, unless the config sets one.

    Raises:
        ValueError: There is no data set or no sampler.
    """
    if isinstance(dataloader, DataLoader):
        return dataloader
    options = copy.deepcopy(dict(dataloader))
    for key in ("dataset", "sampler"):
        if key not in options:
            raise ValueError(f"A data loader needs the key {key!r}, got {sorted(options)}.")
    dataset = options.pop("dataset")
    if isinstance(dataset, Mapping):
        dataset = DATASETS.build(with_seed(DATASETS, dataset, seed))
    sampler = options.pop("sampler")
    if isinstance(sampler, Mapping):
        sampler = DATA_SAMPLERS.build(with_seed(DATA_SAMPLERS, sampler, seed), default_args={"dataset": dataset})
    batch_sampler = options.pop("batch_sampler", None)
    if isinstance(batch_sampler, Mapping):
        given = {"sampler": sampler, "batch_size": options.pop("batch_size")}
        if "drop_last" in options:
            given["drop_last"] = options.pop("drop_last")
        batch_sampler = DATA_SAMPLERS.build(dict(batch_sampler), default_args=given)
    collate = options.pop("collate_fn", None)
    if isinstance(collate, Mapping):
        arguments = dict(collate)
        collate = functools.partial(FUNCTIONS.get(arguments.pop("type")), **arguments)
    if not torch.cuda.is_available():
        options.pop("pin_memory", None)  # torch would warn that it has no effect
    if options.get("num_workers") and "cv2" in sys.modules:
        # Otherwise every worker would use as many threads as there are cores. Set before workers are forked, because
        # OpenCV's thread pool does not survive a fork, and a worker that used it would wait forever.
        sys.modules["cv2"].setNumThreads(1)
    if not options.get("num_workers"):
        for key in _WORKERS_ONLY:
            options.pop(key, None)
    return DataLoader(
        dataset,
        sampler=sampler if batch_sampler is None else None,
        batch_sampler=batch_sampler,
        collate_fn=collate,
        worker_init_fn=_init_worker,
        **options,
    )


def batch_size(loader: DataLoader) -> int:
    """Returns the number of samples in a full batch of one process."""
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if size is None:
        raise ValueError("The training data loader needs a batch_size.")
    return size


def with_seed(registry: Registry, cfg: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    """Returns a copy of a config with a seed, if its type has an argument `seed` that the config does not set."""
    cfg = dict(cfg)
    kind = cfg.get("type")
    if seed is not None and "seed" not in cfg and kind is not None:
        builder = registry.get(kind) if isinstance(kind, str) else kind
        if _takes(builder, "seed"):
            cfg["seed"] = int(seed)
    return cfg


def _takes(builder: Callable[..., Any], name: str) -> bool:
    """Returns whether a class or function takes an argument, by itself or by **kwargs that a base class receives."""
    constructors = (
        [cls.__init__ for cls in builder.__mro__ if "__init__" in vars(cls)] if inspect.isclass(builder) else [builder]
    )
    for constructor in constructors:
        parameters = inspect.signature(constructor).parameters
        if name in parameters:
            return True
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            return False
    return False


def _init_worker(worker: int) -> None:
    """Seeds the generators of a worker, differently in every epoch, and makes it ignore signals to its group."""
    del worker  # included in torch.initial_seed()
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    shield_worker()
