"""Image classification: a backbone, a loss, and what belongs between them and the data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...names import unknown_name
from ..registry import MODELS
from ..seeding import derive_seed
from .mixing import Mixing
from .preprocessing import Normalisation

MODES = ("loss", "predict", "tensor")


def _build(config: Any, default: str | None = None) -> Any:
    """Builds from a config of MODELS, with a default type; a module is taken as it is, None as an empty config."""
    if isinstance(config, nn.Module):
        return config
    return MODELS.build({**({"type": default} if default else {}), **(config or {})})


@MODELS.register_module()
class Classifier(BaseModel):
    """A backbone with its own classifier head, trained on labels.

    Args:
        backbone: a config of MODELS, such as dict(type="nat_mini", num_classes=10, drop_path_rate=0.1), or a module
            with `num_classes` whose output is logits (B, num_classes).
        loss: a config of MODELS: CrossEntropy, SoftTargetCrossEntropy or BinaryCrossEntropy; or a module.
        mixing: the settings of `Mixing`; None for none. It makes the targets distributions, with its own label
            smoothing.
        data_preprocessor: mean and std of `ImagePreprocessor`, or a config of another type.
        frozen_stages: -1 trains everything; 0 freezes the stem; n freezes the stem and the first n stages. What is
            frozen gets no gradients and stays in evaluation mode (no drop path, fixed statistics of BatchNorm).
        norm_eval: keep BatchNorm's statistics fixed in training; its weights are trained.
        seed: of mixing, which draws from (seed, epoch, indices of the batch).
        init_weights: a checkpoint to start from, anything that `attnzoo.load_weights` takes; loaded before training
            starts, not where a finished checkpoint is only evaluated. A head for other classes is left as it is.

    Raises:
        ValueError: arguments contradict each other or are out of range.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        loss: dict | nn.Module | None = None,
        mixing: Mixing | dict | None = None,
        data_preprocessor: Normalisation | dict | nn.Module | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        seed: int = 0,
        init_weights: str | None = None,
    ) -> None:
        super().__init__(data_preprocessor=_build(data_preprocessor, "ImagePreprocessor"))
        self.backbone: Any = _build(backbone)
        self.num_classes = int(getattr(self.backbone, "num_classes", 0))
        if self.num_classes < 1:
            raise ValueError("A classifier's backbone needs a head: num_classes of at least 1.")
        self.loss: nn.Module = _build(loss, "CrossEntropy")
        self.mixing = Mixing(**mixing) if isinstance(mixing, dict) else mixing
        if self.mixing is not None and getattr(self.loss, "label_smoothing", 0):
            raise ValueError("With mixing, label_smoothing belongs in `mixing`: the loss's own would not be used.")
        self.norm_eval = norm_eval
        self.seed = seed
        self._weights_source = init_weights
        self._frozen = _freeze_stages(self.backbone, frozen_stages)

    def init_weights(self) -> None:
        """Loads the checkpoint to start from, once. The backbone has initialised everything else itself."""
        # mmengine's own would call init_weights of the modules below, and with that undo weights that are already
        # loaded.
        if self._is_init or self._weights_source is None:
            return
        from ..weights import load_weights

        load_weights(self.backbone, self._weights_source)
        self._is_init = True

    def train(self, mode: bool = True) -> Classifier:
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

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] (mmengine calls it with the batch's keys)
        self,
        image: torch.Tensor,
        label: torch.Tensor | None = None,
        index: Sequence[int] | None = None,
        epoch: Sequence[int] | None = None,
        repeat: Sequence[int] | None = None,
        path: Sequence[str] | None = None,
        broken: Sequence[str] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Computes losses, predictions or logits of a batch that the data preprocessor has prepared.

        Args:
            image: (B, C, H, W), normalised.
            label: (B,) int64; needed for "loss".
            index: of each sample; needed for mixing.
            epoch: of each sample; needed for mixing.
            repeat: of each sample, where augmentation is repeated.
            path: of each image; handed on.
            broken: not used here.
            mode: "loss", "predict" or "tensor".

        Returns:
            "loss": dict with `loss`, and `train_top1`, the batch's accuracy in percent (with mixing: for the label with
            the larger share).
            "predict": a list with a dict an image: `scores` (num_classes,) float32 probabilities on the CPU, `index`,
            `label` and `path`, None where they are not known.
            "tensor": logits (B, num_classes).

        Raises:
            ValueError: there is no such mode, or something that it needs is missing.
        """
        if mode == "loss":
            return self._losses(image, label, index, epoch, repeat)
        if mode == "predict":
            return self._predictions(self.backbone(image), label, index, path)
        if mode == "tensor":
            return self.backbone(image)
        raise ValueError(unknown_name("mode", mode, MODES))

    def _losses(
        self,
        image: torch.Tensor,
        label: torch.Tensor | None,
        index: Sequence[int] | None,
        epoch: Sequence[int] | None,
        repeat: Sequence[int] | None,
    ) -> dict[str, torch.Tensor]:
        if label is None:
            raise ValueError("A loss needs labels: the batch has no `label`.")
        target = main_label = label
        if self.mixing is not None:
            if index is None or epoch is None:
                raise ValueError("Mixing draws from (seed, epoch, indices): the batch has no `index` or no `epoch`.")
            if isinstance(index, torch.Tensor):
                raise ValueError("The data loader needs collate_fn=dict(type='classification_collate').")
            seed = derive_seed(self.seed, *epoch[:1], *index, *(repeat or ()), stream="mixing")
            image, target, main_label = self.mixing(image, label, self.num_classes, seed)
        logits = self.backbone(image)
        with torch.no_grad():
            correct = (logits.argmax(-1) == main_label).float().mean() * 100
        return {"loss": self.loss(logits, target), "train_top1": correct}

    def _predictions(
        self,
        logits: torch.Tensor,
        label: torch.Tensor | None,
        index: Sequence[int] | None,
        path: Sequence[str] | None,
    ) -> list[dict[str, Any]]:
        logits = logits.float()
        independent = getattr(self.loss, "independent_classes", False)
        scores = (logits.sigmoid() if independent else logits.softmax(-1)).cpu()
        unknown = [None] * len(scores)
        labels = unknown if label is None else label.tolist()
        columns = zip(scores, index or unknown, labels, path or unknown, strict=True)
        return [{"scores": score, "index": place, "label": true, "path": name} for score, place, true, name in columns]


def _freeze_stages(backbone: Any, frozen_stages: int) -> list[nn.Module]:
    """Takes the stem and the first stages out of training.

    Args:
        backbone: with modules `stem` and `stages`, as the zoo's have them. Parameters and modules elsewhere that its
            `group_matcher` counts to the stem, such as position embeddings, are frozen with it.
        frozen_stages: -1 for nothing, else the number of stages that are frozen together with the stem.

    Returns:
        The modules that must stay in evaluation mode.

    Raises:
        ValueError: there are not so many stages, or the backbone is built otherwise.
    """
    if frozen_stages == -1:
        return []
    stages = getattr(backbone, "stages", None)
    if not isinstance(getattr(backbone, "stem", None), nn.Module) or stages is None:
        raise ValueError(f"frozen_stages needs a backbone with `stem` and `stages`; {type(backbone).__name__} has not.")
    if not isinstance(frozen_stages, int) or not 0 <= frozen_stages <= len(stages):
        raise ValueError(f"frozen_stages is -1 (nothing) or 0 to {len(stages)} stages, not {frozen_stages!r}.")
    patterns = [r"^stem\b", *(rf"^stages\.{number}\b" for number in range(frozen_stages))]
    matcher = backbone.group_matcher(coarse=True) if hasattr(backbone, "group_matcher") else {}
    stem = matcher.get("stem", ())
    patterns += [stem] if isinstance(stem, str) else [pattern for pattern, *_ in stem]
    frozen = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    for name, parameter in backbone.named_parameters():
        if frozen.search(name):
            parameter.requires_grad_(False)
    return [module for name, module in backbone.named_modules() if name and frozen.search(name)]
