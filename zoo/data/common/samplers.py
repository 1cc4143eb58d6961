"""Which samples a process sees, and in which order: a function of (seed, epoch, rank) alone."""

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
    """What a sampler asks of a dataset: one sample, and everything that its augmentation is drawn from.

    Attributes:
        epoch: from 0.
        index: of the sample in the dataset.
        repeat: which of the sample's appearances in this epoch, from 0; more than 0 only with repeated augmentation,
            and where an epoch is rounded up.
    """

    epoch: int
    index: int
    repeat: int = 0


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler[SampleKey]):
    """Samples of one rank for training, the same whenever and wherever (seed, epoch) are the same.

    With `num_repeats` over 1, it is the repeated augmentation of DeiT: in the shuffled list each image stands
    `num_repeats` times in a row, and ranks take turns, so that different ranks see different augmentations of the same
    image. An epoch is as long as without repeats and so holds about 1 / num_repeats of the images.
    (Hoffer et al., Augment your batch, CVPR 2020; Touvron et al., DeiT, ICML 2021.)

    Args:
        dataset: what is sampled. (Only its length is used here; batch samplers look for its `aspect_ratios`.)
        shuffle: a new order every epoch, or the dataset's.
        seed: of the order. The Runner gives its own; None is 0. All ranks need the same.
        num_repeats: appearances of an image in a row.
        round_up: where the number of samples is not divisible by the number of ranks, go on with further entries of the
            list (its first ones where it ends), so that all ranks have the same number; else leave the last ones out.

    Raises:
        ValueError: the dataset is empty, or smaller than the number of ranks without `round_up`, or `num_repeats` is
            under 1.
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
            raise ValueError(f"num_repeats is a whole number from 1 on, not {num_repeats!r}.")
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
            raise ValueError("The dataset is empty: there is nothing to sample.")
        if len(self) == 0:
            raise ValueError(
                f"{self.num_images} samples are too few for {self.world_size} processes: set round_up=True."
            )

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses what the next iteration gives.

        Args:
            epoch: from 0.
            start: how many samples of this rank to leave out, because they were seen before an interruption.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise ValueError(f"Cannot start epoch {epoch} at sample {start}: an epoch of this rank has {len(self)}.")
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Samples of this rank in a whole epoch, whatever `start` is."""
        if self.round_up:
            return -(-self.num_images // self.world_size)
        return self.num_images // self.world_size

    def __iter__(self) -> Iterator[SampleKey]:
        """Yields this rank's samples of the epoch, from `start` on."""
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch, stream="order"))
            order = torch.randperm(self.num_images, generator=generator)
        else:
            order = torch.arange(self.num_images)
        for turn in range(self.start, len(self)):
            lap, place = divmod(turn * self.world_size + self.rank, self.num_images * self.num_repeats)
            image, repeat = divmod(place, self.num_repeats)
            yield SampleKey(self.epoch, int(order[image]), lap * self.num_repeats + repeat)


@DATA_SAMPLERS.register_module()
class InfiniteSampler(Sampler[SampleKey]):
    """Samples of one rank from one endless stream, for schedules counted in iterations.

    The stream is lap after lap over the dataset, each in an order of its own; ranks take turns. It is cut into "epochs"
    of any length, which only tell when a loop comes round: their ends fall anywhere in a lap and leave nothing out,
    and an epoch can be as long as the whole training, so that workers never stop. In a sample's key, `epoch` is the
    lap.

    Args:
        dataset: what is sampled. (Only its length is used here; batch samplers look for its `aspect_ratios`.)
        length: samples of a rank in what a loop takes for an epoch, best a multiple of the batch size. None is the
            dataset's share of a rank, rounded up.
        shuffle: a new order every lap, or the dataset's.
        seed: of the order. The Runner gives its own; None is 0. All ranks need the same.

    Raises:
        ValueError: the dataset is empty, or `length` is under 1.
    """

    def __init__(self, dataset: Sized, length: int | None = None, shuffle: bool = True, seed: int | None = 0) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.num_images = len(dataset)
        if self.num_images == 0:
            raise ValueError("The dataset is empty: there is nothing to sample.")
        if length is not None and (length < 1 or int(length) != length):
            raise ValueError(f"length is a number of samples from 1 on, not {length!r}.")
        self.length = -(-self.num_images // self.world_size) if length is None else int(length)
        self.shuffle = shuffle
        self.seed = 0 if seed is None else seed
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses what the next iteration gives.

        Args:
            epoch: from 0.
            start: how many samples of this rank to leave out, because they were seen before an interruption.
        """
        if epoch < 0 or not 0 <= start <= self.length:
            raise ValueError(f"Cannot start epoch {epoch} at sample {start}: an epoch of this rank has {self.length}.")
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Samples of this rank in a whole epoch, whatever `start` is."""
        return self.length

    def __iter__(self) -> Iterator[SampleKey]:
        """Yields this rank's samples of the epoch, from `start` on."""
        turn, end = self.epoch * self.length + self.start, (self.epoch + 1) * self.length
        lap = (turn * self.world_size + self.rank) // self.num_images
        skip = turn - self._turns_before(lap)
        while turn < end:
            for index in self.lap(lap)[skip : skip + end - turn].tolist():
                yield SampleKey(lap, index)
                turn += 1
            lap, skip = lap + 1, 0

    def lap(self, lap: int) -> np.ndarray:
        """Gives the samples of this rank in a lap, in order, as int64."""
        first = self._turns_before(lap) * self.world_size + self.rank - lap * self.num_images
        if not self.shuffle:
            return np.arange(first, self.num_images, self.world_size)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, lap, stream="order"))
        return torch.randperm(self.num_images, generator=generator).numpy()[first :: self.world_size]

    def _turns_before(self, lap: int) -> int:
        """How many of this rank's turns come before a lap."""
        return max(0, -(-(lap * self.num_images - self.rank) // self.world_size))


@DATA_SAMPLERS.register_module()
class EvaluationSampler(Sampler[SampleKey]):
    """Each sample exactly once over all ranks, in order; ranks may have one sample more or less than others.

    Args:
        dataset: what is sampled; only its length is used.
        seed: not used; the Runner gives one to every sampler.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.num_images = len(dataset)

    def __len__(self) -> int:
        """Samples of this rank."""
        return len(range(self.rank, self.num_images, self.world_size))

    def __iter__(self) -> Iterator[SampleKey]:
        """Yields this rank's samples, all as of epoch 0."""
        for index in range(self.rank, self.num_images, self.world_size):
            yield SampleKey(0, index)
