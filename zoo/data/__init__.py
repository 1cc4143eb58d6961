"""Image data: which images, in which order, read and augmented how. The README beside this file tells the layouts."""

from .broken_images import BrokenImagesHook
from .classification import ImageClassificationDataset, check_num_classes, check_same_classes
from .coco import CocoDetection
from .collate import classification_collate, dense_collate
from .decoding import BrokenImageError
from .detection_transforms import DetectionTest, DetectionTrain
from .samplers import EpochSampler, EvaluationSampler, SampleKey
from .sources import load_class_map
from .transforms import Evaluation, ImageNetTrain, SmallImageTrain

__all__ = [
    "BrokenImageError",
    "BrokenImagesHook",
    "CocoDetection",
    "DetectionTest",
    "DetectionTrain",
    "EpochSampler",
    "Evaluation",
    "EvaluationSampler",
    "ImageClassificationDataset",
    "ImageNetTrain",
    "SampleKey",
    "SmallImageTrain",
    "check_num_classes",
    "check_same_classes",
    "classification_collate",
    "dense_collate",
    "load_class_map",
]
