"""Metrics: from predictions to figures and files."""

from .accuracy import Accuracy
from .coco import CocoMetric
from .detection_files import DetectionWriter
from .gathering import GatheredMetric
from .mean_iou import MeanIoU
from .predictions import PredictionWriter
from .segmentation_files import SegmentationWriter

__all__ = [
    "Accuracy",
    "CocoMetric",
    "DetectionWriter",
    "GatheredMetric",
    "MeanIoU",
    "PredictionWriter",
    "SegmentationWriter",
]
