"""Inference: one call from images to typed results that can be drawn."""

from ...deprecated_paths import renamed_names
from .predictor import Predictor, Skipped
from .results import ClassificationResult, ClassPrediction, Detection, DetectionResult, Result, SegmentationResult

__all__ = [
    "ClassPrediction",
    "ClassificationResult",
    "Detection",
    "DetectionResult",
    "Predictor",
    "Result",
    "SegmentationResult",
    "Skipped",
]

__getattr__ = renamed_names(__name__, {"Found": "Detection", "Guess": "ClassPrediction"})
