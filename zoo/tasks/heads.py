"""Registers necks and heads, so that configs can use them by class name."""

from __future__ import annotations

from ...heads.fpn import FPN
from ...heads.probing import EfficientProbe, LinearProbe
from ...heads.retinanet import RetinaHead
from ...heads.roi import CascadeRoIHead, StandardRoIHead
from ...heads.rpn import RPNHead
from ...heads.segmentation import FCNHead, FPNHead, MLPHead, UPerHead
from ..registry import MODELS

HEADS = (
    CascadeRoIHead,
    EfficientProbe,
    FCNHead,
    FPN,
    FPNHead,
    LinearProbe,
    MLPHead,
    RetinaHead,
    RPNHead,
    StandardRoIHead,
    UPerHead,
)
"""All necks and heads for configs."""

for _head in HEADS:
    MODELS.register_module(module=_head)
