import pytest
import torch
from torchvision.ops import roi_align

from attnzoo.heads.roi.extraction import boxes_to_rois, extract_rois, roi_levels
from support import head_packs

STRIDES = (4, 8, 16, 32)


@pytest.mark.parametrize("name", ["roi_extract_7", "roi_extract_14", "roi_extract_7_ratio2"])
def test_regions_are_the_official_ones(name):
    pack, tensors = head_packs.load("codecs")
    case = head_packs.case_of(pack, name)
    settings = case["inputs"]["roi_extractor"]
    layer = settings["roi_layer"]
    rois = head_packs.given(case, tensors, "rois")
    head_packs.check(roi_levels(rois, 4).float(), case, tensors, "levels", tolerance=0.0)
    found = extract_rois(
        head_packs.features(case), rois, settings["featmap_strides"], layer["output_size"], layer["sampling_ratio"]
    )
    head_packs.check(found, case, tensors, "roi_feats")


def test_a_region_moves_one_map_on_where_its_side_doubles():
    sides = torch.tensor([1.0, 111.9, 112.0, 223.9, 224.0, 448.0, 5000.0])
    rois = torch.stack([0 * sides, 0 * sides, 0 * sides, sides, sides], 1)
    assert roi_levels(rois, 4).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert roi_levels(rois, 2).tolist() == [0, 0, 1, 1, 1, 1, 1]
    # Rounding just below a border does not count: a millionth is added.
    near = torch.tensor([111.9999, 111.99999])
    assert roi_levels(torch.stack([0 * near, 0 * near, 0 * near, near, near], 1), 4).tolist() == [0, 1]
    assert roi_levels(rois, 4, finest_scale=112).tolist() == [0, 0, 0, 0, 1, 2, 3]
    rois[0, 3] = float("nan")
    assert roi_levels(rois, 4).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_boxes_carry_the_number_of_their_image():
    boxes = [torch.rand(2, 4), torch.rand(0, 4), torch.rand(1, 4)]
    rois = boxes_to_rois(boxes)
    assert rois[:, 0].tolist() == [0, 0, 2]
    torch.testing.assert_close(rois[:, 1:], torch.cat(boxes))
    assert boxes_to_rois([torch.rand(0, 4)]).shape == (0, 5)


@pytest.mark.parametrize("count", [0, 2])
def test_every_map_that_may_be_read_gets_a_gradient(count):
    features = [torch.rand(1, 3, 32 // stride, 32 // stride, requires_grad=True) for stride in (*STRIDES, 64)]
    rois = torch.tensor([[0.0, 1.0, 1.0, 20.0, 20.0]]).repeat(count, 1)
    found = extract_rois(features, rois, STRIDES, 7)
    assert found.shape == (count, 3, 7, 7)
    found.sum().backward()
    gradients = [None if feature.grad is None else bool(feature.grad.any()) for feature in features]
    assert gradients == [count > 0, False, False, False, None]  # None: not in the graph, as the map beyond the strides


def test_half_precision_keeps_the_place_of_a_region():
    features = [torch.rand(1, 3, 400, 400)]
    rois = torch.tensor([[0.0, 1501.3, 1402.7, 1590.2, 1444.4]])
    expected = roi_align(features[0].bfloat16().float(), rois, 7, 0.25, 0, aligned=True)
    found = extract_rois([features[0].bfloat16()], rois, (4,), 7)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=4e-3, rtol=0)
