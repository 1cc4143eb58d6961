import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from attnzoo.heads.roi import masks
from attnzoo.heads.roi.masks import mask_targets, paste_masks
from support import head_packs
from support.roi_packs import rle


@pytest.mark.parametrize("name", ["paste", "paste_no_rescale"])
def test_pasted_masks_match_the_reference_implementation(name):
    pack, tensors = head_packs.load("codecs")
    case = head_packs.case_of(pack, name)
    inputs = case["inputs"]
    seed, shape = inputs["mask_logits"]["seed"], inputs["mask_logits"]["shape"]
    logits = torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))
    boxes, labels = (head_packs.given(case, tensors, one) for one in ("boxes", "labels"))
    size = tuple(case["outputs"]["masks"][1:])
    if inputs["rescale"]:
        boxes = boxes / torch.tensor(inputs["scale_factor"] * 2)
    own = logits.sigmoid()[torch.arange(len(labels)), labels]
    pasted = paste_masks(own, boxes, size, inputs["mask_thr_binary"])
    assert [rle(one) for one in pasted[: len(case["rle"])]] == case["rle"]
    head_packs.check(pasted.float(), case, tensors, "masks", tolerance=0.0)
    head_packs.check(pasted.sum((1, 2)).float(), case, tensors, "mask_areas", tolerance=0.0)


def whole_image(maps, boxes, size, threshold):
    """Pastes by sampling every pixel of the image, the definition."""
    height, width = size
    found = []
    for one, (x1, y1, x2, y2) in zip(maps, boxes, strict=True):
        x = (torch.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1
        y = (torch.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2)
        found.append(grid_sample(one[None, None], grid[None], align_corners=False)[0, 0] >= threshold)
    return torch.stack(found)


def some_boxes(count, size, generator):
    height, width = size
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 1.2 - 5
    return torch.cat([corner, corner + 0.3 + torch.rand(count, 2, generator=generator) * 30], 1)


def test_only_the_pixels_of_the_boxes_are_sampled_and_nothing_is_lost():
    generator = torch.Generator().manual_seed(0)
    size = (41, 53)
    boxes = some_boxes(60, size, generator)
    maps = torch.rand(60, 28, 28, generator=generator)
    expected = whole_image(maps, boxes, size, 0.4)
    assert expected.any()
    assert torch.equal(paste_masks(maps, boxes, size, 0.4), expected)


def test_all_boxes_at_once_give_the_same_masks(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    size = (20, 30)
    boxes, maps = some_boxes(7, size, generator), torch.rand(7, 28, 28, generator=generator)
    boxes[3, 2] = boxes[3, 0]
    expected = paste_masks(maps, boxes, size)
    assert not expected[3].any()
    chunks = []
    sample = masks._sample

    def counted(maps, boxes, area):
        chunks.append(len(maps))
        return sample(maps, boxes, area)

    monkeypatch.setattr(masks, "_sample", counted)
    monkeypatch.setattr(masks, "_PASTE_CHUNK", 3 * size[0] * size[1])
    assert torch.equal(masks._paste_dense(maps[:, None], boxes, size, 0.5), expected)
    assert chunks == [3, 3, 1]


@pytest.mark.parametrize("box", [[5.0, 2, 5, 9], [2, 5, 9, 5], [9, 2, 5, 9], [100, 100, 120, 130], [-30, -9, -3, -1]])
def test_boxes_without_a_pixel_of_the_image_have_empty_masks(box):
    assert not paste_masks(torch.ones(1, 28, 28), torch.tensor([box]), (10, 12)).any()


def test_a_pixel_right_at_the_threshold_belongs_to_the_mask():
    maps, box = torch.full((1, 4, 4), 0.5), torch.tensor([[0.0, 0, 4, 4]])
    maps[0, 0, 0] = 0.499
    for pasted in (paste_masks(maps, box, (4, 5)), masks._paste_dense(maps[:, None], box, (4, 5), 0.5)):
        assert pasted[0].int().tolist() == [[0, 1, 1, 1, 0], *[[1, 1, 1, 1, 0]] * 3]
    half = torch.tensor([[[1, 0, 0, 0], [1, 0, 0, 0]]])
    assert mask_targets(half, box, torch.tensor([0]), 1).item() == 0
    assert mask_targets(half, torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([0]), 1).item() == 1


def test_no_boxes_give_no_masks():
    assert paste_masks(torch.ones(0, 28, 28), torch.zeros(0, 4), (10, 12)).shape == (0, 10, 12)


@pytest.mark.parametrize("name", ["mask_target_28", "mask_target_14"])
@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_targets_are_the_official_ones(name, at_once, monkeypatch):
    pack, tensors = head_packs.load("codecs")
    case = head_packs.case_of(pack, name)
    shape = case["inputs"]["gt_mask_shape"]
    if at_once is not None:
        monkeypatch.setattr(masks, "_TARGET_CHUNK", at_once * shape[1] * shape[2])
    bits = np.unpackbits(head_packs.given(case, tensors, "gt_masks").numpy())
    truth = torch.from_numpy(bits[: int(np.prod(shape))].reshape(shape))
    boxes, indices = (head_packs.given(case, tensors, one) for one in ("priors", "gt_inds"))
    given = boxes.clone()
    targets = mask_targets(truth, boxes, indices, case["inputs"]["mask_size"])
    assert torch.equal(boxes, given)
    head_packs.check(targets, case, tensors, "targets", tolerance=0.0)
    assert targets.sum() == case["on"]


def test_boxes_are_cut_to_the_masks():
    truth = torch.rand(1, 12, 16, generator=torch.Generator().manual_seed(0)).round().to(torch.uint8)
    beyond = torch.tensor([[-9.0, 1, 9, 9], [1, -9, 9, 9], [1, 1, 40, 9], [1, 1, 9, 40]])
    cut = torch.tensor([[0.0, 1, 9, 9], [1, 0, 9, 9], [1, 1, 16, 9], [1, 1, 9, 12]])
    zeros = torch.zeros(4, dtype=torch.int64)
    assert torch.equal(mask_targets(truth, beyond, zeros, 7), mask_targets(truth, cut, zeros, 7))


def test_no_boxes_have_no_targets():
    assert mask_targets(torch.ones(2, 8, 8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 28).shape == (
        0,
        28,
        28,
    )
