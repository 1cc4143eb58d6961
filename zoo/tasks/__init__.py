"""Tasks: what is computed from a batch, for training and for evaluation."""

from . import heads as _heads  # registers them
from .classification import Classifier
from .dense_preprocessing import DensePreprocessor
from .losses import BinaryCrossEntropy, CrossEntropy, SoftTargetCrossEntropy
from .mixing import Mixing
from .preprocessing import ImagePreprocessor

__all__ = [
    "BinaryCrossEntropy",
    "Classifier",
    "CrossEntropy",
    "DensePreprocessor",
    "ImagePreprocessor",
    "Mixing",
    "SoftTargetCrossEntropy",
]
