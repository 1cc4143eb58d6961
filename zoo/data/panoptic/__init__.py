"""COCO's panoptic annotations."""

from .coco import THINGS, CocoPanopticSemantic, read_segment_ids

__all__ = ["THINGS", "CocoPanopticSemantic", "read_segment_ids"]
