"""Images with one label each, for image classification."""

from ..common.checks import check_num_classes, check_same_classes
from .dataset import ClassificationDataset, ImageClassificationDataset

__all__ = ["ClassificationDataset", "ImageClassificationDataset", "check_num_classes", "check_same_classes"]
