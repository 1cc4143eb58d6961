"""Images with one label each, for image classification."""

from .dataset import ImageClassificationDataset, check_num_classes, check_same_classes

__all__ = ["ImageClassificationDataset", "check_num_classes", "check_same_classes"]
