"""Optimizer wrappers: gradient accumulation, clipping, mixed precision, and skipping of non-finite steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapper as _OptimWrapper
from timm.utils.agc import adaptive_clip_grad
from torch import nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from ...names import unknown_name
from ..registry import OPTIM_WRAPPERS
from .distributed import any_process

_CLIP_KEYS = {
    "norm": ("type", "max_norm", "norm_type"),
    "value": ("type", "clip_value"),
    "adaptive": ("type", "clip_factor", "eps"),
}


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_OptimWrapper):
    """Accumulates and clips gradients, and skips steps whose loss or gradients are not finite.

    A window of `accumulative_counts` batches makes one step. The last window of an epoch may be shorter and is averaged
    over its own batches, so a window never extends into the next epoch. If a loss or gradient is not finite on any
    process, all processes skip the step.

    Args:
        optimizer: A torch optimizer.
        accumulative_counts: Number of batches per step.
        clip_grad: dict(max_norm=..., norm_type=2.0), or dict(type="value", clip_value=...), or
            dict(type="adaptive", clip_factor=0.01, eps=1e-3), or None. Adaptive clipping limits the gradient of each
            row of a weight (each output) to `clip_factor` times the norm of the row, which is at least `eps` (Brock et
            al., "High-Performance Large-Scale Image Recognition Without Normalization", ICML 2021).

    Attributes:
        stepped: Whether the last call of `update_params` changed the weights.
        nonfinite: What was not finite in the last call: "loss", "gradient" or None.

    Raises:
        ValueError: A key of `clip_grad` is unknown or missing, or `accumulative_counts` is less than 1.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1, clip_grad: Mapping[str, Any] | None = None
    ) -> None:
        if accumulative_counts < 1:
            raise ValueError(f"accumulative_counts must be >= 1, got {accumulative_counts!r}.")
        clip = dict(clip_grad) if clip_grad else {}
        kind = clip.get("type", "norm")
        if clip:
            if kind not in _CLIP_KEYS:
                raise ValueError(unknown_name("type of clip_grad", kind, _CLIP_KEYS))
            for key in clip:
                if key not in _CLIP_KEYS[kind]:
                    raise ValueError(unknown_name("key of clip_grad", key, _CLIP_KEYS[kind]))
            if _CLIP_KEYS[kind][1] not in clip:
                required = _CLIP_KEYS[kind][1]
                raise ValueError(f"clip_grad of type {kind!r} needs the key {required!r}, got {sorted(clip)}.")
        super().__init__(optimizer, accumulative_counts=accumulative_counts)  # `update_params` clips
        self._max_norm: float | None = clip.get("max_norm")
        self._norm_type: float = clip.get("norm_type", 2.0)
        self._clip_value: float | None = clip.get("clip_value")
        self._clip_factor: float | None = clip.get("clip_factor")
        self._clip_eps: float = clip.get("eps", 1e-3)
        self._excluded_from_clipping: set[int] = set()
        self._epoch_length: int | None = None
        self._skip_window = False
        self.stepped = False
        self.nonfinite: str | None = None

    def exclude_from_clipping(self, parameters: Iterable[torch.Tensor]) -> None:
        """Excludes parameters from adaptive clipping."""
        self._excluded_from_clipping = {id(parameter) for parameter in parameters}

    def start_epoch(self, length: int) -> None:
        """Sets the number of batches in the epoch, with which its last window ends.

        Args:
            length: Number of batches that the epoch has, or has left after resuming.
        """
        self._epoch_length = length
        self._inner_count = 0
        self._skip_window = False

    @property
    def accumulative_counts(self) -> int:
        """Number of batches per step."""
        return self._accumulative_counts

    @property
    def at_boundary(self) -> bool:
        """Whether no window is open: all batches so far have been applied to the weights, or skipped."""
        return self._inner_count % self._accumulative_counts == 0 or self._inner_count == self._epoch_length

    def should_update(self) -> bool:
        """Returns whether the last batch was the last of its window."""
        return self.at_boundary

    def should_sync(self) -> bool:
        """Returns whether the next batch is the last of its window, so that processes average their gradients."""
        done = self._inner_count + 1
        return done % self._accumulative_counts == 0 or done == self._epoch_length

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Divides the loss by the number of batches in the window."""
        size = self._accumulative_counts
        if self._epoch_length is not None:
            begin = self._inner_count - self._inner_count % size
            size = min(size, self._epoch_length - begin)
        return loss / size

    def update_params(
        self, loss: torch.Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None
    ) -> None:
        """Runs the backward pass, and a step if the batch is the last of its window.

        Args:
            loss: Loss of the batch, a scalar.
            step_kwargs: Arguments of the optimizer's `step`.
            zero_kwargs: Arguments of the optimizer's `zero_grad`.
        """
        self.stepped, self.nonfinite = False, None
        if any_process(~torch.isfinite(loss.detach()).all()):
            self._skip_window = True
            self.nonfinite = "loss"
        if self._skip_window:
            self._inner_count += 1
        else:
            self.backward(self.scale_loss(loss))
        if not self.should_update():
            return
        if not self._skip_window:
            norm = self._gradient_norm()
            # Gradients are averaged over all processes, so all compute the same norm.
            if torch.isfinite(norm):
                self._clip(norm)
                self.step(**(step_kwargs or {}))
                self.stepped = True
                self.message_hub.update_scalar("train/grad_norm", norm.item())
            else:
                self._skip_step()
        self.zero_grad(**(zero_kwargs or {}))
        self._skip_window = False

    def step(self, **kwargs: Any) -> None:
        """Runs a step of the optimizer; `update_params` has clipped the gradients."""
        self.optimizer.step(**kwargs)

    def _skip_step(self) -> None:
        self.nonfinite = "gradient"

    def _gradient_norm(self) -> torch.Tensor:
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        return get_total_norm(gradients, norm_type=self._norm_type)

    def _clip(self, norm: torch.Tensor) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self._max_norm is not None:
            clip_grads_with_norm_(parameters, self._max_norm, norm)
        elif self._clip_value is not None:
            clip_grad_value_(parameters, self._clip_value)
        elif self._clip_factor is not None:
            clipped = [p for p in parameters if id(p) not in self._excluded_from_clipping]
            adaptive_clip_grad(clipped, self._clip_factor, eps=self._clip_eps)


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Mixed precision with torch.autocast: bfloat16 or float16 on GPUs, bfloat16 on CPUs.

    With float16 the loss is scaled (torch.amp.GradScaler). It is normal that gradients overflow when the scale is too
    high: the step is skipped and the scale halved. Such a step counts as non-finite only if the scale is below 1,
    because then the gradients themselves overflow.

    Args:
        optimizer: A torch optimizer.
        dtype: "bfloat16", "float16", or None for bfloat16 if the device supports it, else float16.
        loss_scale: "dynamic", a fixed scale, or the arguments of torch.amp.GradScaler. Ignored with bfloat16.
        **kwargs: Arguments of `OptimWrapper`.

    Raises:
        ValueError: The dtype is unknown, or is float16 on a CPU.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        dtype: str | None = None,
        loss_scale: str | float | Mapping[str, Any] = "dynamic",
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, **kwargs)
        self.device_type = optimizer.param_groups[0]["params"][0].device.type
        allowed = ("bfloat16", "float16")
        if dtype is None:
            dtype = allowed[0] if self.device_type == "cpu" or torch.cuda.is_bf16_supported() else allowed[1]
        if dtype not in allowed:
            raise ValueError(unknown_name("dtype of AmpOptimWrapper", dtype, allowed))
        if dtype == "float16" and self.device_type == "cpu":
            raise ValueError("float16 needs a GPU; use dtype='bfloat16' on a CPU.")
        self.dtype = getattr(torch, dtype)
        self._fixed_scale: float | None = None
        options: dict[str, Any] = {}
        if isinstance(loss_scale, Mapping):
            options = dict(loss_scale)
        elif loss_scale != "dynamic":
            self._fixed_scale = float(loss_scale)
            options = {"init_scale": self._fixed_scale}
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == "float16", **options)

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enables mixed precision in the forward pass, and gradient averaging only at the end of a window."""
        with super().optim_context(model), torch.autocast(self.device_type, dtype=self.dtype):
            yield

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Runs the backward pass of the scaled loss."""
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def _gradient_norm(self) -> torch.Tensor:
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        return super()._gradient_norm()

    def step(self, **kwargs: Any) -> None:
        """Runs a step of the optimizer and updates the loss scale."""
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update(self._fixed_scale)

    def _skip_step(self) -> None:
        if self.scaler.is_enabled():
            self.scaler.update(self._fixed_scale)
            if self._fixed_scale is None and self.scaler.get_scale() >= 1.0:
                return
        super()._skip_step()

    def state_dict(self) -> dict:
        """Returns the optimizer's state and the loss scale."""
        state = super().state_dict()
        if self.scaler.is_enabled():
            state["loss_scaler"] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Restores the optimizer's state and the loss scale."""
        state_dict = dict(state_dict)
        scaler = state_dict.pop("loss_scaler", None)
        if scaler is not None and self.scaler.is_enabled():
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)
