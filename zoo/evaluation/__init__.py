"""Metrics: from predictions to figures and files."""

from .accuracy import Accuracy
from .coco import CocoMetric
from .detection_files import DetectionWriter
from .gathering import GatheredMetric
from .mean_iou import MeanIoU
from .predictions import PredictionWriter
from .segmentation_files import SegmentationWriter

WRITERS = (PredictionWriter.__name__, DetectionWriter.__name__, SegmentationWriter.__name__)
"""The metrics that write files and give no figures."""

__all__ = [
    "WRITERS",
    "Accuracy",
    "CocoMetric",
    "DetectionWriter",
    "GatheredMetric",
    "MeanIoU",
    "PredictionWriter",
    "SegmentationWriter",
]
