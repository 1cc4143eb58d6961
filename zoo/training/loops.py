"""Training by epochs or by iterations, interruptible and resumable at every step."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from ..registry import LOOPS
from ..seeding import derive_seed
from .distributed import any_process
from .guards import RunningStatistics
from .state import seed_step


class TrainLoop(BaseLoop):
    """What both loops share: epochs that start anywhere, steps with their own seeds, boundaries between steps.

    Hooks have two moments more than mmengine's, at which the whole state is consistent and can be saved:
    `at_step_boundary` between two optimizer steps of an epoch, and `at_epoch_boundary` after an epoch and before its
    evaluation.

    Args:
        runner: the Runner.
        dataloader: the training data, or its config.
        val_begin: the first epoch (or iteration), counted from 1, that is evaluated.
        val_interval: every how many epochs (or iterations) are evaluated; the last one always is.

    Attributes:
        epoch_length: batches in an epoch.
        step_in_epoch: batches of the present epoch that are done.
        validation_pending: an evaluation is due and not done.
        stop_training: set by hooks to end training after the present epoch.

    Raises:
        ValueError: there is not one batch in an epoch.
    """

    max_epochs: int
    max_iters: int

    def __init__(self, runner: Any, dataloader: DataLoader | dict, val_begin: int = 1, val_interval: int = 1) -> None:
        super().__init__(runner, dataloader)
        if val_interval < 1:
            raise ValueError(f"train_cfg.val_interval is from 1 on, not {val_interval}.")
        self.epoch_length = len(self.dataloader)
        if self.epoch_length == 0:
            sampler: Any = self.dataloader.sampler
            raise ValueError(
                f"The training set gives a process {len(sampler)} samples, less than one batch: take a smaller "
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
        self._statistics = RunningStatistics(runner.model)

    @property
    def finished(self) -> bool:
        """Whether no training is left to do."""
        return self.iter >= self.max_iters or (self.stop_training and self.step_in_epoch == 0)

    def run(self) -> torch.nn.Module:
        """Trains to the end."""
        self.runner.call_hook("before_train")
        if self.validation_pending:
            self._validate()
        while not self.finished:
            self.run_epoch()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Trains for an epoch, or what is left of it."""
        runner, start = self.runner, self.step_in_epoch
        length = min(self.epoch_length, start + self.max_iters - self.iter)
        runner.call_hook("before_train_epoch")
        runner.optim_wrapper.start_epoch(length - start)
        self._aim(start)
        runner.model.train()
        with batches(self.dataloader) as following:
            while self.step_in_epoch < length:
                self.run_iter(self.step_in_epoch, following())
                if self.step_in_epoch < length and runner.optim_wrapper.at_boundary:
                    self._between_steps(epoch_over=False)
        runner.call_hook("after_train_epoch")
        if length == self.epoch_length:
            self.epoch += 1
            self.step_in_epoch = 0
        self._between_steps(epoch_over=True)

    def _aim(self, start: int) -> None:
        """Points the sampler at the present epoch, after the batches that are done."""
        loader = self.dataloader
        sampler, size = getattr(loader.batch_sampler, "sampler", None) or loader.sampler, batch_size(loader)
        if hasattr(loader.batch_sampler, "set_epoch"):  # it forms batches in its own way, and counts them
            sampler, size = loader.batch_sampler, 1
        aim = getattr(sampler, "set_epoch", None)
        if start == 0 and aim is not None:
            aim(self.epoch)
        elif start:
            if aim is None or "start" not in inspect.signature(aim).parameters:
                raise ValueError(
                    f"Cannot resume in the middle of an epoch: the sampler {type(sampler).__name__} has no "
                    f"set_epoch(epoch, start=...). EpochSampler has."
                )
            aim(self.epoch, start=start * size)
        # Workers' own seeds come from here: new ones every epoch, and none drawn from the global generator.
        loader.generator = torch.Generator().manual_seed(derive_seed(self.runner.seed, self.epoch, stream="workers"))

    def run_iter(self, batch_idx: int, batch: Any) -> None:
        """Trains on a batch.

        Args:
            batch_idx: its number in the epoch, from 0.
            batch: what the collate function made.
        """
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=batch_idx, data_batch=batch)
        seed_step(runner.seed, self.iter, runner.rank)
        self._statistics.keep()
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        if runner.optim_wrapper.nonfinite == "loss":
            self._statistics.restore()
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
        """Where training stands, as plain types."""
        return {
            "epoch": self.epoch,
            "iter": self.iter,
            "step_in_epoch": self.step_in_epoch,
            "epoch_length": self.epoch_length,
            "batch_size": batch_size(self.dataloader),
            "validated_at": self.validated_at,
            "validation_pending": self.validation_pending,
            "stop_training": self.stop_training,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where training stood.

        Raises:
            ValueError: batches or epochs are of another size now, so that there is no such place.
        """
        now = {"epoch_length": self.epoch_length, "batch_size": batch_size(self.dataloader)}
        before = {key: state[key] for key in now}
        if now != before:
            raise ValueError(
                f"The checkpoint stands at a place that this training does not have: it counts {before}, this run "
                f"{now}, for each process. Resume with the same data, batch size and number of processes, or start "
                f"anew from its weights with load_from."
            )
        self.epoch, self.iter, self.step_in_epoch = state["epoch"], state["iter"], state["step_in_epoch"]
        self.validated_at, self.validation_pending = state["validated_at"], state["validation_pending"]
        self.stop_training = state["stop_training"]


@contextlib.contextmanager
def batches(loader: DataLoader) -> Iterator[Callable[[], Any]]:
    """Gives a function for the next batch, and ends the workers with the block, whatever ends it.

    A `for` loop would keep the iterator alive in the traceback of an exception, and its workers with it.
    """
    held = [iter(loader)]
    try:
        yield lambda: next(held[0])
    finally:
        held.clear()


def end_workers(loader: DataLoader) -> None:
    """Ends persistent workers now. Left to the garbage collector, each takes seconds of waiting."""
    loader._iterator = None


def batch_size(loader: DataLoader) -> int:
    """Samples in a full batch of one process."""
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if size is None:
        raise ValueError("The training data loader makes no batches: give it a batch_size.")
    return size


@LOOPS.register_module()
class EpochTrainLoop(TrainLoop):
    """Trains for a number of epochs.

    Args:
        runner: the Runner.
        dataloader: the training data, or its config.
        max_epochs: how many epochs, cool-down included.
        **kwargs: arguments of `TrainLoop`, in epochs.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, max_epochs: int, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, **kwargs)
        if max_epochs < 1 or int(max_epochs) != max_epochs:
            raise ValueError(f"train_cfg.max_epochs is a whole number from 1 on, not {max_epochs!r}.")
        self.max_epochs = int(max_epochs)
        self.max_iters = self.max_epochs * self.epoch_length

    def _validation_due(self, epoch_over: bool) -> bool:
        if not epoch_over or self.epoch < self.val_begin:
            return False
        return self.epoch % self.val_interval == 0 or self.finished


@LOOPS.register_module()
class IterTrainLoop(TrainLoop):
    """Trains for a number of iterations, over as many epochs as they need.

    Args:
        runner: the Runner.
        dataloader: the training data, or its config.
        max_iters: how many iterations.
        **kwargs: arguments of `TrainLoop`, in iterations.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, max_iters: int, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, **{"val_interval": 1000, **kwargs})
        if max_iters < 1 or int(max_iters) != max_iters:
            raise ValueError(f"train_cfg.max_iters is a whole number from 1 on, not {max_iters!r}.")
        self.max_iters = int(max_iters)
        self.max_epochs = -(-self.max_iters // self.epoch_length)

    def _validation_due(self, epoch_over: bool) -> bool:
        if self.iter < self.val_begin:
            return False
        # Gradient accumulation can carry a boundary past a multiple of the interval.
        return self.iter // self.val_interval > self.validated_at // self.val_interval or self.finished
