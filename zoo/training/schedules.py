"""Learning-rate schedules that say everything in one place: warm-up, decay, cool-down, in absolute rates."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from mmengine.optim import _ParamScheduler

from ..registry import PARAM_SCHEDULERS


class WarmupDecay(_ParamScheduler):
    """Warm-up from an absolute rate, decay to an absolute rate, cool-down at that rate.

    The rate is a function of the iteration alone, so that a resumed run has the same rates, and a run that is resumed
    with other settings follows them. A parameter group's rate is the schedule's times the group's `lr_scale`.

    Args:
        optimizer: the optimizer wrapper; the Runner gives it.
        epoch_length: iterations in an epoch; the Runner gives it.
        end: iterations of the whole training, cool-down included; the Runner gives it.
        warmup_epochs: length of the linear warm-up.
        warmup_iters: the same in iterations; added to `warmup_epochs`.
        warmup_lr: rate that the warm-up starts from.
        min_lr: rate that the decay ends at.
        cooldown_epochs: length of the cool-down at `min_lr`, at the end of training.
        cooldown_iters: the same in iterations; added to `cooldown_epochs`.
        by_epoch: keep the rate for a whole epoch instead of an iteration.
        warmup_prefix: start the decay where the warm-up ends. Otherwise the decay runs from the first step on and the
            warm-up covers its beginning, as in timm's recipes.
        warmup_scales: the warm-up multiplies the decayed rate by a factor that grows from `warmup_lr` / base to 1, as
            in OpenMMLab's recipes before 2022, instead of leading straight to the base rate.

    Raises:
        ValueError: warm-up and cool-down leave nothing for the decay, or a length or rate is negative.
    """

    def __init__(
        self,
        optimizer: Any,
        epoch_length: int,
        end: int,
        warmup_epochs: float = 0,
        warmup_iters: int = 0,
        warmup_lr: float = 0.0,
        min_lr: float = 0.0,
        cooldown_epochs: float = 0,
        cooldown_iters: int = 0,
        by_epoch: bool = False,
        warmup_prefix: bool = False,
        warmup_scales: bool = False,
    ) -> None:
        self.warmup = round(warmup_epochs * epoch_length) + warmup_iters
        self.cooldown = round(cooldown_epochs * epoch_length) + cooldown_iters
        if min(warmup_epochs, warmup_iters, cooldown_epochs, cooldown_iters, warmup_lr, min_lr) < 0:
            raise ValueError("Lengths and rates of a schedule are not negative.")
        if warmup_scales and warmup_prefix:
            raise ValueError("With warmup_prefix there is no decay yet that warmup_scales could multiply.")
        if self.warmup + self.cooldown >= end:
            raise ValueError(
                f"Of {end} iterations of training, in epochs of {epoch_length}, warm-up ({self.warmup}) and "
                f"cool-down ({self.cooldown}) leave nothing for the decay."
            )
        self.epoch_length = epoch_length
        self.length = end
        self.warmup_lr = warmup_lr
        self.min_lr = min_lr
        self.every_epoch = by_epoch
        self.warmup_prefix = warmup_prefix
        self.warmup_scales = warmup_scales
        # mmengine steps it every iteration; `every_epoch` says what it makes of that.
        super().__init__(optimizer, param_name="lr", by_epoch=False)
        # With gradient accumulation the first step of the schedule rightly comes first; mmengine would warn of it.
        optimizer._global_step = 0

    def rate(self, iteration: int, base: float) -> float:
        """The schedule's rate.

        Args:
            iteration: from 0.
            base: the rate that the warm-up leads to and the decay starts from.
        """
        step = iteration - iteration % self.epoch_length if self.every_epoch else iteration
        if step < self.warmup and not self.warmup_scales:
            return self.warmup_lr + (base - self.warmup_lr) * step / self.warmup
        before = self.warmup if self.warmup_prefix else 0
        length = self.length - self.cooldown - before
        if step < self.warmup:
            first = self.warmup_lr / base
            return self._decayed(step, length, base) * (first + (1 - first) * step / self.warmup)
        return self._decayed(step - before, length, base) if step - before < length else self.min_lr

    def _decayed(self, step: int, length: int, base: float) -> float:
        """The decay's rate.

        Args:
            step: iterations since the decay began, less than `length`.
            length: iterations of the whole decay.
            base: the rate that it starts from.
        """
        return self.min_lr + (base - self.min_lr) * self._remaining(step / length)

    def _remaining(self, progress: float) -> float:
        """How much of the way down is left at a progress of 0 to 1."""
        raise NotImplementedError

    def _get_value(self) -> list[float]:
        values = []
        for group, initial in zip(self.optimizer.param_groups, self.base_values, strict=True):
            scale = group.get("lr_scale", 1.0)
            values.append(self.rate(self.last_step, initial / scale) * scale if scale else 0.0)
        return values

    def state_dict(self) -> dict:
        """How far the schedule is; what it is like, the config says."""
        return {"last_step": self.last_step, "_global_step": self._global_step}


@PARAM_SCHEDULERS.register_module()
class WarmupCosine(WarmupDecay):
    """Warm-up, then half a cosine (Loshchilov and Hutter, SGDR, 2017), then cool-down; arguments of `WarmupDecay`."""

    def _remaining(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * progress))


@PARAM_SCHEDULERS.register_module()
class WarmupLinear(WarmupDecay):
    """Warm-up, then a straight line, then cool-down; arguments of `WarmupDecay`."""

    def _remaining(self, progress: float) -> float:
        return 1.0 - progress


@PARAM_SCHEDULERS.register_module()
class WarmupConstant(WarmupDecay):
    """Warm-up, then the base rate, then cool-down at `min_lr`; arguments of `WarmupDecay`."""

    def _remaining(self, progress: float) -> float:
        return 1.0


@PARAM_SCHEDULERS.register_module()
class WarmupStep(WarmupDecay):
    """Warm-up, then a rate that is multiplied by a factor at equal distances, then cool-down.

    With decay_epochs=1 it is an exponential decay by epochs. With by_epoch=True it is timm's schedule "step" counted in
    epochs: the rate changes at the beginning of the first epoch that lies at or after a multiple of `decay_epochs`.

    Args:
        optimizer: the optimizer wrapper; the Runner gives it.
        epoch_length: iterations in an epoch; the Runner gives it.
        end: iterations of the whole training, cool-down included; the Runner gives it.
        decay_rate: factor, over 0 and at most 1.
        decay_epochs: distance, over 0; no whole number is needed.
        **kwargs: arguments of `WarmupDecay`. `min_lr` is the least rate, and the cool-down's.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, optimizer: Any, epoch_length: int, end: int, *, decay_rate: float, decay_epochs: float, **kwargs: Any
    ) -> None:
        if not 0 < decay_rate <= 1:
            raise ValueError(f"decay_rate is a factor over 0 and at most 1, not {decay_rate!r}.")
        if not decay_epochs > 0:
            raise ValueError(f"decay_epochs is a number of epochs over 0, not {decay_epochs!r}.")
        self.decay_rate = decay_rate
        self.decay_epochs = decay_epochs
        super().__init__(optimizer, epoch_length, end, **kwargs)

    def _decayed(self, step: int, length: int, base: float) -> float:
        return max(self.min_lr, base * self.decay_rate ** (step / self.epoch_length // self.decay_epochs))


@PARAM_SCHEDULERS.register_module()
class WarmupPoly(WarmupDecay):
    """Warm-up, then a power of the straight line (Chen et al., DeepLab, 2017), then cool-down.

    Args:
        optimizer: the optimizer wrapper; the Runner gives it.
        epoch_length: iterations in an epoch; the Runner gives it.
        end: iterations of the whole training, cool-down included; the Runner gives it.
        power: over 0; 1 is the straight line.
        **kwargs: arguments of `WarmupDecay`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, optimizer: Any, epoch_length: int, end: int, *, power: float = 0.9, **kwargs: Any) -> None:
        if not power > 0:
            raise ValueError(f"power is a number over 0, not {power!r}.")
        self.power = power
        super().__init__(optimizer, epoch_length, end, **kwargs)

    def _remaining(self, progress: float) -> float:
        return (1.0 - progress) ** self.power


@PARAM_SCHEDULERS.register_module()
class WarmupMultiStep(WarmupDecay):
    """Warm-up, then a rate that is multiplied by a factor at given epochs: detection's 1x and 3x schedules.

    Args:
        optimizer: the optimizer wrapper; the Runner gives it.
        epoch_length: iterations in an epoch; the Runner gives it.
        end: iterations of the whole training, cool-down included; the Runner gives it.
        milestones: after how many epochs the rate falls, ascending: (8, 11) of 12 for 1x, (27, 33) of 36 for 3x.
        gamma: factor, over 0 and at most 1.
        **kwargs: arguments of `WarmupDecay`.

    Raises:
        ValueError: a number is out of its range, or the rate never falls in this training.
    """

    def __init__(
        self,
        optimizer: Any,
        epoch_length: int,
        end: int,
        *,
        milestones: Sequence[float],
        gamma: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma is a factor over 0 and at most 1, not {gamma!r}.")
        if not milestones or list(milestones) != sorted(milestones) or milestones[0] <= 0:
            raise ValueError(f"milestones are numbers of epochs over 0, ascending, not {tuple(milestones)}.")
        if round(milestones[-1] * epoch_length) >= end:
            raise ValueError(
                f"The last of the milestones {tuple(milestones)} lies after this training of {end / epoch_length:g} "
                "epochs."
            )
        self.milestones = [round(milestone * epoch_length) for milestone in milestones]
        self.gamma = gamma
        super().__init__(optimizer, epoch_length, end, **kwargs)

    def _decayed(self, step: int, length: int, base: float) -> float:
        return max(self.min_lr, base * self.gamma ** bisect.bisect_right(self.milestones, step))
