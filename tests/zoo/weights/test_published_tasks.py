"""Detectors and segmentors of every family, as OpenMMLab's code saved them, are loaded completely and strictly.

The names of backbones are the official ones of the families' parity packs, with the additional norms of the versions
for dense prediction. The names of necks and heads are those of the heads' packs.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

import pytest
import torch

from attnzoo import load_weights
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.weights import WeightsMismatchError
from support import head_packs, parity

CLASSES = 5
NECK = {"type": "FPN", "out_channels": 16}
CASCADE = {
    "type": "TwoStageDetector",
    "neck": NECK,
    "rpn_head": {"type": "RPNHead", "feat_channels": 16},
    "roi_head": {
        "type": "CascadeRoIHead",
        "num_classes": CLASSES,
        "bbox_head": {
            "num_shared_convs": 4,
            "num_shared_fcs": 1,
            "norm": "BN",
            "class_agnostic": False,
            "bbox_loss": "giou",
            "conv_channels": 16,
            "fc_channels": 16,
        },
        "mask_head": {"conv_channels": 16},
    },
}
# The maps of strides 8, 16 and 32 alone, as in the recipes.
RETINANET = {
    "type": "SingleStageDetector",
    "neck": {**NECK, "add_extra_convs": "on_input", "num_outs": 5},
    "bbox_head": {"type": "RetinaHead", "num_classes": CLASSES, "feat_channels": 16},
}
SEMANTIC_FPN = {
    "type": "Segmentor",
    "neck": {**NECK, "num_outs": 4},
    "decode_head": {"type": "FPNHead", "num_classes": CLASSES, "channels": 16},
}
UPERNET = {
    "type": "Segmentor",
    "decode_head": {"type": "UPerHead", "num_classes": CLASSES, "channels": 16},
    "auxiliary_head": {
        "type": "FCNHead",
        "num_classes": CLASSES,
        "channels": 16,
        "in_index": 2,
        "num_convs": 1,
        "concat_input": False,
    },
}


class Body(NamedTuple):
    """A family's backbone as its authors saved it in detectors and segmentors.

    Attributes:
        pack: Folder and name of the parity pack of the classifier.
        left_out: Prefixes of names that the dense version does not have.
        norm: Name of the norm of each map, which it has instead.
        channels: Numbers of channels of the maps.
        arguments: Arguments of the zoo's backbone.
    """

    pack: tuple[str, str]
    left_out: tuple[str, ...]
    norm: str | None
    channels: tuple[int, ...]
    arguments: dict[str, Any]


BODIES = {
    "agent_swin_tiny": Body(
        ("agent_attention", "agent_swin_tiny"), ("norm.", "head."), "norm{}", (96, 192, 384, 768), {"dense": "coco"}
    ),
    "biformer_tiny": Body(
        ("biformer", "biformer_tiny"), ("norm.", "head."), "extra_norms.{}", (64, 128, 256, 512), {"dense": "ade20k"}
    ),
    "davit_tiny": Body(
        ("davit", "davit_tiny"), ("norms.", "head."), "norm{}", (96, 192, 384, 768), {"dense": "ade20k"}
    ),
    "dinat_mini": Body(("nat", "dinat_mini"), ("norm.", "head."), "norm{}", (64, 128, 256, 512), {"dense": "coco"}),
    "van_b0": Body(("van", "van_b0"), ("head.",), None, (32, 64, 160, 256), {}),
}
HEADS = {
    "cascade_mask_rcnn_swin": CASCADE,
    "retinanet": RETINANET,
    "sem_fpn": SEMANTIC_FPN,
    "upernet": UPERNET,
}
TASKS = [
    ("cascade_mask_rcnn_swin", "agent_swin_tiny"),
    ("retinanet", "biformer_tiny"),
    ("sem_fpn", "van_b0"),
    ("upernet", "davit_tiny"),
    ("cascade_mask_rcnn_swin", "dinat_mini"),
    ("retinanet", "davit_tiny"),
    ("sem_fpn", "biformer_tiny"),
    ("upernet", "agent_swin_tiny"),
    ("upernet", "biformer_tiny"),
    ("upernet", "dinat_mini"),
    ("upernet", "van_b0"),
]
"""Pack of the heads, and backbone."""


def build(heads: str, backbone: str) -> Any:
    """Builds a task with narrow heads around a published backbone."""
    arguments = {"out_indices": (1, 2, 3)} if heads == "retinanet" else {}
    part = {"type": backbone, "features_only": True, **BODIES[backbone].arguments, **arguments}
    return MODELS.build({**HEADS[heads], "backbone": part}).eval()


@functools.cache
def saved_body(backbone: str) -> dict[str, torch.Tensor]:
    """Builds the backbone's part of a checkpoint, without a prefix."""
    body = BODIES[backbone]
    filled = parity.filled_state_dict(parity.load_pack(*body.pack)[0])
    found = {name: value for name, value in filled.items() if not name.startswith(body.left_out)}
    if body.norm is not None:
        for index, channels in enumerate(body.channels):
            for part in ("weight", "bias"):
                name = f"{body.norm.format(index)}.{part}"
                found[name] = parity.fill(name, [channels])
    return found


