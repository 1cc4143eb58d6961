"""Optimizer wrappers: one step from a loss to new weights, or to none where a number in it is not finite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapper as _OptimWrapper
from timm.optim.lamb import Lamb
from timm.optim.rmsprop_tf import RMSpropTF
from timm.utils.agc import adaptive_clip_grad
from torch import nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from ...names import unknown_name
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from .distributed import any_process
from .param_groups import parameter_groups
from .placement import bare

OPTIMIZERS.register_module(name="LAMB", module=Lamb)
OPTIMIZERS.register_module(name="RMSpropTF", module=RMSpropTF)

_CLIP_KEYS = {
    "norm": ("type", "max_norm", "norm_type"),
    "value": ("type", "clip_value"),
    "adaptive": ("type", "clip_factor", "eps"),
}


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_OptimWrapper):
    """Gradient accumulation, clipping, and steps that a number which is not finite cannot spoil.

    One window of `accumulative_counts` batches makes one step; the last window of an epoch may be shorter and is
    averaged over what it has, so that a window never reaches into the next epoch. A window with a loss that is not
    finite, on any process, is given up on all: no update. The same holds for gradients.

    Args:
        optimizer: a torch optimizer.
        accumulative_counts: batches a step.
        clip_grad: dict(max_norm=..., norm_type=2.0), or dict(type="value", clip_value=...), or
            dict(type="adaptive", clip_factor=0.01, eps=1e-3), or None. Adaptive clipping keeps the gradient of each row
            of a weight (each output) under `clip_factor` times the row's norm, which counts as at least `eps` (Brock et
            al., "High-Performance Large-Scale Image Recognition Without Normalization", ICML 2021).

    Attributes:
        stepped: whether the last call of `update_params` changed the weights.
        nonfinite: what the last call found not to be finite: "loss", "gradient" or None.

    Raises:
        ValueError: a key of `clip_grad` is unknown or missing, or `accumulative_counts` is under 1.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1, clip_grad: Mapping[str, Any] | None = None
    ) -> None:
        if accumulative_counts < 1:
            raise ValueError(f"accumulative_counts counts batches, from 1 on, not {accumulative_counts!r}.")
        clip = dict(clip_grad) if clip_grad else {}
        kind = clip.get("type", "norm")
        if clip:
            if kind not in _CLIP_KEYS:
                raise ValueError(unknown_name("type of clip_grad", kind, _CLIP_KEYS))
            for key in clip:
                if key not in _CLIP_KEYS[kind]:
                    raise ValueError(unknown_name("key of clip_grad", key, _CLIP_KEYS[kind]))
            if _CLIP_KEYS[kind][1] not in clip:
                raise ValueError(f"clip_grad by {kind} needs the key {_CLIP_KEYS[kind][1]!r}; given: {sorted(clip)}.")
        super().__init__(optimizer, accumulative_counts=accumulative_counts)  # clipping is done here, not there
        self._max_norm: float | None = clip.get("max_norm")
        self._norm_type: float = clip.get("norm_type", 2.0)
        self._clip_value: float | None = clip.get("clip_value")
        self._clip_factor: float | None = clip.get("clip_factor")
        self._clip_eps: float = clip.get("eps", 1e-3)
        self._not_clipped: set[int] = set()
        self._epoch_length: int | None = None
        self._window_spoilt = False
        self.stepped = False
        self.nonfinite: str | None = None

    def leave_unclipped(self, parameters: Iterable[torch.Tensor]) -> None:
        """Says which parameters adaptive clipping leaves alone."""
        self._not_clipped = {id(parameter) for parameter in parameters}

    def start_epoch(self, length: int) -> None:
        """Says how many batches come, so that the last window of an epoch ends with it.

        Args:
            length: batches that an epoch has, or has left.
        """
        self._epoch_length = length
        self._inner_count = 0
        self._window_spoilt = False

    @property
    def accumulative_counts(self) -> int:
        """Batches a step."""
        return self._accumulative_counts

    @property
    def at_boundary(self) -> bool:
        """Whether no window is open: everything seen so far is in the weights, or was given up."""
        return self._inner_count % self._accumulative_counts == 0 or self._inner_count == self._epoch_length

    def should_update(self) -> bool:
        """Whether the batch that was just done is the last of its window."""
        return self.at_boundary

    def should_sync(self) -> bool:
        """Whether the batch that comes is the last of its window, so that processes average their gradients."""
        done = self._inner_count + 1
        return done % self._accumulative_counts == 0 or done == self._epoch_length

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Divides by the number of batches in the window."""
        size = self._accumulative_counts
        if self._epoch_length is not None:
            begin = self._inner_count - self._inner_count % size
            size = min(size, self._epoch_length - begin)
        return loss / size

    def update_params(
        self, loss: torch.Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None
    ) -> None:
        """Goes back from a loss, and makes a step where it is the last of a window.

        Args:
            loss: the batch's loss, a scalar.
            step_kwargs: arguments of the optimizer's step.
            zero_kwargs: arguments of the optimizer's zero_grad.
        """
        self.stepped, self.nonfinite = False, None
        if any_process(~torch.isfinite(loss.detach()).all()):
            self._window_spoilt = True
            self.nonfinite = "loss"
        if self._window_spoilt:
            self._inner_count += 1
        else:
            self.backward(self.scale_loss(loss))
        if not self.should_update():
            return
        if not self._window_spoilt:
            norm = self._gradient_norm()
            # Gradients were averaged over all processes, so that all see the same norm.
            if torch.isfinite(norm):
                self._clip(norm)
                self.step(**(step_kwargs or {}))
                self.stepped = True
                self.message_hub.update_scalar("train/grad_norm", norm.item())
            else:
                self._give_up_step()
        self.zero_grad(**(zero_kwargs or {}))
        self._window_spoilt = False

    def step(self, **kwargs: Any) -> None:
        """Makes a step of the optimizer; clipping is done before."""
        self.optimizer.step(**kwargs)

    def _give_up_step(self) -> None:
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
            clipped = [p for p in parameters if id(p) not in self._not_clipped]
            adaptive_clip_grad(clipped, self._clip_factor, eps=self._clip_eps)


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Mixed precision through torch.autocast: bfloat16 or float16 on GPUs, bfloat16 on CPUs.

    With float16 the loss is scaled (torch.amp.GradScaler). Gradients that overflow because the scale is too high are
    that method's daily business: the step is left out and the scale halved. Only where it has fallen under 1, so that
    the gradients themselves must be to blame, it counts as not finite.

    Args:
        optimizer: a torch optimizer.
        dtype: "bfloat16", "float16", or None: bfloat16 where the device has it, else float16.
        loss_scale: "dynamic", or a fixed scale, or the arguments of torch.amp.GradScaler. Only float16 scales.
        **kwargs: arguments of `OptimWrapper`.

    Raises:
        ValueError: the dtype is unknown, or is float16 on a CPU.
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
            raise ValueError("float16 needs a GPU; on a CPU take dtype='bfloat16'.")
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
        """Mixed precision for the forward pass, and no gradient averaging inside a window."""
        with super().optim_context(model), torch.autocast(self.device_type, dtype=self.dtype):
            yield

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Goes back from the scaled loss."""
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def _gradient_norm(self) -> torch.Tensor:
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        return super()._gradient_norm()

    def step(self, **kwargs: Any) -> None:
        """Makes a step of the optimizer and lets the loss scale grow."""
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update(self._fixed_scale)

    def _give_up_step(self) -> None:
        if self.scaler.is_enabled():
            self.scaler.update(self._fixed_scale)
            if self._fixed_scale is None and self.scaler.get_scale() >= 1.0:
                return
        super()._give_up_step()

    def state_dict(self) -> dict:
        """The optimizer's state and the loss scale."""
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


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimWrapperConstructor:
    """Builds an optimizer wrapper from a config, with the parameter groups of `parameter_groups`.

    Args:
        optim_wrapper_cfg: dict(type="OptimWrapper" | "AmpOptimWrapper", optimizer=dict(type="AdamW", lr=...), ...).
            With clip_grad=dict(type="adaptive", ..., exclude=("head.fc",)) parameters that have one of these parts in
            their names are left unclipped, as that method's authors leave the classifier.
        paramwise_cfg: options of `parameter_groups`.

    Raises:
        ValueError: there is no optimizer, or it has no learning rate, or a part in `exclude` is in no parameter's name.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.wrapper = dict(optim_wrapper_cfg)
        self.wrapper.setdefault("type", "OptimWrapper")
        optimizer = self.wrapper.pop("optimizer", None)
        if not isinstance(optimizer, Mapping) or "type" not in optimizer:
            raise ValueError(f"optim_wrapper.optimizer is dict(type=..., lr=...), not {optimizer!r}.")
        if "lr" not in optimizer:
            raise ValueError(f"optim_wrapper.optimizer needs the key 'lr'; given: {sorted(optimizer)}.")
        self.optimizer = dict(optimizer)
        self.paramwise = paramwise_cfg

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the wrapper for a model.

        Args:
            model: the model, or its distributed wrapper.
        """
        lr, weight_decay = self.optimizer["lr"], self.optimizer.get("weight_decay", 0.0)
        groups = parameter_groups(bare(model), lr, weight_decay, self.paramwise)
        # Optimizers take parameters, not their names.
        parameters = [{key: value for key, value in group.items() if key != "param_names"} for group in groups]
        optimizer = OPTIMIZERS.build({**self.optimizer, "params": parameters})
        settings = dict(self.wrapper)
        if not (settings.get("clip_grad") or {}).get("exclude"):
            return OPTIM_WRAPPERS.build({**settings, "optimizer": optimizer})
        clip = dict(settings["clip_grad"])
        excluded = clip.pop("exclude")
        if clip.get("type") != "adaptive":
            raise ValueError("clip_grad.exclude is for clip_grad.type='adaptive' alone.")
        wrapper = OPTIM_WRAPPERS.build({**settings, "clip_grad": clip, "optimizer": optimizer})
        wrapper.leave_unclipped(_named(groups, excluded))
        return wrapper


def _named(groups: Iterable[Mapping[str, Any]], parts: Iterable[str]) -> list[torch.Tensor]:
    """Finds the parameters that have one of the given parts in their names.

    Raises:
        ValueError: a part is in no name.
    """
    found: list[torch.Tensor] = []
    by_name = {
        name: parameter
        for group in groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }
    for part in parts:
        matching = [parameter for name, parameter in by_name.items() if part in name]
        if not matching:
            raise ValueError(unknown_name("parameter for clip_grad.exclude", part, by_name))
        found += matching
    return found
