import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.distributed_sampler import RepeatAugSampler

from attnzoo.zoo.data import EpochSampler, EvaluationSampler, SampleKey
from attnzoo.zoo.data.common import samplers


@pytest.fixture
def as_rank(monkeypatch):
    def build(kind, rank, world_size, *args, **kwargs):
        monkeypatch.setattr(samplers, "get_dist_info", lambda: (rank, world_size))
        return kind(*args, **kwargs)

    return build


def test_an_epoch_has_each_image_once_in_its_own_order():
    sampler = EpochSampler(range(50), seed=3)
    first = list(sampler)
    assert sorted(key.index for key in first) == list(range(50))
    assert [key.index for key in first] != list(range(50))
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert [key.index for key in second] != [key.index for key in first]
    assert {key.epoch for key in second} == {1}
    assert list(EpochSampler(range(50), seed=4)) != first


def test_a_resumed_epoch_continues_where_it_stopped():
    sampler = EpochSampler(range(20), seed=1)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.set_epoch(2, start=7)
    assert list(sampler) == whole[7:]
    assert len(sampler) == 20
    sampler.set_epoch(3)
    assert len(list(sampler)) == 20


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_share_an_epoch(as_rank, world_size):
    parts = [list(as_rank(EpochSampler, rank, world_size, range(10), seed=5)) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    counts = collections.Counter(key.index for part in parts for key in part)
    assert set(counts) == set(range(10))
    assert sum(counts.values()) == -(-10 // world_size) * world_size
    # The few repeated samples have another `repeat`, and so another augmentation.
    assert len({key for part in parts for key in part}) == sum(counts.values())


def test_without_rounding_up_the_last_samples_are_dropped(as_rank):
    parts = [list(as_rank(EpochSampler, rank, 4, range(10), round_up=False)) for rank in range(4)]
    assert [len(part) for part in parts] == [2] * 4
    assert len({key.index for part in parts for key in part}) == 8


def test_repeated_augmentation_gives_ranks_the_same_image_in_different_appearances(as_rank):
    parts = [list(as_rank(EpochSampler, rank, 3, range(12), num_repeats=3)) for rank in range(3)]
    assert [len(part) for part in parts] == [4] * 3
    for turn in zip(*parts, strict=True):
        assert len({key.index for key in turn}) == 1
        assert {key.repeat for key in turn} == {0, 1, 2}


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_repeated_augmentation_uses_the_same_images_as_timm(as_rank, world_size):
    for rank in range(world_size):
        ours = as_rank(EpochSampler, rank, world_size, range(31), shuffle=False, num_repeats=3)
        theirs = RepeatAugSampler(range(31), world_size, rank, shuffle=False, num_repeats=3, selected_round=0)
        assert [key.index for key in ours] == list(theirs)


@settings(deadline=None)  # a busy machine takes longer now and then
@given(st.integers(0, 40), st.integers(1, 7))
def test_evaluation_sees_each_sample_once(size, world_size):
    parts = []
    for rank in range(world_size):
        sampler = EvaluationSampler(range(size))
        sampler.rank, sampler.world_size = rank, world_size
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    assert sorted(key for part in parts for key in part) == [SampleKey(0, index) for index in range(size)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": []}, "empty"),
        ({"dataset": [1], "num_repeats": 0}, "num_repeats"),
        ({"dataset": [1], "num_repeats": 1.5}, "num_repeats"),
    ],
)
def test_impossible_samplers_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        EpochSampler(**arguments)


def test_too_few_samples_for_the_ranks_raise(as_rank):
    with pytest.raises(ValueError, match="2 samples are too few for 4 processes"):
        as_rank(EpochSampler, 0, 4, range(2), round_up=False)


@pytest.mark.parametrize("place", [(-1, 0), (0, 11), (0, -1)])
def test_epochs_and_starts_out_of_range_raise(place):
    with pytest.raises(ValueError, match="Cannot start epoch"):
        EpochSampler(range(10)).set_epoch(*place)
