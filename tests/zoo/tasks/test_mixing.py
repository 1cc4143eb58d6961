import numpy as np
import pytest
import timm.data
import torch

from attnzoo.zoo.tasks import Mixing

MIXUP = Mixing(mixup_alpha=0.8, cutmix_alpha=0.0)
CUTMIX = Mixing(mixup_alpha=0.0, cutmix_alpha=1.0)


def batch(size=6, height=12, width=16):
    generator = torch.Generator().manual_seed(size)
    return torch.rand(size, 3, height, width, generator=generator), torch.arange(size) % 4


def share_of(target, label, smoothing=0.1, classes=4):
    """The share of the first image's own label, read from its target (its label must differ from its partner's)."""
    return (target[0, label[0]].item() - smoothing / classes) / (1 - smoothing)


@pytest.mark.parametrize("size", [2, 5, 6])
def test_mixup_mixes_with_the_reversed_batch(size):
    image, label = batch(size)
    mixed, target, _ = MIXUP(image, label, 4, seed=1)
    share = MIXUP.draw(1, 12, 16).share
    assert 0 < share < 1
    torch.testing.assert_close(mixed, image * share + image.flip(0) * (1 - share))
    if size % 2:
        torch.testing.assert_close(mixed[size // 2], image[size // 2])
    smooth = torch.full((size, 4), 0.025).scatter_(1, label[:, None], 0.925)
    torch.testing.assert_close(target, smooth * share + smooth.flip(0) * (1 - share))
    torch.testing.assert_close(target.sum(1), torch.ones(size))


@pytest.mark.parametrize("mixing", [CUTMIX, Mixing(cutmix_minmax=(0.2, 0.8), mixup_alpha=0.0)])
def test_cutmix_takes_a_box_and_as_much_of_the_label(mixing):
    image, label = batch()
    for seed in range(30):
        mixed, target, _ = mixing(image, label, 4, seed)
        taken = (mixed != image).any(1)
        own, other = mixed == image, mixed == image.flip(0)
        assert (own | other).all()
        assert (taken == taken[0]).all()
        area = taken[0].float().mean().item()
        assert share_of(target, label) == pytest.approx(1 - area, abs=1e-5)
        if area:
            rows, columns = taken[0].any(1), taken[0].any(0)
            assert taken[0].sum() == rows.sum() * columns.sum()


def test_the_batch_is_not_written_to():
    image, label = batch()
    before = image.clone()
    for mixing in (MIXUP, CUTMIX):
        mixing(image, label, 4, 3)
    assert torch.equal(image, before)


def test_without_mixing_labels_are_still_smoothed():
    image, label = batch()
    mixed, target, main = Mixing(prob=0.0)(image, label, 4, 0)
    assert mixed is image
    assert torch.equal(main, label)
    assert target[0].tolist() == pytest.approx([0.925, 0.025, 0.025, 0.025])


def test_the_main_label_is_the_one_with_the_larger_share():
    image, label = batch()
    seen = set()
    for seed in range(20):
        _, target, main = MIXUP(image, label, 4, seed)
        own = MIXUP.draw(seed, 12, 16).share >= 0.5
        seen.add(own)
        assert torch.equal(main, label if own else label.flip(0))
        assert torch.equal(target.argmax(1), main)
    assert seen == {True, False}


def test_draws_depend_on_the_seed_alone():
    torch.manual_seed(0)
    first = [Mixing().draw(seed, 32, 32) for seed in range(50)]
    np.random.seed(1)  # noqa: NPY002
    assert [Mixing().draw(seed, 32, 32) for seed in range(50)] == first
    assert len(set(first)) == 50


@pytest.mark.parametrize(
    "settings",
    [
        {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
        {"mixup_alpha": 0.2, "cutmix_alpha": 0.0, "prob": 0.6},
        {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
        {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "switch_prob": 0.1},
        {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "cutmix_minmax": (0.2, 0.8)},
    ],
)
def test_shares_are_distributed_as_timms(settings):
    theirs = timm.data.Mixup(**settings, num_classes=4, label_smoothing=0.0)  # pyright: ignore[reportPrivateImportUsage]
    np.random.seed(0)  # noqa: NPY002
    image, label = batch(2, 40, 40)
    timms, ours = [], []
    for seed in range(1500):
        timms.append(share_of(theirs(image.clone(), label)[1], label, 0.0))
        ours.append(Mixing(**settings, label_smoothing=0.0).draw(seed, 40, 40).share)
    points = np.linspace(0.02, 0.98, 25)
    gaps = [abs(np.mean(np.array(timms) <= point) - np.mean(np.array(ours) <= point)) for point in points]
    # Two samples of 1500 from one distribution: 0.06 is passed in less than one of 100 trials (Kolmogorov and Smirnov).
    assert max(gaps) < 0.06


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup_alpha": -1.0}, "mixup_alpha"),
        ({"prob": 1.5}, "prob"),
        ({"switch_prob": -0.5}, "switch_prob"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"cutmix_minmax": (0.5, 0.2)}, "cutmix_minmax"),
        ({"mixup_alpha": 0.0, "cutmix_alpha": 0.0}, "Leave `mixing` out"),
    ],
)
def test_impossible_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        Mixing(**settings)
