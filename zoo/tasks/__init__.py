"""Tasks: what is computed from a batch, for training and for evaluation."""

from .classification import Classifier
from .dense_preprocessing import DensePreprocessor
from .detection import SingleStageDetector, TwoStageDetector
from .heads import HEADS
from .losses import BinaryCrossEntropy, CrossEntropy, SoftTargetCrossEntropy
from .mixing import Mixing
from .preprocessing import ImagePreprocessor
from .probing import Probe
from .segmentation import Segmentor

__all__ = [
    "HEADS",
    "BinaryCrossEntropy",
    "Classifier",
    "CrossEntropy",
    "DensePreprocessor",
    "ImagePreprocessor",
    "Mixing",
    "Probe",
    "Segmentor",
    "SingleStageDetector",
    "SoftTargetCrossEntropy",
    "TwoStageDetector",
]
