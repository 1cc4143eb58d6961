"""Image classification: a backbone and a loss, with mixup and CutMix."""

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
from .preprocessing import Normalization


class ClassificationTask(Task):
    """Base class of classification tasks. Subclasses implement `logits`.

    Args:
        backbone: Config of a type in MODELS, or a module.
        loss: Config of CrossEntropy, SoftTargetCrossEntropy, BinaryCrossEntropy or another type in MODELS, or a module.
        mixing: Settings of `Mixing`, which turns labels into distributions and smooths them itself.
        data_preprocessor: Arguments of `ImagePreprocessor`, or the config of another type.
        frozen_stages: See `Task`.
        norm_eval: See `Task`.
        seed: Seed of mixing, which depends on (seed, epoch, indices of the batch).
        init_weights: See `Task`.

    Attributes:
        num_classes: Number of classes.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    kind = "classification"
    num_classes: int

    def __init__(
        self,
        backbone: dict | nn.Module,
        loss: dict | nn.Module | None,
        mixing: Mixing | dict | None,
        data_preprocessor: Normalization | dict | nn.Module | None,
        frozen_stages: int,
        norm_eval: bool,
        seed: int,
        init_weights: str | None,
    ) -> None:
        super().__init__(backbone, data_preprocessor, "ImagePreprocessor", frozen_stages, norm_eval, init_weights)
        self.loss: nn.Module = build_part(loss, "CrossEntropy")
        self.mixing = Mixing(**mixing) if isinstance(mixing, dict) else mixing
        if self.mixing is not None and getattr(self.loss, "label_smoothing", 0):
            raise ValueError("With mixing, set label_smoothing in `mixing`: that of the loss would not be used.")
        self.seed = seed

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Maps normalized images (B, C, H, W) to logits (B, num_classes)."""
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
        """Computes the losses, predictions or logits of a batch from the data preprocessor.

        Args:
            image: (B, C, H, W), normalized.
            label: (B,) int64; required by "loss".
            index: Index of each sample; required by mixing.
            epoch: Epoch of each sample; required by mixing.
            repeat: Repetition of each sample, with repeated augmentation.
            path: Path of each image, copied to the predictions.
            broken: Unused.
            mode: "loss", "predict" or "tensor".

        Returns:
            "loss": A dict with `loss` and `train_top1`, the accuracy of the batch in percent (with mixing, for the
            label with the larger share).
            "predict": A list with one dict per image: `scores` (num_classes,), float32 probabilities on the CPU, and
            `index`, `label` and `path`, or None if they are unknown.
            "tensor": Logits (B, num_classes).

        Raises:
            ValueError: The mode is unknown, or an input that it requires is missing.
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
            raise ValueError("The mode 'loss' needs labels, but the batch has no `label`.")
        target = main_label = label
        if self.mixing is not None:
            if index is None or epoch is None:
                raise ValueError(
                    "Mixing depends on (seed, epoch, indices), but the batch has no `index` or no `epoch`."
                )
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
    """A backbone with its own classifier.

    Args:
        backbone: Config such as dict(type="nat_mini", num_classes=10, drop_path_rate=0.1), or a module with
            `num_classes` that returns logits (B, num_classes).
        loss: Config of CrossEntropy, SoftTargetCrossEntropy, BinaryCrossEntropy or another type in MODELS, or a module.
        mixing: Settings of `Mixing`, which turns labels into distributions and smooths them itself.
        data_preprocessor: Arguments of `ImagePreprocessor`, or the config of another type.
        frozen_stages: -1 trains all stages, 0 freezes the stem, and n freezes the stem and the first n stages. Frozen
            layers get no gradients and stay in evaluation mode (no drop path, fixed BatchNorm statistics).
        norm_eval: Keep the statistics of all BatchNorm layers fixed during training. Their weights are trained.
        seed: Seed of mixing, which depends on (seed, epoch, indices of the batch).
        init_weights: Checkpoint to start training from, in any form that `attnzoo.load_weights` accepts. It is not
            loaded if the task is only evaluated. A classifier for other classes keeps its initial values.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        loss: dict | nn.Module | None = None,
        mixing: Mixing | dict | None = None,
        data_preprocessor: Normalization | dict | nn.Module | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        seed: int = 0,
        init_weights: str | None = None,
    ) -> None:
        super().__init__(backbone, loss, mixing, data_preprocessor, frozen_stages, norm_eval, seed, init_weights)
        self.num_classes = int(getattr(self.backbone, "num_classes", 0))
        if self.num_classes < 1:
            raise ValueError(f"num_classes of a classifier's backbone must be >= 1, got {self.num_classes}.")

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Maps normalized images (B, C, H, W) to logits (B, num_classes)."""
        return self.backbone(image)
