"""Random samples of a data set for inspection."""

from __future__ import annotations

import random
from typing import Any

from ..data.common.samplers import SampleKey


def choose_samples(length: int, count: int, seed: int = 0) -> list[int]:
    """Chooses distinct random indices.

    Args:
        length: Number of samples in the data set.
        count: Number of indices; all if the data set has fewer samples.
        seed: Seed of the choice.
    """
    return random.Random(seed).sample(range(length), min(count, length))


def get_sample(dataset: Any, index: int, epoch: int = 0) -> dict[str, Any]:
    """Returns a sample as a data loader does, and with its objects even where the data set omits them.

    A data set for evaluating detectors returns no objects because evaluation does not use them.

    Args:
        dataset: A data set of the zoo.
        index: Index of the sample.
        epoch: Epoch that seeds the augmentation.
    """
    sample = dataset[SampleKey(epoch, index)]
    if "target" in sample and sample["target"] is None and "views" not in sample:
        sample = {**sample, "target": dataset.transform(dataset.load(index)).get("target")}
    return sample
