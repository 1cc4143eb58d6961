"""A tiny model and data set that use every random generator, and a hook that injects faults, for training tests."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from attnzoo.zoo.data.common.samplers import SampleKey
from attnzoo.zoo.registry import DATASETS, HOOKS, METRICS, MODELS
from attnzoo.zoo.seeding import derive_seed, isolated_randomness
from attnzoo.zoo.training import build_runner


@DATASETS.register_module()
class ToyDataset(torch.utils.data.Dataset):
    """Random vectors with labels, and noise from all three global generators that depends on the sample key.

    `nonfinite` lists the (epoch, index) pairs whose image is infinite.
    """

    def __init__(self, length: int = 22, seed: int = 0, augment: bool = True, nonfinite: tuple = ()) -> None:
        self.seed, self.augment = seed, augment
        self.images = torch.randn(length, 6, generator=torch.Generator().manual_seed(1))
        self.nonfinite = {tuple(pair) for pair in nonfinite}
        self.aspect_ratios = np.where(self.images[:, 0].numpy() > 0, 1.5, 0.5)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        image = self.images[key.index].clone()
        if self.augment:
            with isolated_randomness(derive_seed(self.seed, *key)):
                image += 0.1 * (torch.randn(6) + random.random() + float(np.random.rand()))  # noqa: NPY002
        if (key.epoch, key.index) in self.nonfinite:
            image[0] = torch.inf
        return {
            "image": image,
            "label": int(self.images[key.index].sum() > 0),
            "index": key.index,
            "epoch": key.epoch,
        }


@MODELS.register_module()
class ToyModel(BaseModel):
    """Linear, optional BatchNorm, dropout, linear; `careless` also uses the generators of Python and NumPy."""

    def __init__(self, norm: bool = True, dropout: float = 0.3, dtype: str = "float32", careless: bool = False) -> None:
        super().__init__()
        self.careless = careless
        self.fc1 = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(8, 2)
        self.to(getattr(torch, dtype))

    def forward(self, image: torch.Tensor, label: torch.Tensor, mode: str = "loss", **ids: Any) -> Any:
        x = self.dropout(torch.relu(self.norm(self.fc1(image.to(self.fc1.weight.dtype)))))
        logits = self.fc2(x)
        if mode == "loss":
            if self.careless:
                logits = logits * (1.0 + 0.1 * random.random() + 0.1 * float(np.random.rand()))  # noqa: NPY002
            return {"loss": nn.functional.cross_entropy(logits, label)}
        return [{"right": bool(p == t)} for p, t in zip(logits.argmax(1), label, strict=True)]


@METRICS.register_module()
class ToyAccuracy:
    """Percentage of correct predictions over all processes, and the number of predictions."""

    def __init__(self) -> None:
        self.results: list[bool] = []
        self.dataset_meta: Any = None

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [sample["right"] for sample in data_samples]

    def evaluate(self, size: int) -> dict[str, float]:
        from attnzoo.zoo.training.distributed import gather_objects

        rights = [right for part in gather_objects(self.results) for right in part]
        self.results = []
        assert len(rights) == size
        return {"top1": 100.0 * sum(rights) / size, "count": float(size)}


@HOOKS.register_module()
class FaultHook(Hook):
    """Sends a signal to its own process before iteration `at`: "kill", "term", "term_group", "hangup", "interrupt"."""

    priority = "VERY_HIGH"

    def __init__(self, at: int, what: str = "kill", during_validation: bool = False) -> None:
        self.at, self.what, self.during_validation = at, what, during_validation

    def _act(self) -> None:
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.what == "hangup":
            os.kill(os.getpid(), signal.SIGHUP)
        elif self.what == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        elif self.what == "term_group":
            # From another process, as a scheduler does. A worker that exits on the signal is gone before the step ends.
            group, sender = os.getpgid(0), os.fork()
            if not sender:
                os.setpgid(0, 0)
                os.killpg(group, signal.SIGTERM)
                os._exit(0)
            os.waitpid(sender, 0)
            time.sleep(0.5)
        else:
            raise ValueError(self.what)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.at and not self.during_validation:
            self._act()

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == self.at and self.during_validation and batch_idx == 0:
            self._act()


def toy_config(work_dir: Path | str, **changes: Any) -> dict[str, Any]:
    """Returns a config with three epochs of five batches; a change named "a__b" sets the key b of a."""
    config: dict[str, Any] = {
        "model": {"type": "ToyModel"},
        "work_dir": str(work_dir),
        "train_dataloader": {
            "batch_size": 4,
            "num_workers": 0,
            "drop_last": True,
            "dataset": {"type": "ToyDataset"},
            "sampler": {"type": "EpochSampler"},
        },
        "val_dataloader": {
            "batch_size": 4,
            "dataset": {"type": "ToyDataset", "length": 13, "augment": False},
            "sampler": {"type": "EvaluationSampler"},
        },
        "val_evaluator": {"type": "ToyAccuracy"},
        "val_cfg": {"type": "ValLoop"},
        "train_cfg": {"type": "EpochTrainLoop", "max_epochs": 3},
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 0.05, "weight_decay": 0.1},
            "clip_grad": {"max_norm": 1.0},
        },
        "param_scheduler": [{"type": "WarmupCosine", "warmup_iters": 3, "warmup_lr": 1e-4, "min_lr": 1e-3}],
        "custom_hooks": [{"type": "EMAHook", "decay": 0.9}],
        "default_hooks": {
            "logger": {"type": "LoggerHook", "interval": 1, "tensorboard": False},
            "checkpoint": {"type": "CheckpointHook", "interval": 1, "save_best": "top1"},
        },
        "randomness": {"seed": 3},
        "log_level": "WARNING",
    }
    for name, value in changes.items():
        *path, last = name.split("__")
        target = config
        for key in path:
            target = target[key]
        target[last] = value
    return config


def build(config: dict[str, Any]) -> Any:
    """Calls `build_runner`; the result has type Any, for tests that access internals."""
    return build_runner(config)


def run_in_child(
    function: Callable[[], Any], own_group: bool = False, environment: dict[str, str] | None = None
) -> Child:
    """Runs a function in a forked process, which may be killed."""
    pid = os.fork()
    if pid:
        return Child(pid)
    code = 1
    try:
        signal.alarm(120)
        if own_group:
            os.setpgid(0, 0)
        os.environ.update(environment or {})
        function()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):  # a test may have closed them
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Child:
    """A forked process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        """Returns its exit code, or the negative number of the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def run_ranks(function: Callable[[int], Any], count: int = 2) -> list[int]:
    """Runs a function in several processes, with the environment of torchrun; returns their exit codes."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    children = [
        run_in_child(
            lambda rank=rank: function(rank), environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(count)
    ]
    return [child.wait() for child in children]


def same(a: Any, b: Any, path: str = "") -> list[str]:
    """Returns where two plain states differ bit for bit; times are ignored."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all()) else [path]
    if isinstance(a, dict) and isinstance(b, dict):
        skipped = ("time", "data_time", "train/time", "train/data_time", "val/time", "val/data_time")
        keys = [key for key in {**a, **b} if key not in skipped]
        missing = [f"{path}.{key} only once" for key in keys if (key in a) != (key in b)]
        return missing + [
            found for key in keys if key in a and key in b for found in same(a[key], b[key], f"{path}.{key}")
        ]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [found for i, (x, y) in enumerate(zip(a, b, strict=True)) for found in same(x, y, f"{path}[{i}]")]
    return [] if type(a) is type(b) and a == b else [f"{path}: {str(a)[:40]} / {str(b)[:40]}"]
