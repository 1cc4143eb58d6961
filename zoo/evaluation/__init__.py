"""Metrics: from predictions to figures and files."""

from .accuracy import Accuracy
from .coco import CocoMetric
from .detection_files import DetectionWriter
from .gathering import GatheredMetric
from .predictions import PredictionWriter

__all__ = ["Accuracy", "CocoMetric", "DetectionWriter", "GatheredMetric", "PredictionWriter"]
