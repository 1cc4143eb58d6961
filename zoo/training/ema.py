"""Exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..registry import HOOKS
from .placement import bare


class WeightAverage:
    """Averaged copies of everything in a model's state dict, under the same keys.

    Floating-point buffers are averaged like weights, others are copied (timm's and the papers' habit).

    Args:
        model: the model that trains.
        decay: weight of the old average in the new one.
        warmup: start with a smaller decay, min(decay, (1 + n) / (10 + n)) after n updates, so that the first, random
            weights are forgotten sooner (the rule of TensorFlow's ExponentialMovingAverage).

    Raises:
        ValueError: `decay` does not lie between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, warmup: bool = False) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay lies from 0 to under 1, not {decay}.")
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self._model = model
        # A tensor can have several names (tied weights); it is averaged once, under the first.
        first: dict[int, str] = {}
        self._first_names: dict[str, str] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            self._first_names[name] = first.setdefault(id(tensor), name)
        tensors = self._tensors()
        self._averages = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The model's tensors, looked up anew because a module may replace its buffers."""
        tensors = self._model.state_dict()
        return {name: tensors[name] for name in dict.fromkeys(self._first_names.values())}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the model's present weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        averages, values = [], []
        for name, tensor in self._tensors().items():
            average = self._averages[name]
            if average.is_floating_point() or average.is_complex():
                averages.append(average)
                values.append(tensor)
            else:
                average.copy_(tensor)
        get_ema_multi_avg_fn(decay)(averages, values, None)
        self.updates += 1

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchanges the model's weights and the averages, in place; twice is nothing."""
        for name, tensor in self._tensors().items():
            kept = tensor.clone()
            tensor.copy_(self._averages[name])
            self._averages[name].copy_(kept)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside the block, and its own again after it."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The averages under the model's keys."""
        return {name: self._averages[first] for name, first in self._first_names.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor], updates: int) -> None:
        """Restores the averages.

        Args:
            state: what `state_dict` gave.
            updates: how many updates they have seen.

        Raises:
            ValueError: keys are missing or unknown.
        """
        if state.keys() != self._first_names.keys():
            differ = sorted(state.keys() ^ self._first_names.keys())
            raise ValueError(f"The averaged weights are of another model; {len(differ)} names differ: {differ[:5]}.")
        for name, first in self._first_names.items():
            self._averages[first].copy_(state[name])
        self.updates = updates


@HOOKS.register_module()
class EMAHook(Hook):
    """Keeps an exponential moving average of the weights; evaluation and `ema_state_dict` of checkpoints use it.

    The average moves where the optimizer made a step, not where one was given up or gradients only accumulated.

    Args:
        decay: see `WeightAverage`.
        warmup: see `WeightAverage`.
        evaluate_raw: evaluate the model's own weights too; their metrics are called "raw_...".
    """

    priority = "NORMAL"

    def __init__(self, decay: float = 0.9999, warmup: bool = False, evaluate_raw: bool = False) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMAHook: decay lies from 0 to under 1, not {decay}.")
        self.decay = decay
        self.warmup = warmup
        self.evaluate_raw = evaluate_raw
        self.average: WeightAverage | None = None

    def before_train(self, runner: Any) -> None:
        """Starts from the model's weights, where no resumed checkpoint has averages."""
        if self.average is None:
            self.start(runner.model)

    def start(self, model: nn.Module) -> WeightAverage:
        """Starts a new average from a model's present weights."""
        self.average = WeightAverage(bare(model), self.decay, self.warmup)
        return self.average

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Moves the average where the optimizer made a step."""
        if runner.optim_wrapper.stepped:
            assert self.average is not None
            self.average.update()
