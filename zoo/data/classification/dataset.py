"""Images with one label each, for training and evaluating classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from ...registry import DATASETS, TRANSFORMS
from ...seeding import derive_seed, isolated_randomness
from ..common.decoding import UNREADABLE, BrokenImageError, decode_rgb
from ..common.replacement import read_or_replace
from ..common.samplers import SampleKey
from .sources import build_source


@DATASETS.register_module()
class ImageClassificationDataset(Dataset[dict[str, Any]]):
    """A classification data set in any of the usual layouts (this package's README tells them).

    A sample depends on (seed, epoch, index, repeat) alone: not on the worker that makes it, on what was made before,
    or on where a run was resumed.

    A broken image (truncated, damaged, unreadable) is replaced in training by another one, chosen at random from the
    sample's own seed, and its path is listed in the sample; in evaluation it raises, because a figure over other
    images would be wrong.

    Args:
        root: a folder, a .tar file, or a Hugging Face data set's name.
        split: a folder or tar file in `root`, or a Hugging Face data set's split.
        reader: "auto", "folder", "tar" or "hfds".
        class_map: labels by class name: a file, a dict, a list, or "imagenet-1k". None numbers the classes in natural
            order.
        annotations: a file with a path and a label a line, for images that do not lie in one folder a class.
        reader_options: for "hfds".
        transform: a config of TRANSFORMS, or a callable from a PIL image to a (3, H, W) tensor.
        seed: of augmentation and of replacing broken images.
        num_classes: how many classes there must be; None takes any number.
        replace_broken: True as in training, False as in evaluation; None as the transform's `training` says.
        max_retries: how many broken images in a row make a training sample fail.

    Attributes:
        classes: names, by label.
        class_to_idx: labels, by name.
        metainfo: `classes` for mmengine's metrics.

    Raises:
        ValueError: see `build_source`; or the number of classes is not `num_classes`.
    """

    def __init__(
        self,
        root: str,
        split: str | None = None,
        reader: str = "auto",
        class_map: str | Mapping[str, int] | Sequence[str] | None = None,
        annotations: str | None = None,
        reader_options: Mapping[str, Any] | None = None,
        transform: dict[str, Any] | Callable[[Image.Image], torch.Tensor] | None = None,
        seed: int = 0,
        num_classes: int | None = None,
        replace_broken: bool | None = None,
        max_retries: int = 10,
    ) -> None:
        if transform is None:
            raise ValueError("A data set needs a transform, such as dict(type='Evaluation', size=224).")
        self.root = root
        self.split = split
        self.source = build_source(root, split, reader, class_map, annotations, reader_options)
        self.classes = self.source.classes
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        if num_classes is not None and num_classes != len(self.classes):
            raise ValueError(
                f"{self} has {len(self.classes)} classes, not num_classes={num_classes}: correct the number, or give a "
                "class_map where some classes are missing."
            )
        self.metainfo = {"classes": self.classes}
        self.transform: Callable[[Image.Image], torch.Tensor] = (
            TRANSFORMS.build(transform) if isinstance(transform, dict) else transform
        )
        self.seed = seed
        self.replace_broken = getattr(self.transform, "training", False) if replace_broken is None else replace_broken
        self.max_retries = max_retries

    def __str__(self) -> str:
        return f"The data set {self.root}" + (f" ({self.split})" if self.split else "")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Reads, decodes and transforms one image.

        Args:
            key: of a sampler; a plain index counts as epoch 0.

        Returns:
            `image` as the transform gives it; `label`, `index`, `epoch` and `repeat` as int; `path`; `broken`, the
            paths of broken images that this one replaces. `label` and `path` are of the image given, `index` is the
            one asked for.

        Raises:
            BrokenImageError: in evaluation, the image is broken; in training, `max_retries` more were, too.
            IndexError: there is no such sample.
        """
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        if not 0 <= key.index < len(self):
            raise IndexError(f"{self} has no sample {key.index}: its {len(self)} are numbered from 0.")
        seeds = (self.seed, key.epoch, key.index, key.repeat)
        (picture, label), index, broken = read_or_replace(
            self._read, key.index, len(self), seeds, self.replace_broken, self.max_retries
        )
        with isolated_randomness(derive_seed(*seeds, stream="augmentation")):
            image = self.transform(picture)
        return {
            "image": image,
            "label": label,
            "index": key.index,
            "epoch": key.epoch,
            "repeat": key.repeat,
            "path": self.source.path(index),
            "broken": broken,
        }

    def _read(self, index: int) -> tuple[Image.Image, int]:
        try:
            file, label = self.source.open(index)
        except UNREADABLE as error:
            raise BrokenImageError.of(self.source.path(index), f"{type(error).__name__}: {error}") from error
        with file:
            return decode_rgb(file, self.source.path(index)), label


def check_num_classes(num_classes: int, dataset: Any, key: str = "model.backbone.num_classes") -> None:
    """Raises where a model and a data set differ in their number of classes.

    Args:
        num_classes: of the model.
        dataset: anything with `classes`.
        key: of the model's number in its config, for the message.

    Raises:
        ValueError: they differ; the message names both and the remedy.
    """
    given = len(dataset.classes)
    if given == num_classes:
        return
    remedy = f"set {key}={given}"
    if hasattr(dataset, "class_to_idx"):
        remedy += f", or give the data set a class_map of {num_classes} classes (for ImageNet, class_map='imagenet-1k')"
    raise ValueError(f"{key} is {num_classes}, but {dataset} has {given} classes: {remedy}.")


def check_same_classes(train: Any, evaluation: Any) -> None:
    """Raises where two data sets number their classes differently: labels after the first difference would be wrong.

    Args:
        train: the training data set, with `classes`.
        evaluation: the other one.

    Raises:
        ValueError: they differ; the message names the first differences and the remedy.
    """
    first, second = tuple(train.classes), tuple(evaluation.classes)
    if first == second:
        return
    missing = [name for name in first if name not in set(second)]
    extra = [name for name in second if name not in set(first)]
    difference = [f"lacks {', '.join(missing[:5])}"] if missing else []
    difference += [f"has {', '.join(extra[:5])} besides"] if extra else []
    remedy = "class_map" if hasattr(train, "class_to_idx") else "classes"
    raise ValueError(
        f"{evaluation} has {len(second)} classes, {train} has {len(first)}: the former "
        f"{' and '.join(difference) or 'numbers them in another order'}. Give both the same {remedy}."
    )
