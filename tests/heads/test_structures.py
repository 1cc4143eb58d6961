"""Ground truth and detections as groups of tensors."""

from __future__ import annotations

import torch

from attnzoo.heads.structures import Detections, Instances


def test_moving_keeps_what_is_not_a_tensor():
    target = Instances(torch.zeros(2, 4), torch.tensor([0, 1]), masks=torch.ones(2, 3, 5, dtype=torch.uint8))
    moved = target.to("meta")
    assert moved.boxes.device.type == moved.labels.device.type == moved.masks.device.type == "meta"
    assert moved.ignored_boxes is None
    assert target.boxes.device.type == "cpu"


def test_the_length_is_the_number_of_objects():
    assert len(Instances(torch.zeros(3, 4), torch.zeros(3))) == 3
    assert len(Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))) == 0
