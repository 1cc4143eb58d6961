"""Images with a class for each pixel, for semantic segmentation."""

from .dataset import SegmentationDataset

__all__ = ["SegmentationDataset"]
