"""From logits to label maps: windows, padding, flips, portions of classes, several views."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attnzoo.heads.segmentation import label_maps
from attnzoo.heads.segmentation.label_maps import View, best_classes, sliding_windows


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole(classes: int = 7, seed: int = 0, **options) -> View:
    """A view of a padded image of 20 x 26 pixels, 18 x 25 without padding."""
    settings = {"padded_size": (20, 26), "image_size": (18, 25), "original_size": (31, 40), **options}
    windows = [(noise(classes, 5, 7, seed=seed), (0, 0, *settings["padded_size"]))]
    return View(windows=windows, **settings)


def enlarged(x: torch.Tensor, size: tuple[int, int], align_corners: bool = False) -> torch.Tensor:
    return F.interpolate(x[None], size, mode="bilinear", align_corners=align_corners)[0]


def best(logits: torch.Tensor) -> torch.Tensor:
    return logits.max(0).indices


@pytest.mark.parametrize(
    ("size", "crop", "stride", "expected"),
    [
        ((10, 10), (4, 4), (3, 3), [0, 3, 6]),
        ((11, 11), (4, 4), (3, 3), [0, 3, 6, 7]),
        ((4, 4), (4, 4), (3, 3), [0]),
        ((5, 5), (4, 4), (4, 4), [0, 1]),
    ],
)
def test_windows_begin_a_stride_apart_and_end_inside(size, crop, stride, expected):
    windows = sliding_windows(size, crop, stride)
    assert windows == [(top, left, top + crop[0], left + crop[1]) for top in expected for left in expected]


def test_windows_are_as_large_as_a_smaller_image():
    assert sliding_windows((6, 20), (8, 12), (5, 8)) == [(0, 0, 6, 12), (0, 8, 6, 20)]


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_resized_twice_with_the_padding_cut_off_between(align_corners):
    view = whole(align_corners=align_corners)
    padded = enlarged(view.windows[0][0], (20, 26), align_corners)
    torch.testing.assert_close(view.logits(), enlarged(padded[:, :18, :25], (31, 40), align_corners), rtol=0, atol=0)
    torch.testing.assert_close(view.logits(2, 5), view.logits()[2:5], rtol=0, atol=0)
    assert torch.equal(best_classes([view]), best(view.logits()))


def test_overlapping_windows_are_averaged():
    boxes = sliding_windows((20, 26), (12, 14), (7, 9))
    windows = [(noise(7, 3, 4, seed=number), box) for number, box in enumerate(boxes)]
    view = View(windows, (20, 26), (18, 25), (31, 40))
    total, times = torch.zeros(7, 20, 26), torch.zeros(20, 26)
    for small, (top, left, bottom, right) in windows:
        total += F.pad(enlarged(small, (12, 14)), (left, 26 - right, top, 20 - bottom))
        times[top:bottom, left:right] += 1
    assert times.min() == 1
    assert times.max() > 2
    expected = enlarged((total / times)[:, :18, :25], (31, 40))
    torch.testing.assert_close(view.logits(), expected)


def test_a_mirrored_view_is_mirrored_back_without_its_padding():
    plain, flipped = whole(), whole(flip=True)
    padded = enlarged(plain.windows[0][0], (20, 26))[:, :18, :25]
    torch.testing.assert_close(flipped.logits(), enlarged(padded.flip(-1), (31, 40)), rtol=0, atol=0)


def test_several_views_have_the_average_of_their_probabilities():
    views = [
        whole(seed=1),
        whole(seed=2, flip=True),
        View([(noise(7, 9, 11, seed=3), (0, 0, 36, 44))], (36, 44), (36, 44), (31, 40)),
    ]
    mean = torch.stack([view.logits().softmax(0) for view in views]).mean(0)
    assert torch.equal(best_classes(views), best(mean))
    of_logits = best(torch.stack([view.logits() for view in views]).mean(0))
    assert not torch.equal(best_classes(views), of_logits)


@pytest.mark.parametrize("count", [1, 3])
def test_chunks_of_classes_give_the_same_result(monkeypatch, count):
    views = [whole(classes=10, seed=seed, flip=seed == 1) for seed in range(count)]
    expected = best_classes(views)
    sizes = []
    resize = label_maps.resize

    def watched(x, size, align_corners):
        sizes.append(x.shape[1])
        return resize(x, size, align_corners)

    monkeypatch.setattr(label_maps, "resize", watched)
    monkeypatch.setattr(label_maps, "CHUNK", 3 * 31 * 40 + 5)
    assert torch.equal(best_classes(views), expected)
    assert set(sizes) == {3, 1}
    monkeypatch.setattr(label_maps, "CHUNK", 5)
    sizes.clear()
    assert torch.equal(best_classes(views), expected)
    assert set(sizes) == {1}


def test_the_first_of_equal_classes_wins(monkeypatch):
    view = View([(torch.zeros(6, 2, 2), (0, 0, 4, 4))], (4, 4), (4, 4), (4, 4))
    assert not best_classes([view]).any()
    monkeypatch.setattr(label_maps, "CHUNK", 2 * 16)
    assert not best_classes([view]).any()


def test_half_precision_logits_are_enlarged_in_full():
    view = whole()
    half = View([(view.windows[0][0].half(), view.windows[0][1])], view.padded_size, view.image_size, (31, 40))
    assert half.logits().dtype == torch.float32
    rounded = View([(view.windows[0][0].half().float(), view.windows[0][1])], view.padded_size, (18, 25), (31, 40))
    assert torch.equal(half.logits(), rounded.logits())
