"""Collates samples into a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmengine.registry as roots
import torch

from ...registry import FUNCTIONS


# A Runner looks functions up in mmengine's root registry, whatever the default scope is.
@roots.FUNCTIONS.register_module()
@FUNCTIONS.register_module()
def classification_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stacks a classification data set's samples.

    Args:
        samples: Samples of a `ClassificationDataset`.

    Returns:
        `image` (B, 3, H, W) and `label` (B,) int64 as tensors; `index`, `epoch`, `repeat` and `path` as lists with one
        entry per sample (plain numbers, because seeds are derived from them, and reading them back from a device would
        synchronize with it); `broken`, the paths of all images that were replaced, in one list.

    Raises:
        ValueError: If the images differ in size.
    """
    shapes = {tuple(sample["image"].shape) for sample in samples}
    if len(shapes) > 1:
        sizes = " and ".join(str(shape) for shape in sorted(shapes)[:2])
        raise ValueError(f"The images of a batch differ in size ({sizes}): the transform must give one size.")
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "label": torch.tensor([sample["label"] for sample in samples]),
        "index": [sample["index"] for sample in samples],
        "epoch": [sample["epoch"] for sample in samples],
        "repeat": [sample["repeat"] for sample in samples],
        "path": [sample["path"] for sample in samples],
        "broken": [path for sample in samples for path in sample["broken"]],
    }


@roots.FUNCTIONS.register_module()
@FUNCTIONS.register_module()
def dense_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lists the entries of detection or segmentation samples, whose images may differ in size.

    The task's preprocessor pads the images, after normalizing them.

    Args:
        samples: Samples of a `DetectionDataset` or `SegmentationDataset`, all with the same keys.

    Returns:
        For each key a list with one entry per sample; `broken`, the paths of all images that were replaced, in one
        list.

    Raises:
        ValueError: If the samples differ in their keys.
    """
    first = samples[0].keys()
    for sample in samples:
        if sample.keys() != first:
            raise ValueError(f"The samples of a batch differ in their keys: {sorted(first)} and {sorted(sample)}.")
    batch = {key: [sample[key] for sample in samples] for key in first}
    batch["broken"] = [path for sample in samples for path in sample["broken"]]
    return batch