def saved_heads(task: Any) -> dict[str, torch.Tensor]:
    """Builds the other parts of a checkpoint, with a task's shapes."""
    return {
        name: parity.fill(name, list(value.shape))
        for name, value in task.state_dict().items()
        if not name.startswith("backbone.")
    }


@pytest.mark.parametrize(("heads", "backbone"), TASKS)
def test_a_published_checkpoint_is_loaded_completely(heads: str, backbone: str):
    task, body = build(heads, backbone), saved_body(backbone)
    others = saved_heads(task)
    # Outside of the backbone, the zoo has the official names.
    official = {name for name in head_packs.load(heads)[0]["state_dict"] if not name.startswith("backbone.")}
    assert others.keys() == official
    given = {**{f"backbone.{name}": value for name, value in body.items()}, **others}
    report = load_weights(task, {"meta": {"mmcv_version": "1.7.0"}, "state_dict": given, "optimizer": {}})
    assert report.form == "OpenMMLab checkpoint"
    assert report.loaded == len(task.state_dict())
    assert not report.kept
    assert not report.dropped
    state = task.state_dict()
    assert all(torch.equal(state[name], value) for name, value in others.items())
    norms = [name for name in state if re.match(r"backbone\.norm\d\.", name)]
    official_norm = BODIES[backbone].norm
    assert len(norms) == (0 if official_norm is None else 6 if heads == "retinanet" else 8)
    for name in norms:
        index, part = re.findall(r"norm(\d)\.(\w+)", name)[0]
        assert torch.equal(state[name], body[f"{str(official_norm).format(index)}.{part}"])
    # The backbone equals one that its own checkpoint is loaded into.
    alone = build(heads, backbone).backbone
    load_weights(alone, body)
    image = parity.image((1, 3, 64, 64), 0)
    with torch.no_grad():
        maps = task.backbone(image)
        assert len(maps) == (3 if heads == "retinanet" else 4)
        for ours, theirs in zip(maps, alone(image), strict=True):
            assert torch.equal(ours, theirs)
        assert task(image=image, mode="tensor") is not None


@pytest.mark.parametrize(("heads", "backbone"), [("sem_fpn", "van_b0")])
@pytest.mark.parametrize("missing", ["backbone.norm4.weight", "decode_head.scale_heads.0.0.bn.running_mean"])
def test_an_incomplete_checkpoint_is_rejected(heads: str, backbone: str, missing: str):
    task = build(heads, backbone)
    given = {**{f"backbone.{name}": value for name, value in saved_body(backbone).items()}, **saved_heads(task)}
    del given[missing]
    wanted = "norm.weight" if missing.startswith("backbone.") else missing
    with pytest.raises(WeightsMismatchError, match=re.escape(wanted)):
        load_weights(task, {"state_dict": given})
