"""Box coding, overlap, clipping and scaling."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.heads.boxes import DeltaXYWHBBoxCoder, box_iou, clip_boxes, scale_boxes, wider_and_higher_than
from support import head_packs
from support.codec_packs import TENSORS, cases, check, opened, random_boxes


class TestCoder:
    @pytest.mark.parametrize("name", cases("encode"))
    def test_encode(self, name: str):
        case, inputs, tensors = opened(name)
        coder = DeltaXYWHBBoxCoder(**head_packs.without_type(inputs["bbox_coder"]))
        check(coder.encode(tensors["boxes"], tensors["gt"]), case, "deltas")

    @pytest.mark.parametrize("name", cases("decode"))
    def test_decode(self, name: str):
        case, inputs, tensors = opened(name)
        coder = DeltaXYWHBBoxCoder(**head_packs.without_type(inputs["bbox_coder"]))
        clip = {"wh_ratio_clip": inputs["wh_ratio_clip"]} if "wh_ratio_clip" in inputs else {}
        found = coder.decode(tensors["boxes"], tensors["deltas"], inputs["max_shape"], **clip)
        check(found, case, "boxes")
        assert (found - TENSORS[f"{name}/boxes"].view_as(found)).abs().max() <= 1e-3

    def test_decoding_inverts_encoding(self):
        coder = DeltaXYWHBBoxCoder((0.1, 0.0, -0.1, 0.2), (0.1, 0.1, 0.2, 0.3))
        priors, boxes = random_boxes(50, 1), random_boxes(50, 2)
        torch.testing.assert_close(coder.decode(priors, coder.encode(priors, boxes)), boxes, rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize("classes", [1, 3])
    def test_no_boxes(self, classes: int):
        none = torch.zeros(0, 4)
        assert DeltaXYWHBBoxCoder().decode(none, none.repeat(1, classes), (10, 10)).shape == (0, 4 * classes)
        assert DeltaXYWHBBoxCoder().encode(none, none).shape == (0, 4)

    def test_sides_are_bounded_by_value(self):
        """exp(4.135...) = 62.5 = 1000 / 16, on both sides."""
        prior = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        large = DeltaXYWHBBoxCoder().decode(prior, torch.tensor([[0.0, 0.0, 9.0, -9.0]]))[0]
        assert (large[2] - large[0]).item() == pytest.approx(625, rel=1e-5)
        assert (large[3] - large[1]).item() == pytest.approx(0.16, rel=1e-4)

    def test_settings(self):
        for settings in ({"target_means": (0, 0)}, {"target_stds": (1, 1, 0, 1)}):
            with pytest.raises(ValueError, match="four"):
                DeltaXYWHBBoxCoder(**settings)


class TestOverlap:
    @pytest.mark.parametrize("mode", ["iou", "iof", "giou"])
    def test_matches_the_reference(self, mode: Any):
        case, _, tensors = opened("overlaps")
        found = box_iou(tensors["a"], tensors["b"], mode)
        check(found, case, mode)
        torch.testing.assert_close(found, TENSORS[f"overlaps/{mode}"].view_as(found), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("mode", ["iou", "iof", "giou"])
    def test_aligned_is_the_diagonal(self, mode: Any):
        a, b = random_boxes(9, 1), random_boxes(9, 2)
        torch.testing.assert_close(box_iou(a, b, mode, aligned=True), box_iou(a, b, mode).diagonal())

    def test_no_boxes_and_boxes_without_area(self):
        assert box_iou(torch.zeros(0, 4), random_boxes(3)).shape == (0, 3)
        point = torch.full((1, 4), 5.0)
        assert box_iou(point, point).item() == box_iou(point, point, "giou").item() == 0

    def test_invalid_arguments_raise(self):
        with pytest.raises(ValueError, match="Did you mean 'iou' or 'giou'"):
            box_iou(random_boxes(1), random_boxes(1), "diou")  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="equal in number, got 1 and 2"):
            box_iou(random_boxes(1), random_boxes(2), aligned=True)

    def test_clip_scale_and_size(self):
        boxes = torch.tensor([[-3.0, 2.0, 50.0, 60.0], [4.0, 4.0, 4.0, 9.0]])
        assert clip_boxes(boxes, (40, 30)).tolist() == [[0, 2, 30, 40], [4, 4, 4, 9]]
        assert scale_boxes(boxes, (2.0, 0.5)).tolist() == [[-6, 1, 100, 30], [8, 2, 8, 4.5]]
        assert scale_boxes(boxes.repeat(1, 2), (2.0, 0.5))[0].tolist() == [-6, 1, 100, 30] * 2
        assert wider_and_higher_than(boxes, 0).tolist() == [True, False]
        assert wider_and_higher_than(boxes, 53).tolist() == [False, False]  # strictly
