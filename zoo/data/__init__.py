"""Image data: which images, in which order, read and augmented how. The README beside this file tells the layouts."""

from .classification.dataset import ImageClassificationDataset, check_num_classes, check_same_classes
from .classification.sources import load_class_map
from .classification.transforms import Evaluation, ImageNetTrain, SmallImageTrain
from .common.batch_samplers import AspectRatioBatchSampler
from .common.broken_images import BrokenImagesHook
from .common.collate import classification_collate, dense_collate
from .common.decoding import BrokenImageError
from .common.samplers import EpochSampler, EvaluationSampler, InfiniteSampler, SampleKey
from .detection.albumentations import AlbumentationsDetection
from .detection.checks import check_coco
from .detection.coco import CocoDetection
from .detection.transforms import (
    DetectionSteps,
    DetectionTest,
    DetectionTrain,
    LargeScaleJitter,
    PhotometricDistortion,
)
from .detection.views import DetectionViews
from .panoptic.coco import CocoPanopticSemantic
from .segmentation.albumentations import AlbumentationsSegmentation
from .segmentation.dataset import SegmentationDataset
from .segmentation.folders import ADE20K, PascalVOC, SegmentationFolders
from .segmentation.transforms import SegmentationTest, SegmentationTrain, SegmentationViews

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
