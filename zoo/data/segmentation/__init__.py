"""Images with a class for each pixel, for semantic segmentation."""

from .dataset import Pair, SegmentationDataset, SegmentationTransform

__all__ = ["Pair", "SegmentationDataset", "SegmentationTransform"]
