"""Batches of images of like shape, so that little is padded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ...registry import DATA_SAMPLERS
from .samplers import EpochSampler, InfiniteSampler, SampleKey


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(Sampler[list[SampleKey]]):
    """Batches that are all wide or all tall, as mmdet forms them.

    Samples come in the sampler's order and wait in two groups; a batch goes out when a group is full. What waits at the
    end of an `EpochSampler`'s epoch makes the last one or two batches, tall before wide, which may mix. From an
    `InfiniteSampler` it waits on into the next epoch. Which batch is which depends on the sampler's (seed, epoch, rank)
    alone, so that training resumes after any batch.

    Args:
        sampler: an EpochSampler or InfiniteSampler of a data set with `aspect_ratios` (width over height, an image).
        batch_size: samples in a batch of this process.
        drop_last: leave out an epoch's last batch if it is not full. An InfiniteSampler's are always full.

    Raises:
        ValueError: the sampler is of another kind, its data set has no `aspect_ratios`, or not one batch is in an
            InfiniteSampler's epoch.
    """

    def __init__(self, sampler: EpochSampler | InfiniteSampler, batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(sampler, EpochSampler | InfiniteSampler):
            raise ValueError(
                f"AspectRatioBatchSampler needs a sampler of type EpochSampler or InfiniteSampler, not "
                f"{type(sampler).__name__}."
            )
        ratios = getattr(sampler.dataset, "aspect_ratios", None)
        if ratios is None:
            raise ValueError(f"{sampler.dataset} has no aspect_ratios to form batches by; CocoDetection has.")
        if batch_size < 1 or int(batch_size) != batch_size:
            raise ValueError(f"batch_size is a whole number from 1 on, not {batch_size!r}.")
        if isinstance(sampler, InfiniteSampler) and len(sampler) < batch_size:
            raise ValueError(
                f"The InfiniteSampler's length, {len(sampler)}, is less than the batch size, {batch_size}: give it a "
                "multiple of that."
            )
        self.sampler = sampler
        self.batch_size = int(batch_size)
        self.drop_last = drop_last
        self.epoch = 0
        self.start = 0
        self._wide = np.asarray(ratios) >= 1

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses what the next iteration gives.

        Args:
            epoch: from 0.
            start: how many batches to leave out, because they were seen before an interruption.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise ValueError(f"Cannot start epoch {epoch} at batch {start}: an epoch of this rank has {len(self)}.")
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Batches of this rank in a whole epoch, whatever `start` is."""
        if self.drop_last or isinstance(self.sampler, InfiniteSampler):
            return len(self.sampler) // self.batch_size
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yields this rank's batches of the epoch, from `start` on."""
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
        for lap in itertools.count():
            indices = sampler.lap(lap)
            wide = self._wide[indices]
            given = [indices[~wide], indices[wide]]
            full = sum((len(group) + len(new)) // self.batch_size for group, new in zip(groups, given, strict=True))
            if skip >= full:  # a lap that was seen before: what waits after it are the last ones of each group
                skip -= full
                for group, new in zip(groups, given, strict=True):
                    waiting = (len(group) + len(new)) % self.batch_size
                    group.extend(SampleKey(lap, index) for index in new[-self.batch_size :].tolist())
                    del group[: len(group) - waiting]
                continue
            for index in indices.tolist():
                group = groups[int(self._wide[index])]
                group.append(SampleKey(lap, index))
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
