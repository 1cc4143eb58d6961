"""Learning-rate schedules with warm-up, decay and cool-down in one, in absolute rates."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from mmengine.optim import _ParamScheduler

from ..registry import PARAM_SCHEDULERS


class WarmupDecay(_ParamScheduler):
    """Linear warm-up from an absolute rate, decay to an absolute rate, cool-down at that rate.

    The rate depends on the iteration only, so a resumed run has the same rates, or follows changed settings. The rate
    of a parameter group is that of the schedule times the group's `lr_scale`.

    Args:
        optimizer: The optimizer wrapper, set by the Runner.
        epoch_length: Number of iterations per epoch, set by the Runner.
        end: Number of iterations of the training, including the cool-down, set by the Runner.
        warmup_epochs: Length of the warm-up in epochs.
        warmup_iters: Length of the warm-up in iterations, added to `warmup_epochs`.
        warmup_lr: Initial rate of the warm-up.
        min_lr: Final rate of the decay.
        cooldown_epochs: Length in epochs of the cool-down at `min_lr`, at the end of training.
        cooldown_iters: Length of the cool-down in iterations, added to `cooldown_epochs`.
        by_epoch: Update the rate once per epoch instead of once per iteration.
        warmup_prefix: Start the decay at the end of the warm-up. Otherwise the decay starts with the first step, and
            the warm-up replaces its beginning, as in timm's recipes.
        warmup_scales: Multiply the decayed rate by a factor that grows from `warmup_lr` / base to 1, as in OpenMMLab's
            recipes before 2022, instead of a linear warm-up to the base rate.

    Raises:
        ValueError: Warm-up and cool-down leave no iterations for the decay, or a length or rate is negative.
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
            raise ValueError("Lengths and rates of a schedule must not be negative.")
        if warmup_scales and warmup_prefix:
            raise ValueError("warmup_scales needs warmup_prefix=False: otherwise there is no decay in the warm-up.")
        if self.warmup + self.cooldown >= end:
            raise ValueError(
                f"Warm-up ({self.warmup} iterations) and cool-down ({self.cooldown}) leave nothing for the decay in a "
                f"training of {end} iterations, {epoch_length} per epoch."
            )
        self.epoch_length = epoch_length
        self.length = end
        self.warmup_lr = warmup_lr
        self.min_lr = min_lr
        self.every_epoch = by_epoch
        self.warmup_prefix = warmup_prefix
        self.warmup_scales = warmup_scales
        # mmengine steps the schedule in every iteration; `every_epoch` decides when the rate changes.
        super().__init__(optimizer, param_name="lr", by_epoch=False)
        # With gradient accumulation the schedule is correctly stepped before the optimizer; mmengine would warn.
        optimizer._global_step = 0

    def rate(self, iteration: int, base: float) -> float:
        """Returns the rate of the schedule.

        Args:
            iteration: Iteration, from 0.
            base: Rate at the end of the warm-up and the start of the decay.
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
        """Returns the rate of the decay.

        Args:
            step: Iterations since the start of the decay, less than `length`.
            length: Number of iterations of the decay.
            base: Rate at the start of the decay.
        """
        return self.min_lr + (base - self.min_lr) * self._remaining(step / length)

    def _remaining(self, progress: float) -> float:
        """Returns the remaining share of the decay, 1 to 0, at a progress of 0 to 1."""
        raise NotImplementedError

    def _get_value(self) -> list[float]:
        values = []
        for group, initial in zip(self.optimizer.param_groups, self.base_values, strict=True):
            scale = group.get("lr_scale", 1.0)
            values.append(self.rate(self.last_step, initial / scale) * scale if scale else 0.0)
        return values

    def state_dict(self) -> dict:
        """Returns the position in the schedule; the config defines its shape."""
        return {"last_step": self.last_step, "_global_step": self._global_step}


@PARAM_SCHEDULERS.register_module()
class WarmupCosine(WarmupDecay):
    """Warm-up, then cosine decay (Loshchilov and Hutter, SGDR, 2017), then cool-down; see `WarmupDecay`."""

    def _remaining(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * progress))


@PARAM_SCHEDULERS.register_module()
class WarmupLinear(WarmupDecay):
    """Warm-up, then linear decay, then cool-down; see `WarmupDecay`."""

    def _remaining(self, progress: float) -> float:
        return 1.0 - progress


@PARAM_SCHEDULERS.register_module()
class WarmupConstant(WarmupDecay):
    """Warm-up, then the base rate, then cool-down at `min_lr`; see `WarmupDecay`."""

    def _remaining(self, progress: float) -> float:
        return 1.0


@PARAM_SCHEDULERS.register_module()
class WarmupStep(WarmupDecay):
    """Warm-up, then step decay at regular intervals, then cool-down.

    With decay_epochs=1 it is an exponential decay by epochs. With by_epoch=True it is timm's "step" schedule in epochs:
    the rate changes at the start of the first epoch at or after a multiple of `decay_epochs`.

    Args:
        optimizer: The optimizer wrapper, set by the Runner.
        epoch_length: Number of iterations per epoch, set by the Runner.
        end: Number of iterations of the training, including the cool-down, set by the Runner.
        decay_rate: Factor in (0, 1] by which the rate is multiplied.
        decay_epochs: Interval in epochs, positive, not necessarily an integer.
        **kwargs: Arguments of `WarmupDecay`. `min_lr` is the minimum rate, and the rate of the cool-down.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self, optimizer: Any, epoch_length: int, end: int, *, decay_rate: float, decay_epochs: float, **kwargs: Any
    ) -> None:
        if not 0 < decay_rate <= 1:
            raise ValueError(f"decay_rate must be in (0, 1], got {decay_rate!r}.")
        if not decay_epochs > 0:
            raise ValueError(f"decay_epochs must be positive, got {decay_epochs!r}.")
        self.decay_rate = decay_rate
        self.decay_epochs = decay_epochs
        super().__init__(optimizer, epoch_length, end, **kwargs)

    def _decayed(self, step: int, length: int, base: float) -> float:
        return max(self.min_lr, base * self.decay_rate ** (step / self.epoch_length // self.decay_epochs))


@PARAM_SCHEDULERS.register_module()
class WarmupPoly(WarmupDecay):
    """Warm-up, then polynomial decay (Chen et al., DeepLab, 2017), then cool-down.

    Args:
        optimizer: The optimizer wrapper, set by the Runner.
        epoch_length: Number of iterations per epoch, set by the Runner.
        end: Number of iterations of the training, including the cool-down, set by the Runner.
        power: Exponent, positive; 1 is linear decay.
        **kwargs: Arguments of `WarmupDecay`.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, optimizer: Any, epoch_length: int, end: int, *, power: float = 0.9, **kwargs: Any) -> None:
        if not power > 0:
            raise ValueError(f"power must be positive, got {power!r}.")
        self.power = power
        super().__init__(optimizer, epoch_length, end, **kwargs)

    def _remaining(self, progress: float) -> float:
        return (1.0 - progress) ** self.power


@PARAM_SCHEDULERS.register_module()
class WarmupMultiStep(WarmupDecay):
    """Warm-up, then step decay at given epochs (the 1x and 3x schedules of detection), then cool-down.

    Args:
        optimizer: The optimizer wrapper, set by the Runner.
        epoch_length: Number of iterations per epoch, set by the Runner.
        end: Number of iterations of the training, including the cool-down, set by the Runner.
        milestones: Epochs after which the rate decays, ascending: (8, 11) of 12 for 1x, (27, 33) of 36 for 3x.
        gamma: Factor in (0, 1] by which the rate is multiplied.
        **kwargs: Arguments of `WarmupDecay`.

    Raises:
        ValueError: A number is out of range, or a milestone is after the end of training.
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
            raise ValueError(f"gamma must be in (0, 1], got {gamma!r}.")
        if not milestones or list(milestones) != sorted(milestones) or milestones[0] <= 0:
            raise ValueError(f"milestones must be positive and ascending, got {tuple(milestones)}.")
        if round(milestones[-1] * epoch_length) >= end:
            raise ValueError(
                f"The last of the milestones {tuple(milestones)} must be before the end of the training, which has "
                f"{end / epoch_length:g} epochs."
            )
        self.milestones = [round(milestone * epoch_length) for milestone in milestones]
        self.gamma = gamma
        super().__init__(optimizer, epoch_length, end, **kwargs)

    def _decayed(self, step: int, length: int, base: float) -> float:
        return max(self.min_lr, base * self.gamma ** bisect.bisect_right(self.milestones, step))
