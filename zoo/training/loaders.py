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
            workers, options that only concern workers do not count. A batch sampler is given `batch_size`, and
            `drop_last` where it is there.
        seed: of the sampler and the data set, where they take one and the config gives none.

    Raises:
        ValueError: there is no dataset or sampler.
    """
    if isinstance(dataloader, DataLoader):
        return dataloader
    options = copy.deepcopy(dict(dataloader))
    for key in ("dataset", "sampler"):
        if key not in options:
            raise ValueError(f"A data loader needs the key {key!r}; given: {sorted(options)}.")
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
        options.pop("pin_memory", None)  # torch would warn that there is nothing to pin for
    if options.get("num_workers") and "cv2" in sys.modules:
        # Else every worker had as many threads as there are cores. Set before workers are forked: OpenCV's pool of
        # threads does not outlive a fork, and a worker that touches it waits forever.
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


def with_seed(registry: Registry, cfg: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    """A copy of a config, with the run's seed where its type takes one and it gives none."""
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
    """Prepares a worker: its own generators, other ones every epoch, and deaf to the first signals."""
    del worker  # torch has put it into its seed
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    shield_worker()
