"""Exponential moving average of the weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..evaluation.base import MetricInfo
from ..registry import HOOKS
from .model_setup import unwrap_model

RAW_PREFIX = "raw_"
"""Begins the names of metrics of the weights that are not averaged."""


class WeightAverage:
    """Averaged copies of all tensors in a model's state dict, under the same keys.

    Floating-point buffers are averaged like weights, as in timm; others are copied.

    Args:
        model: The model that is trained.
        decay: Weight of the previous average in an update.
        warmup: Start with the smaller decay min(decay, (1 + n) / (10 + n)) after n updates, so that the random initial
            weights have less influence (as in TensorFlow's ExponentialMovingAverage).

    Raises:
        ValueError: `decay` is not in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, warmup: bool = False) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}.")
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self._model = model
        # A tensor with several names (tied weights) is averaged once, under the first of them.
        first: dict[int, str] = {}
        self._first_names: dict[str, str] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            self._first_names[name] = first.setdefault(id(tensor), name)
        tensors = self._tensors()
        self._averages = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Returns the current tensors of the model; a module may have replaced its buffers."""
        tensors = self._model.state_dict()
        return {name: tensors[name] for name in dict.fromkeys(self._first_names.values())}

    @torch.no_grad()
    def update(self) -> None:
        """Updates the average with the current weights of the model."""
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
    def swap(self) -> None:
        """Swaps the model's weights and the averages, in place."""
        for name, tensor in self._tensors().items():
            weights = tensor.clone()
            tensor.copy_(self._averages[name])
            self._averages[name].copy_(weights)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Context manager in which the model has the averaged weights."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the averages under the keys of the model."""
        return {name: self._averages[first] for name, first in self._first_names.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor], updates: int) -> None:
        """Restores the averages.

        Args:
            state: The averages that `state_dict` returned.
            updates: Number of updates that they include.

        Raises:
            ValueError: Keys are missing or unknown.
        """
        if state.keys() != self._first_names.keys():
            differ = sorted(state.keys() ^ self._first_names.keys())
            raise ValueError(f"The averaged weights belong to another model; {len(differ)} names differ: {differ[:5]}.")
        for name, first in self._first_names.items():
            self._averages[first].copy_(state[name])
        self.updates = updates


@HOOKS.register_module()
class EMAHook(Hook):
    """Maintains an exponential moving average of the weights, for evaluation and `ema_state_dict` of checkpoints.

    The average is updated after steps of the optimizer, not if a step was skipped or gradients were only accumulated.

    Args:
        decay: Weight of the previous average in an update.
        warmup: Start with a smaller decay, see `WeightAverage`.
        evaluate_raw: Also evaluate the model's own weights; the names of their metrics start with "raw_".
    """

    priority = "NORMAL"

    @classmethod
    def metric_infos(
        cls, reported: Sequence[MetricInfo], evaluate_raw: bool = False, **arguments: Any
    ) -> list[MetricInfo]:
        """Describes the values that the hook adds to those of an evaluation.

        Args:
            reported: Values that the evaluator reports.
            evaluate_raw: See `EMAHook`.
            **arguments: The other arguments, as in a config.
        """
        if not evaluate_raw:
            return []
        return [dataclasses.replace(info, name=f"{RAW_PREFIX}{info.name}", main=False) for info in reported]

    def __init__(self, decay: float = 0.9999, warmup: bool = False, evaluate_raw: bool = False) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMAHook: decay must be in [0, 1), got {decay}.")
        self.decay = decay
        self.warmup = warmup
        self.evaluate_raw = evaluate_raw
        self.average: WeightAverage | None = None

    def before_train(self, runner: Any) -> None:
        """Starts from the model's weights, unless a resumed checkpoint has averages."""
        if self.average is None:
            self.start(runner.model)

    def start(self, model: nn.Module) -> WeightAverage:
        """Starts a new average from the current weights of a model."""
        self.average = WeightAverage(unwrap_model(model), self.decay, self.warmup)
        return self.average

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Updates the average after a step of the optimizer."""
        if runner.optim_wrapper.stepped:
            assert self.average is not None
            self.average.update()
