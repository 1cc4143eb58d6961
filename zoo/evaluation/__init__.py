"""Metrics: from predictions to figures and files."""

from .accuracy import Accuracy
from .gathering import GatheredMetric
from .predictions import PredictionWriter

__all__ = ["Accuracy", "GatheredMetric", "PredictionWriter"]
