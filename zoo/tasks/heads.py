"""Registers necks and heads, so that a config names them by their class."""

from __future__ import annotations

from ...heads.fpn import FPN
from ..registry import MODELS

HEADS = (FPN,)
"""Every neck and head that a config may name."""

for _head in HEADS:
    MODELS.register_module(module=_head)
