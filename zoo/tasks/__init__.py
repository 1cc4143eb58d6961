"""Tasks: models with their losses, which turn a batch into losses or predictions."""

from .base import TASK_KINDS, ExportPart, HeadedTask, Task, TaskKind, task_kind
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
    "TASK_KINDS",
    "BinaryCrossEntropy",
    "Classifier",
    "CrossEntropy",
    "DensePreprocessor",
    "ExportPart",
    "HeadedTask",
    "ImagePreprocessor",
    "Mixing",
    "Probe",
    "Segmentor",
    "SingleStageDetector",
    "SoftTargetCrossEntropy",
    "Task",
    "TaskKind",
    "TwoStageDetector",
    "task_kind",
]
