"""Images with a label for every pixel, for semantic segmentation."""

from .dataset import Pair, SegmentationDataset, SegmentationTransform

__all__ = ["Pair", "SegmentationDataset", "SegmentationTransform"]
