"""Panoptic annotations in COCO's format."""

from .coco import THINGS, CocoPanopticSemantic, read_segment_ids

__all__ = ["THINGS", "CocoPanopticSemantic", "read_segment_ids"]
