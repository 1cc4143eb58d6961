"""What every task does alike: building its parts, freezing its backbone, weights to start from."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModel
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..registry import MODELS
from .freezing import freeze_stages

MODES = ("loss", "predict", "tensor")
"""What a task's `forward` can be asked for."""


def build_part(config: Any, default: str | None = None, **missing: Any) -> Any:
    """Builds a part of a task.

    Args:
        config: of MODELS; a module is taken as it is, None as an empty config.
        default: the type where the config names none.
        **missing: arguments for where the config does not have them.
    """
    if isinstance(config, nn.Module):
        return config
    return MODELS.build({**({"type": default} if default else {}), **missing, **(config or {})})


class Task(BaseModel):
    """A backbone and what stands on it: modes "loss", "predict" and "tensor" of a batch.

    Args:
        backbone: a config of MODELS, or a module.
        data_preprocessor: a config of MODELS, or a module.
        default_preprocessor: the type of data preprocessor where the config names none.
        frozen_stages: -1 trains everything; 0 freezes the backbone's stem; n freezes the stem and the first n stages.
            What is frozen gets no gradients and stays in evaluation mode (no drop path, fixed statistics of BatchNorm).
        norm_eval: keep the statistics of every BatchNorm fixed in training; its weights are trained.
        init_weights: a checkpoint of the backbone to start from, anything that `attnzoo.load_weights` takes; loaded
            before training starts, not where a finished checkpoint is only evaluated. A head for other classes is left
            as it is.

    Raises:
        ValueError: arguments are out of range.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        data_preprocessor: Any,
        default_preprocessor: str,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_weights: str | None = None,
    ) -> None:
        super().__init__(data_preprocessor=build_part(data_preprocessor, default_preprocessor))
        self.backbone: Any = build_part(backbone)
        self.norm_eval = norm_eval
        self._weights_source = init_weights
        self._frozen = freeze_stages(self.backbone, frozen_stages)

    def init_weights(self) -> None:
        """Loads the checkpoint to start from, once. All parts have initialised everything else themselves."""
        # mmengine's own would call init_weights of the modules below, and with that undo weights that are already
        # loaded.
        if self._is_init or self._weights_source is None:
            return
        from ..weights import load_weights

        load_weights(self.backbone, self._weights_source)
        self._is_init = True

    def train(self, mode: bool = True) -> Task:
        """Sets training mode, except for what is frozen."""
        super().train(mode)
        if mode:
            for module in self._frozen:
                module.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self
