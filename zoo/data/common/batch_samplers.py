"""Batches of images with similar aspect ratios, which need little padding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ...registry import DATA_SAMPLERS
from .samplers import EpochSampler, InfiniteSampler, SampleKey


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(Sampler[list[SampleKey]]):
    """Batches in which all images are wide or all are tall, as in mmdet.

    Samples are sorted into two groups, in the order of the sampler, and a group that is full becomes a batch. What is
    left at the end of an `EpochSampler`'s epoch becomes the last one or two batches, tall images first; one of them may
    mix both. With an `InfiniteSampler`, it is kept for the next epoch. Batches depend on the sampler's (seed, epoch,
    rank) alone, so that training can be resumed after any batch.

    Args:
        sampler: EpochSampler or InfiniteSampler of a data set with `aspect_ratios` (width / height of each image).
        batch_size: Number of samples in a batch of this process.
        drop_last: Whether to drop an epoch's last batch if it is not full. An InfiniteSampler's are always full.

    Raises:
        ValueError: If the sampler is of another type, its data set has no `aspect_ratios`, or an InfiniteSampler's
            epoch is shorter than a batch.
    """

    def __init__(self, sampler: EpochSampler | InfiniteSampler, batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(sampler, EpochSampler | InfiniteSampler):
            raise ValueError(
                f"AspectRatioBatchSampler needs an EpochSampler or InfiniteSampler, got {type(sampler).__name__}."
            )
        ratios = getattr(sampler.dataset, "aspect_ratios", None)
        if ratios is None:
            raise ValueError(f"{sampler.dataset} has no aspect_ratios to form batches by; CocoDetection has.")
        if batch_size < 1 or int(batch_size) != batch_size:
            raise ValueError(f"batch_size must be an integer >= 1, got {batch_size!r}.")
        if isinstance(sampler, InfiniteSampler) and len(sampler) < batch_size:
            raise ValueError(
                f"The InfiniteSampler's length={len(sampler)} is less than batch_size={batch_size}: set it to a "
                "multiple of the batch size."
            )
        self.sampler = sampler
        self.batch_size = int(batch_size)
        self.drop_last = drop_last
        self.epoch = 0
        self.start = 0
        self._wide = np.asarray(ratios) >= 1

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses the batches of the next iteration.

        Args:
            epoch: Epoch, counting from 0.
            start: Number of batches to skip, because they were seen before an interruption.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise ValueError(f"Cannot start epoch {epoch} at batch {start}: an epoch of this rank has {len(self)}.")
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Returns the number of this rank's batches in a full epoch, whatever `start` is."""
        if self.drop_last or isinstance(self.sampler, InfiniteSampler):
            return len(self.sampler) // self.batch_size
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yields this rank's batches of the epoch, beginning at `start`."""
        if isinstance(self.sampler, InfiniteSampler):
            return self._endless(self.sampler)
        return itertools.islice(self._epoch(self.sampler), self.start, len(self))

    def _epoch(self, sampler: EpochSampler) -> Iterator[list[SampleKey]]:
        sampler.set_epoch(self.epoch)
        groups: tuple[list[SampleKey], list[SampleKey]] = ([], [])
        for key in sampler:
            group = groups[int(self._wide[key.index])]
            group.append(key)
            if len(group) == self.batch_size:
                yield group.copy()
                group.clear()
        left = [*groups[0], *groups[1]]
        for begin in range(0, len(left), self.batch_size):
            yield left[begin : begin + self.batch_size]

    def _endless(self, sampler: InfiniteSampler) -> Iterator[list[SampleKey]]:
        groups: tuple[list[SampleKey], list[SampleKey]] = ([], [])
        skip, left = self.epoch * len(self) + self.start, len(self) - self.start
        for cycle in itertools.count():
            indices = sampler.cycle(cycle)
            wide = self._wide[indices]
            incoming = [indices[~wide], indices[wide]]
            full = sum((len(group) + len(new)) // self.batch_size for group, new in zip(groups, incoming, strict=True))
            if skip >= full:  # all seen before: only the samples that are still waiting after this cycle are needed
                skip -= full
                for group, new in zip(groups, incoming, strict=True):
                    waiting = (len(group) + len(new)) % self.batch_size
                    group.extend(SampleKey(cycle, index) for index in new[-self.batch_size :].tolist())
                    del group[: len(group) - waiting]
                continue
            for index in indices.tolist():
                group = groups[int(self._wide[index])]
                group.append(SampleKey(cycle, index))
                if len(group) < self.batch_size:
                    continue
                if skip:
                    skip -= 1
                else:
                    if not left:
                        return
                    left -= 1
                    yield group.copy()
                group.clear()
