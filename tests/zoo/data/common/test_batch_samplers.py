import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnzoo.zoo.data import AspectRatioBatchSampler, EpochSampler, EvaluationSampler, InfiniteSampler
from attnzoo.zoo.data.common import samplers
from attnzoo.zoo.training.loaders import build_dataloader


class Images:
    """A data set of images with known aspect ratios."""

    def __init__(self, count, seed=0):
        self.aspect_ratios = np.random.default_rng(seed).choice([0.5, 0.75, 1.0, 1.5], count)

    def __len__(self):
        return len(self.aspect_ratios)

    def __getitem__(self, key):
        return key

    def __str__(self):
        return "The data set of images"


@pytest.fixture
def as_rank(monkeypatch):
    def build(kind, rank, world_size, *args, **kwargs):
        monkeypatch.setattr(samplers, "get_dist_info", lambda: (rank, world_size))
        return kind(*args, **kwargs)

    return build


def ranked(kind, rank, world_size, *args, **kwargs):
    sampler = kind(*args, **kwargs)
    sampler.rank, sampler.world_size = rank, world_size
    return sampler


def endless(sampler, epochs):
    keys = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        keys += list(sampler)
    return keys


@settings(deadline=None)  # a busy machine takes longer now and then
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 17), st.booleans())
def test_a_cycle_has_each_image_once(count, world_size, length, shuffle):
    options = {"length": length, "shuffle": shuffle, "seed": 3}
    parts = [
        endless(ranked(InfiniteSampler, rank, world_size, range(count), **options), 5) for rank in range(world_size)
    ]
    # Ranks take turns: interleaved again, they yield one cycle after the other.
    stream = [key for turn in zip(*parts, strict=True) for key in turn]
    assert [key.epoch for key in stream] == [turn // count for turn in range(len(stream))]
    for lap, keys in itertools.groupby(stream, key=lambda key: key.epoch):
        indices = [key.index for key in keys]
        assert len(set(indices)) == len(indices)
        if lap < stream[-1].epoch:
            assert sorted(indices) == list(range(count))


def test_cycles_differ_in_their_order():
    sampler = InfiniteSampler(range(40), length=120, seed=1)
    keys = list(sampler)
    laps = [[key.index for key in keys[40 * lap : 40 * lap + 40]] for lap in range(3)]
    assert laps[0] != laps[1] != laps[2]
    assert list(InfiniteSampler(range(40), length=120, seed=2)) != keys


@settings(deadline=None)  # a busy machine takes longer now and then
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 17), st.integers(0, 4), st.data())
def test_the_stream_continues_where_it_stopped(count, world_size, length, epoch, data):
    start = data.draw(st.integers(0, length))
    sampler = ranked(InfiniteSampler, world_size - 1, world_size, range(count), length=length)
    sampler.set_epoch(epoch)
    whole = list(sampler)
    assert len(whole) == len(sampler) == length
    sampler.set_epoch(epoch, start=start)
    assert list(sampler) == whole[start:]


def test_the_default_length_is_the_ranks_share_of_the_data_set(as_rank):
    assert [len(as_rank(InfiniteSampler, rank, 4, range(10))) for rank in range(4)] == [3] * 4
    with pytest.raises(ValueError, match="epoch of this rank has 3"):
        as_rank(InfiniteSampler, 0, 1, range(3)).set_epoch(0, start=4)
    with pytest.raises(ValueError, match=r"length must be an integer >= 1 \(a number of samples\), got 0"):
        InfiniteSampler(range(3), length=0)
    with pytest.raises(ValueError, match="empty"):
        InfiniteSampler([])


@settings(deadline=None)  # a busy machine takes longer now and then
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.integers(0, 3), st.booleans())
def test_batches_of_an_epoch(count, size, world_size, epoch, drop_last):
    images = Images(count)
    wide = images.aspect_ratios >= 1
    sampler = ranked(EpochSampler, 0, world_size, images, seed=5)
    batches = AspectRatioBatchSampler(sampler, size, drop_last)
    batches.set_epoch(epoch)
    given_batches = list(batches)
    assert len(given_batches) == len(batches)
    sampler.set_epoch(epoch)
    keys = collections.Counter(sampler)
    taken = collections.Counter(key for batch in given_batches for key in batch)
    assert taken == keys if not drop_last else taken <= keys
    if drop_last:
        assert all(len(batch) == size for batch in given_batches)
    # Only the last two batches may mix both groups or be incomplete.
    mixed = [len(set(wide[[key.index for key in batch]])) > 1 or len(batch) < size for batch in given_batches]
    assert not any(mixed[:-2])


