"""Inference: one call from images to typed, drawable results."""

from .predictor import Predictor, Skipped
from .results import ClassificationResult, DetectionResult, Found, Guess, Result, SegmentationResult

__all__ = [
    "ClassificationResult",
    "DetectionResult",
    "Found",
    "Guess",
    "Predictor",
    "Result",
    "SegmentationResult",
    "Skipped",
]
