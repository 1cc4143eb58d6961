"""Training: the Runner and its loops, hooks, optimizer wrappers, schedules and checkpoints."""

from ...deprecated_paths import renamed_names
from ..weights.reading import CheckpointError
from ..work_dir import find_best, find_latest, list_checkpoints, read_scalars, read_training_checkpoint
from .checkpoint import CheckpointWriteError, write_checkpoint
from .checkpoint_hook import CheckpointHook
from .ema import EMAHook, WeightAverage
from .evaluation_loops import TestLoop, ValLoop
from .logs import LoggerHook, ProgressBarHook, RuntimeInfoHook
from .loops import EpochTrainLoop, IterTrainLoop
from .nonfinite import NonFiniteGuardHook, TrainingDiverged
from .optim_constructor import OptimWrapperConstructor
from .optim_wrappers import AmpOptimWrapper, OptimWrapper
from .param_groups import parameter_groups
from .runner import Runner, build_runner
from .schedules import WarmupConstant, WarmupCosine, WarmupLinear, WarmupMultiStep, WarmupPoly, WarmupStep
from .signals import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preempted

__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_PREEMPTED",
    "AmpOptimWrapper",
    "CheckpointError",
    "CheckpointHook",
    "CheckpointWriteError",
    "EMAHook",
    "EpochTrainLoop",
    "IterTrainLoop",
    "LoggerHook",
    "NonFiniteGuardHook",
    "OptimWrapper",
    "OptimWrapperConstructor",
    "Preempted",
    "ProgressBarHook",
    "Runner",
    "RuntimeInfoHook",
    "TestLoop",
    "TrainingDiverged",
    "ValLoop",
    "WarmupConstant",
    "WarmupCosine",
    "WarmupLinear",
    "WarmupMultiStep",
    "WarmupPoly",
    "WarmupStep",
    "WeightAverage",
    "build_runner",
    "find_best",
    "find_latest",
    "list_checkpoints",
    "parameter_groups",
    "read_scalars",
    "read_training_checkpoint",
    "write_checkpoint",
]

__getattr__ = renamed_names(__name__, {"read_checkpoint": "read_training_checkpoint"})