def test_batches_are_those_of_mmdet():
    # mmdet: two buckets, width < height in the first; full ones go out; leftovers of the first, then of the second.
    images = Images(23)
    buckets, expected = ([], []), []
    for index in range(23):
        bucket = buckets[int(images.aspect_ratios[index] >= 1)]
        bucket.append(index)
        if len(bucket) == 4:
            expected.append(list(bucket))
            bucket.clear()
    left = buckets[0] + buckets[1]
    expected += [left[begin : begin + 4] for begin in range(0, len(left), 4)]
    batches = AspectRatioBatchSampler(EpochSampler(images, shuffle=False), 4)
    assert [[key.index for key in batch] for batch in batches] == expected


@settings(deadline=None)  # a busy machine takes longer now and then
@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 3), st.integers(5, 40), st.integers(1, 4))
def test_batches_of_the_infinite_sampler_never_mix_and_lose_nothing(count, size, world_size, length, epochs):
    images = Images(count, seed=count)
    batches = AspectRatioBatchSampler(ranked(InfiniteSampler, 0, world_size, images, length=length), size)
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        assert len(list(batches)) == len(batches)
    whole = endless(batches, epochs)
    wide = images.aspect_ratios >= 1
    for batch in whole:
        assert len(batch) == size
        assert len(set(wide[[key.index for key in batch]])) == 1
    # Each group is seen in the order of the stream.
    sampler = ranked(InfiniteSampler, 0, world_size, images, length=len(whole) * size + 2 * size + count)
    for group in (False, True):
        seen = [key for batch in whole for key in batch if wide[key.index] == group]
        stream = [key for key in sampler if wide[key.index] == group]
        assert seen == stream[: len(seen)]


@pytest.mark.parametrize("kind", [EpochSampler, InfiniteSampler])
@pytest.mark.parametrize("epoch", [0, 3])
def test_batches_continue_where_they_stopped(kind, epoch):
    batches = AspectRatioBatchSampler(kind(Images(31), seed=2), 4)
    batches.set_epoch(epoch)
    whole = list(batches)
    for start in range(len(whole) + 1):
        batches.set_epoch(epoch, start=start)
        assert list(batches) == whole[start:]
    assert len(batches) == len(whole)


def test_ranks_have_the_same_number_of_batches_and_different_images(as_rank):
    parts = []
    for rank in range(3):
        batches = AspectRatioBatchSampler(as_rank(EpochSampler, rank, 3, Images(30), seed=1), 4)
        parts.append([key for batch in batches for key in batch])
        assert len(batches) == 3
    assert len({key for part in parts for key in part}) == 30


def test_a_loader_is_built_from_a_config():
    loader = build_dataloader(
        {
            "dataset": Images(10),
            "sampler": {"type": "InfiniteSampler", "length": 8},
            "batch_sampler": {"type": "AspectRatioBatchSampler"},
            "batch_size": 2,
            "collate_fn": list,
        },
        seed=7,
    )
    assert len(loader) == 4
    assert [len(batch) for batch in loader] == [2] * 4


def test_impossible_arguments_raise():
    with pytest.raises(ValueError, match="needs an EpochSampler or InfiniteSampler, got EvaluationSampler"):
        AspectRatioBatchSampler(EvaluationSampler(range(3)), 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"no aspect_ratios.*CocoDetection has"):
        AspectRatioBatchSampler(EpochSampler(range(3)), 2)
    with pytest.raises(ValueError, match="length=3 is less than batch_size=4"):
        AspectRatioBatchSampler(InfiniteSampler(Images(9), length=3), 4)
    with pytest.raises(ValueError, match="epoch of this rank has 3"):
        AspectRatioBatchSampler(EpochSampler(Images(9)), 4).set_epoch(0, start=4)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got"):
        AspectRatioBatchSampler(EpochSampler(Images(9)), 0)
