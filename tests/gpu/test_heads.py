"""Tests that detection heads compute the same on a GPU as on a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.heads.retinanet import RetinaHead
from attnzoo.heads.rpn import RPNHead
from support import head_packs

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def check_found(found: Any, expected: Any) -> None:
    """Asserts that detections are equal, except for a few whose overlap or score is close to a threshold."""
    assert found.boxes.is_cuda
    near = (expected.boxes[:, None] - found.boxes.cpu()[None]).abs().amax(dim=-1) < 0.1
    same = near & (expected.labels[:, None] == found.labels.cpu()[None])
    assert same.any(dim=1).float().mean() > 0.97
    assert abs(len(found) - len(expected)) <= 0.03 * len(expected)
    torch.testing.assert_close(found.scores[:20].cpu(), expected.scores[:20], rtol=1e-3, atol=1e-4)


def test_rpn():
    pack, tensors = head_packs.load("rpn")
    case = head_packs.case_of(pack, "loss")
    infos, targets = head_packs.infos(case), head_packs.targets(case, tensors)
    features: list[torch.Tensor] = head_packs.features(case)
    head: Any = head_packs.load_weights(RPNHead(**head_packs.rpn_arguments(pack, True)), pack, "rpn_head.")
    expected = head.propose(head(features), infos, training=False)
    head.cuda()
    maps = head([one.cuda() for one in features])
    losses = head.losses(maps, infos, [one.to("cuda") for one in targets])
    head_packs.check_losses({name: one.cpu() for name, one in losses.items()}, case, tolerance=1e-4)
    torch.stack(list(losses.values())).sum().backward()
    assert head.rpn_conv.weight.grad.isfinite().all()
    for one, other in zip(head.propose(maps, infos, training=False), expected, strict=True):
        check_found(one, other)


@pytest.mark.parametrize("kind", ["pairs", "anchors"])
def test_retinanet(kind: str):
    pack, tensors = head_packs.load("retinanet")
    case = head_packs.case_of(pack, "loss")
    infos, targets = head_packs.infos(case), head_packs.targets(case, tensors)
    features: list[torch.Tensor] = head_packs.features(case)
    arguments = head_packs.retina_arguments(pack)
    arguments["test"]["nms_pre_of"] = kind
    head: Any = head_packs.load_weights(RetinaHead(**arguments), pack, "bbox_head.")
    expected = head.predict(features, infos)
    head.cuda()
    features = [one.cuda() for one in features]
    losses = head.losses(features, infos, [one.to("cuda") for one in targets])
    head_packs.check_losses({name: one.cpu() for name, one in losses.items()}, case, tolerance=1e-4)
    torch.stack(list(losses.values())).sum().backward()
    assert head.retina_cls.weight.grad.isfinite().all()
    for one, other in zip(head.predict(features, infos), expected, strict=True):
        check_found(one, other)
