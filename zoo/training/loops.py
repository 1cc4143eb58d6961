"""Training loops by epochs and by iterations, which can be interrupted and resumed at every step."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from ...deprecated_paths import renamed_names
from ..registry import LOOPS
from ..seeding import derive_seed
from .distributed import any_process
from .loaders import batch_size
from .nonfinite import RunningStatsSnapshot
from .state import seed_step


class TrainLoop(BaseLoop):
    """Base class of the training loops: resumable epochs, one seed per step, boundaries between steps.

    In addition to mmengine's hook points there are two at which the complete state is consistent and can be saved:
    `at_step_boundary` between two optimizer steps of an epoch, and `at_epoch_boundary` after an epoch and before its
    evaluation. The Runner calls `leave` when training or evaluation ends, even after an exception.

    Args:
        runner: The Runner.
        dataloader: The training data loader, or its config.
        val_begin: First epoch (or iteration), counted from 1, after which to evaluate.
        val_interval: Interval between evaluations in epochs (or iterations); there is always one at the end.

    Attributes:
        epoch_length: Number of batches per epoch.
        step_in_epoch: Number of completed batches in the current epoch.
        validation_pending: Whether an evaluation is due and not completed.
        stop_training: Hooks set it to end training after the current epoch.

    Raises:
        ValueError: An epoch has no batch.
    """

    max_epochs: int
    max_iters: int

    def __init__(self, runner: Any, dataloader: DataLoader | dict, val_begin: int = 1, val_interval: int = 1) -> None:
        super().__init__(runner, dataloader)
        if val_interval < 1:
            raise ValueError(f"train_cfg.val_interval must be >= 1, got {val_interval}.")
        self.epoch_length = len(self.dataloader)
        if self.epoch_length == 0:
            sampler: Any = self.dataloader.sampler
            raise ValueError(
                f"There are {len(sampler)} training samples per process, less than one batch: use a smaller "
                f"train_dataloader.batch_size, or drop_last=False."
            )
        self.val_begin = val_begin
        self.val_interval = val_interval
        self.epoch = 0
        self.iter = 0
        self.step_in_epoch = 0
        self.validated_at = 0
        self.validation_pending = False
        self.stop_training = False
        self._running_stats = RunningStatsSnapshot(runner.model)

    @property
    def finished(self) -> bool:
        """Whether training is complete."""
        return self.iter >= self.max_iters or (self.stop_training and self.step_in_epoch == 0)

    def run(self) -> torch.nn.Module:
        """Trains until the end."""
        self.runner.call_hook("before_train")
        if self.validation_pending:
            self._validate()
        while not self.finished:
            self.run_epoch()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Trains for an epoch, or the rest of it."""
        runner, start = self.runner, self.step_in_epoch
        length = min(self.epoch_length, start + self.max_iters - self.iter)
        runner.call_hook("before_train_epoch")
        runner.optim_wrapper.start_epoch(length - start)
        self._set_sampler_position(start)
        runner.model.train()
        with batch_iterator(self.dataloader) as next_batch:
            while self.step_in_epoch < length:
                self.run_iter(self.step_in_epoch, next_batch())
                if self.step_in_epoch < length and runner.optim_wrapper.at_boundary:
                    self._between_steps(epoch_over=False)
        runner.call_hook("after_train_epoch")
        if length == self.epoch_length:
            self.epoch += 1
            self.step_in_epoch = 0
        self._between_steps(epoch_over=True)

    def _set_sampler_position(self, start: int) -> None:
        """Sets the sampler to the current epoch, after `start` completed batches."""
        loader = self.dataloader
        sampler, size = getattr(loader.batch_sampler, "sampler", None) or loader.sampler, batch_size(loader)
        if hasattr(loader.batch_sampler, "set_epoch"):  # a batch sampler with its own batches counts these
            sampler, size = loader.batch_sampler, 1
        set_epoch = getattr(sampler, "set_epoch", None)
        if start == 0 and set_epoch is not None:
            set_epoch(self.epoch)
        elif start:
            if set_epoch is None or "start" not in inspect.signature(set_epoch).parameters:
                raise ValueError(
                    f"Cannot resume in the middle of an epoch: the sampler {type(sampler).__name__} has no "
                    f"set_epoch(epoch, start=...), which EpochSampler has."
                )
            set_epoch(self.epoch, start=start * size)
        # Seeds the workers: differently in every epoch, and without using the global generator.
        loader.generator = torch.Generator().manual_seed(derive_seed(self.runner.seed, self.epoch, stream="workers"))

    def run_iter(self, batch_idx: int, batch: Any) -> None:
        """Trains on one batch.

        Args:
            batch_idx: Index of the batch in the epoch.
            batch: The collated batch.
        """
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=batch_idx, data_batch=batch)
        seed_step(runner.seed, self.iter, runner.rank)
        self._running_stats.save()
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        if runner.optim_wrapper.nonfinite == "loss":
            self._running_stats.restore()
        outputs = {name: value.detach() for name, value in outputs.items()}
        runner.call_hook("after_train_iter", batch_idx=batch_idx, data_batch=batch, outputs=outputs)
        self.iter += 1
        self.step_in_epoch += 1

    def _between_steps(self, epoch_over: bool) -> None:
        self.validation_pending = self.runner.val_loop is not None and self._validation_due(epoch_over)
        self.runner.call_hook("at_epoch_boundary" if epoch_over else "at_step_boundary")
        if self.finished and not self.validation_pending:
            return
        if any_process(self.runner.stop_request.received is not None):
            self.runner.stop()
        if self.validation_pending:
            self._validate()

    def _validate(self) -> None:
        val_loop = self.runner.val_loop
        metrics = val_loop.evaluate()
        if metrics is None:
            self.runner.stop()
        self.validation_pending = False
        self.validated_at = self.iter
        val_loop.report(metrics)
        self.runner.model.train()

    def _validation_due(self, epoch_over: bool) -> bool:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of training, as plain types."""
        return {
            "epoch": self.epoch,
            "iter": self.iter,
            "step_in_epoch": self.step_in_epoch,
            "validated_at": self.validated_at,
            "validation_pending": self.validation_pending,
            "stop_training": self.stop_training,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the position of training; `resume_checks.check_identity` checks that this run has it."""
        self.epoch, self.iter, self.step_in_epoch = state["epoch"], state["iter"], state["step_in_epoch"]
        self.validated_at, self.validation_pending = state["validated_at"], state["validation_pending"]
        self.stop_training = state["stop_training"]


