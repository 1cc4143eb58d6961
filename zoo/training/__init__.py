"""Training: the Runner and its loops, hooks, optimizer wrappers, schedules and checkpoints."""

from .checkpoint import CheckpointError, find_best, find_latest, list_checkpoints, read_checkpoint, write_checkpoint
from .checkpoint_hook import CheckpointHook
from .ema import EMAHook, WeightAverage
from .evaluation_loops import TestLoop, ValLoop
from .guards import NonFiniteGuardHook, TrainingDiverged
from .logs import LoggerHook, ProgressBarHook, RuntimeInfoHook, read_scalars
from .loops import EpochTrainLoop, IterTrainLoop
from .optim import AmpOptimWrapper, OptimWrapper, OptimWrapperConstructor
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
    "read_checkpoint",
    "read_scalars",
    "write_checkpoint",
]
