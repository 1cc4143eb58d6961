"""Metrics: computed from predictions, reported as values or written to files."""

from ...deprecated_paths import renamed_names
from .accuracy import Accuracy
from .base import Metric, MetricInfo, ResultWriter
from .coco import CocoMetric
from .detection_writer import DetectionWriter
from .lookup import evaluator_infos, find_metric_info, result_configs
from .mean_iou import MeanIoU
from .prediction_writer import PredictionWriter
from .segmentation_writer import SegmentationWriter

__all__ = [
    "Accuracy",
    "CocoMetric",
    "DetectionWriter",
    "MeanIoU",
    "Metric",
    "MetricInfo",
    "PredictionWriter",
    "ResultWriter",
    "SegmentationWriter",
    "evaluator_infos",
    "find_metric_info",
    "result_configs",
]

__getattr__ = renamed_names(__name__, {"GatheredMetric": "Metric"})