@contextlib.contextmanager
def batch_iterator(loader: DataLoader) -> Iterator[Callable[[], Any]]:
    """Context manager that yields a function for the next batch, and shuts the workers down at the end of the block.

    In a `for` loop, the traceback of an exception would keep the iterator and its workers alive.
    """
    iterators = [iter(loader)]
    try:
        yield lambda: next(iterators[0])
    finally:
        iterators.clear()


def shutdown_workers(loader: DataLoader) -> None:
    """Shuts persistent workers down immediately. The garbage collector would wait seconds for each of them."""
    loader._iterator = None


@LOOPS.register_module()
class EpochTrainLoop(TrainLoop):
    """Trains for a number of epochs.

    Args:
        runner: The Runner.
        dataloader: The training data loader, or its config.
        max_epochs: Number of epochs, including the cool-down.
        **kwargs: Arguments of `TrainLoop`, in epochs.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, max_epochs: int, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, **kwargs)
        if max_epochs < 1 or int(max_epochs) != max_epochs:
            raise ValueError(f"train_cfg.max_epochs must be an integer >= 1, got {max_epochs!r}.")
        self.max_epochs = int(max_epochs)
        self.max_iters = self.max_epochs * self.epoch_length

    def _validation_due(self, epoch_over: bool) -> bool:
        if not epoch_over or self.epoch < self.val_begin:
            return False
        return self.epoch % self.val_interval == 0 or self.finished


@LOOPS.register_module()
class IterTrainLoop(TrainLoop):
    """Trains for a number of iterations, over as many epochs as necessary.

    Args:
        runner: The Runner.
        dataloader: The training data loader, or its config.
        max_iters: Number of iterations.
        **kwargs: Arguments of `TrainLoop`, in iterations.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, max_iters: int, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, **{"val_interval": 1000, **kwargs})
        if max_iters < 1 or int(max_iters) != max_iters:
            raise ValueError(f"train_cfg.max_iters must be an integer >= 1, got {max_iters!r}.")
        self.max_iters = int(max_iters)
        self.max_epochs = -(-self.max_iters // self.epoch_length)

    def _validation_due(self, epoch_over: bool) -> bool:
        if self.iter < self.val_begin:
            return False
        # With gradient accumulation, a boundary can be after a multiple of the interval.
        return self.iter // self.val_interval > self.validated_at // self.val_interval or self.finished


__getattr__ = renamed_names(__name__, {"batches": "batch_iterator", "end_workers": "shutdown_workers"})
