"""Image classification: a backbone, a loss, and what belongs between them and the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...names import unknown_name
from ..registry import MODELS
from ..seeding import derive_seed
from .base import MODES, Task, build_part
from .mixing import Mixing
from .preprocessing import Normalisation


class ClassificationTask(Task):
    """What is computed from images with labels, whatever makes the logits.

    Args:
        backbone: a config of MODELS, or a module.
        loss: a config of MODELS: CrossEntropy, SoftTargetCrossEntropy or BinaryCrossEntropy; or a module.
        mixing: the settings of `Mixing`; None for none. It makes the targets distributions, with its own label
            smoothing.
        data_preprocessor: mean and std of `ImagePreprocessor`, or a config of another type.
        frozen_stages: see `Task`.
        norm_eval: see `Task`.
        seed: of mixing, which draws from (seed, epoch, indices of the batch).
        init_weights: see `Task`.

    Attributes:
        num_classes: of the logits.

    Raises:
        ValueError: arguments contradict each other or are out of range.
    """

    kind = "classification"
    num_classes: int

    def __init__(
        self,
        backbone: dict | nn.Module,
        loss: dict | nn.Module | None,
        mixing: Mixing | dict | None,
        data_preprocessor: Normalisation | dict | nn.Module | None,
        frozen_stages: int,
        norm_eval: bool,
        seed: int,
        init_weights: str | None,
    ) -> None:
        super().__init__(backbone, data_preprocessor, "ImagePreprocessor", frozen_stages, norm_eval, init_weights)
        self.loss: nn.Module = build_part(loss, "CrossEntropy")
        self.mixing = Mixing(**mixing) if isinstance(mixing, dict) else mixing
        if self.mixing is not None and getattr(self.loss, "label_smoothing", 0):
            raise ValueError("With mixing, label_smoothing belongs in `mixing`: the loss's own would not be used.")
        self.seed = seed

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W), normalised, to logits (B, num_classes)."""
        raise NotImplementedError

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
            return self._predictions(self.logits(image), label, index, path)
        if mode == "tensor":
            return self.logits(image)
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
        logits = self.logits(image)
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


@MODELS.register_module()
class Classifier(ClassificationTask):
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
        super().__init__(backbone, loss, mixing, data_preprocessor, frozen_stages, norm_eval, seed, init_weights)
        self.num_classes = int(getattr(self.backbone, "num_classes", 0))
        if self.num_classes < 1:
            raise ValueError("A classifier's backbone needs a head: num_classes of at least 1.")

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W), normalised, to logits (B, num_classes)."""
        return self.backbone(image)
