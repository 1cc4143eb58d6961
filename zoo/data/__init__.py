"""Data sets, transforms and samplers. The README in this folder describes the supported layouts."""

from .classification.dataset import ClassificationDataset, ImageClassificationDataset
from .classification.transforms import Evaluation, ImageNetTrain, SmallImageTrain
from .common.batch_samplers import AspectRatioBatchSampler
from .common.broken_images import BrokenImagesHook
from .common.checks import check_num_classes, check_same_classes
from .common.class_maps import load_class_map
from .common.collate import classification_collate, dense_collate
from .common.dataset import ImageDataset
from .common.decoding import BrokenImageError
from .common.samplers import EpochSampler, EvaluationSampler, InfiniteSampler, SampleKey
from .detection.albumentations import AlbumentationsDetection
from .detection.checks import check_coco
from .detection.coco import CocoDetection
from .detection.dataset import DetectionDataset
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
    "ClassificationDataset",
    "CocoDetection",
    "CocoPanopticSemantic",
    "DetectionDataset",
    "DetectionSteps",
    "DetectionTest",
    "DetectionTrain",
    "DetectionViews",
    "EpochSampler",
    "Evaluation",
    "EvaluationSampler",
    "ImageClassificationDataset",
    "ImageDataset",
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
