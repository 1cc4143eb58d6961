"""Samplers: which samples a process sees and in which order, as a function of (seed, epoch, rank) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from ...registry import DATA_SAMPLERS
from ...seeding import derive_seed


class SampleKey(NamedTuple):
    """What a sampler passes to a data set: the sample, and what its augmentation is seeded with.

    Attributes:
        epoch: Epoch, counting from 0.
        index: Index of the sample in the data set.
        repeat: How many times the sample has already appeared in this epoch. It is positive only with repeated
            augmentation, or where an epoch is rounded up.
    """

    epoch: int
    index: int
    repeat: int = 0


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler[SampleKey]):
    """One rank's samples for training; the same (seed, epoch) always leads to the same samples.

    With `num_repeats` > 1 it does DeiT's repeated augmentation: each image appears `num_repeats` times in a row in the
    shuffled list, and ranks take turns, so that different ranks see different augmentations of the same image. An epoch
    is as long as without repeats, and so contains about 1 / num_repeats of the images. (Hoffer et al., Augment your
    batch, CVPR 2020; Touvron et al., DeiT, ICML 2021.)

    Args:
        dataset: Data set to sample from. (Only its length is used here; batch samplers read its `aspect_ratios`.)
        shuffle: Whether every epoch has a new order; otherwise samples come in the data set's order.
        seed: Seed of the order, the same on all ranks. The Runner passes its own; None means 0.
        num_repeats: Appearances of each image in a row.
        round_up: If the number of samples is not divisible by the number of ranks, whether to continue with further
            entries of the list (starting over at its end) until all ranks have the same number. Otherwise the last
            samples are dropped.

    Raises:
        ValueError: If the data set is empty, or has fewer samples than there are ranks and `round_up` is False, or
            `num_repeats` is not a positive integer.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = 0,
        num_repeats: int = 1,
        round_up: bool = True,
    ) -> None:
        if num_repeats < 1 or int(num_repeats) != num_repeats:
            raise ValueError(f"num_repeats must be an integer >= 1, got {num_repeats!r}.")
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.num_images = len(dataset)
        self.shuffle = shuffle
        self.seed = 0 if seed is None else seed
        self.num_repeats = int(num_repeats)
        self.round_up = round_up
        self.epoch = 0
        self.start = 0
        if self.num_images == 0:
            raise ValueError("The data set is empty: there is nothing to sample.")
        if len(self) == 0:
            raise ValueError(
                f"{self.num_images} samples are too few for {self.world_size} processes: set round_up=True."
            )

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses the samples of the next iteration.

        Args:
            epoch: Epoch, counting from 0.
            start: Number of this rank's samples to skip, because they were seen before an interruption.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise ValueError(f"Cannot start epoch {epoch} at sample {start}: an epoch of this rank has {len(self)}.")
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Returns the number of this rank's samples in a full epoch, whatever `start` is."""
        if self.round_up:
            return -(-self.num_images // self.world_size)
        return self.num_images // self.world_size

    def __iter__(self) -> Iterator[SampleKey]:
        """Yields this rank's samples of the epoch, beginning at `start`."""
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch, stream="order"))
            order = torch.randperm(self.num_images, generator=generator)
        else:
            order = torch.arange(self.num_images)
        for step in range(self.start, len(self)):
            cycle, position = divmod(step * self.world_size + self.rank, self.num_images * self.num_repeats)
            image, repeat = divmod(position, self.num_repeats)
            yield SampleKey(self.epoch, int(order[image]), cycle * self.num_repeats + repeat)


@DATA_SAMPLERS.register_module()
class InfiniteSampler(Sampler[SampleKey]):
    """One rank's samples of an endless stream, for schedules counted in iterations.

    The stream repeats the data set in cycles, each with a new order; ranks take turns. It is cut into "epochs" of
    any length, which only determine when the training loop starts its next iteration over the data loader. They may end
    anywhere in a cycle without dropping samples, and one may be as long as the entire training, so that workers never
    stop. In a sample's key, `epoch` is the cycle.

    Args:
        dataset: Data set to sample from. (Only its length is used here; batch samplers read its `aspect_ratios`.)
        length: Number of this rank's samples in an "epoch", preferably a multiple of the batch size. None is the data
            set's size divided by the number of ranks, rounded up.
        shuffle: Whether every cycle has a new order; otherwise samples come in the data set's order.
        seed: Seed of the order, the same on all ranks. The Runner passes its own; None means 0.

    Raises:
        ValueError: If the data set is empty, or `length` is not a positive integer.
    """

    def __init__(self, dataset: Sized, length: int | None = None, shuffle: bool = True, seed: int | None = 0) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.num_images = len(dataset)
        if self.num_images == 0:
            raise ValueError("The data set is empty: there is nothing to sample.")
        if length is not None and (length < 1 or int(length) != length):
            raise ValueError(f"length must be an integer >= 1 (a number of samples), got {length!r}.")
        self.length = -(-self.num_images // self.world_size) if length is None else int(length)
        self.shuffle = shuffle
        self.seed = 0 if seed is None else seed
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses the samples of the next iteration.

        Args:
            epoch: "Epoch", counting from 0.
            start: Number of this rank's samples to skip, because they were seen before an interruption.
        """
        if epoch < 0 or not 0 <= start <= self.length:
            raise ValueError(f"Cannot start epoch {epoch} at sample {start}: an epoch of this rank has {self.length}.")
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Returns the number of this rank's samples in a full "epoch", whatever `start` is."""
        return self.length

    def __iter__(self) -> Iterator[SampleKey]:
        """Yields this rank's samples of the "epoch", beginning at `start`."""
        step, end = self.epoch * self.length + self.start, (self.epoch + 1) * self.length
        cycle = (step * self.world_size + self.rank) // self.num_images
        skip = step - self._steps_before(cycle)
        while step < end:
            for index in self.cycle(cycle)[skip : skip + end - step].tolist():
                yield SampleKey(cycle, index)
                step += 1
            cycle, skip = cycle + 1, 0

    def cycle(self, cycle: int) -> np.ndarray:
        """Returns the indices of this rank's samples in one cycle over the data set, in order, as int64."""
        first = self._steps_before(cycle) * self.world_size + self.rank - cycle * self.num_images
        if not self.shuffle:
            return np.arange(first, self.num_images, self.world_size)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, cycle, stream="order"))
        return torch.randperm(self.num_images, generator=generator).numpy()[first :: self.world_size]

    def _steps_before(self, cycle: int) -> int:
        """Counts this rank's samples in the stream before a cycle begins."""
        return max(0, -(-(cycle * self.num_images - self.rank) // self.world_size))


@DATA_SAMPLERS.register_module()
class EvaluationSampler(Sampler[SampleKey]):
    """Every sample exactly once over all ranks, in order; ranks may differ by one sample.

    Args:
        dataset: Data set to sample from; only its length is used.
        seed: Not used; the Runner passes one to every sampler.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.num_images = len(dataset)

    def __len__(self) -> int:
        """Returns the number of this rank's samples."""
        return len(range(self.rank, self.num_images, self.world_size))

    def __iter__(self) -> Iterator[SampleKey]:
        """Yields this rank's samples, all with epoch 0."""
        for index in range(self.rank, self.num_images, self.world_size):
            yield SampleKey(0, index)
