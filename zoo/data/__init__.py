"""Image data: which images, in which order, read and augmented how. The README beside this file tells the layouts."""

from .batch_samplers import AspectRatioBatchSampler
from .broken_images import BrokenImagesHook
from .checks import check_coco
from .classification import ImageClassificationDataset, check_num_classes, check_same_classes
from .coco import CocoDetection
from .collate import classification_collate, dense_collate
from .decoding import BrokenImageError
from .detection_albumentations import AlbumentationsDetection
from .detection_transforms import (
    DetectionSteps,
    DetectionTest,
    DetectionTrain,
    LargeScaleJitter,
    PhotometricDistortion,
)
from .detection_views import DetectionViews
from .panoptic import CocoPanopticSemantic
from .samplers import EpochSampler, EvaluationSampler, InfiniteSampler, SampleKey
from .segmentation import SegmentationDataset
from .segmentation_albumentations import AlbumentationsSegmentation
from .segmentation_sets import ADE20K, PascalVOC, SegmentationFolders
from .segmentation_transforms import SegmentationTest, SegmentationTrain, SegmentationViews
from .sources import load_class_map
from .transforms import Evaluation, ImageNetTrain, SmallImageTrain

__all__ = [
    "ADE20K",
    "AlbumentationsDetection",
    "AlbumentationsSegmentation",
    "AspectRatioBatchSampler",
    "BrokenImageError",
    "BrokenImagesHook",
    "CocoDetection",
    "CocoPanopticSemantic",
    "DetectionSteps",
    "DetectionTest",
    "DetectionTrain",
    "DetectionViews",
    "EpochSampler",
    "Evaluation",
    "EvaluationSampler",
    "ImageClassificationDataset",
    "ImageNetTrain",
    "InfiniteSampler",
    "LargeScaleJitter",
    "PascalVOC",
    "PhotometricDistortion",
    "SampleKey",
    "SegmentationDataset",
    "SegmentationFolders",
    "SegmentationTest",
    "SegmentationTrain",
    "SegmentationViews",
    "SmallImageTrain",
    "check_coco",
    "check_num_classes",
    "check_same_classes",
    "classification_collate",
    "dense_collate",
    "load_class_map",
]
