"""The sections of a config: their keys, the registries of their types, and arguments that the Runner sets."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from mmengine.runner import Priority, Runner
from torch.utils.data import DataLoader

from ..training.default_hooks import DEFAULT_HOOKS
from ..training.param_groups import OPTIONS as PARAMWISE_OPTIONS
from .signatures import Argument, arguments_of


@dataclasses.dataclass(frozen=True)
class Typed:
    """A dict(type=...): built from a registry.

    Attributes:
        registry: Name of the registry in zoo/registry.py.
        default: Default type; None if the type is required.
        supplied: Arguments that the Runner sets and that a config must not set.
        filled: Arguments that the Runner or the owner sets if a config does not.
        extra: Keys that are removed before the object is built.
        called: Whether the type is a function whose first argument is passed by its caller.
    """

    registry: str
    default: str | None = None
    supplied: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    called: bool = False


@dataclasses.dataclass(frozen=True)
class Keys:
    """A dict without a type, with a `Section` or an annotation for each key."""

    known: Mapping[str, Any]
    required: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Each:
    """A dict with arbitrary keys, or a list, whose values have the same section.

    Attributes:
        of: Section of the values.
        types: Default types by key.
        optional: Whether values may be None.
    """

    of: Any
    types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    optional: bool = True


@dataclasses.dataclass(frozen=True)
class OneOrMore:
    """A value of a section, or a list of them."""

    of: Any


Section = Typed | Keys | Each | OneOrMore

OPTIONAL_STR = str | None


def _annotations(target: Callable[..., Any], without: Sequence[str] = ()) -> dict[str, Argument]:
    return {name: argument for name, argument in arguments_of(target).known.items() if name not in without}


METRIC = Typed("METRICS")

DATALOADER = Keys(
    {
        **_annotations(
            DataLoader, without=("dataset", "sampler", "batch_sampler", "collate_fn", "worker_init_fn", "shuffle")
        ),
        "dataset": Typed("DATASETS"),
        "sampler": Typed("DATA_SAMPLERS", supplied=("dataset",)),
        "batch_sampler": Typed("DATA_SAMPLERS", supplied=("sampler", "batch_size")),
        "collate_fn": Typed("FUNCTIONS", called=True),
    },
    required=("batch_size", "dataset", "sampler"),
)

TRAIN_LOOP = Typed("LOOPS", supplied=("runner", "dataloader"))
VAL_LOOP = Typed("LOOPS", supplied=("runner", "dataloader", "evaluator"))
TEST_LOOP = Typed("LOOPS", supplied=("runner", "dataloader", "evaluator"))

PARAMWISE = Keys(
    {
        **{key: type(default) for key, default in PARAMWISE_OPTIONS.items() if isinstance(default, bool | float)},
        "layer_decay_rate": float | None,
        "custom_keys": Each(Keys({"lr_mult": float, "decay_mult": float}), optional=False),
    }
)

SCHEDULE = Typed(
    "PARAM_SCHEDULERS",
    supplied=("optimizer", "epoch_length"),
    filled=("end", "param_name"),
    extra={"convert_to_iter_based": bool},
)

_PRIORITIES = tuple(name for priority in Priority for name in (priority.name, priority.name.lower()))

SECTIONS: dict[str, Any] = {
    "model": Typed("MODELS"),
    "train_dataloader": DATALOADER,
    "val_dataloader": DATALOADER,
    "test_dataloader": DATALOADER,
    "train_cfg": TRAIN_LOOP,
    "val_cfg": VAL_LOOP,
    "test_cfg": TEST_LOOP,
    "optim_wrapper": Typed(
        "OPTIM_WRAPPERS", default="OptimWrapper", extra={"constructor": OPTIONAL_STR, "paramwise_cfg": PARAMWISE}
    ),
    "param_scheduler": OneOrMore(SCHEDULE),
    "val_evaluator": OneOrMore(METRIC),
    "test_evaluator": OneOrMore(METRIC),
    "default_hooks": Each(Typed("HOOKS"), types=DEFAULT_HOOKS),
    "custom_hooks": Each(Typed("HOOKS", extra={"priority": int | Literal[_PRIORITIES]})),  # pyright: ignore
    "auto_scale_lr": Keys(
        {"enable": bool, "base_batch_size": int, "rule": Literal["linear", "sqrt"]}, required=("base_batch_size",)
    ),
    "randomness": Keys({"seed": int | None, "diff_rank_seed": bool, "deterministic": bool}),
    "env_cfg": Keys(
        {
            "cudnn_benchmark": bool,
            "mp_cfg": Keys({"mp_start_method": str, "opencv_num_threads": int}),
            "dist_cfg": Keys({"backend": Literal["auto", "nccl", "gloo"], "timeout": float | None, "port": int}),
            "resource_limit": int,
        }
    ),
    "log_processor": Typed("LOG_PROCESSORS", default="LogProcessor"),
    "visualizer": Typed("VISUALIZERS", default="Visualizer"),
    "custom_imports": Keys({"imports": list[str] | str, "allow_failed_imports": bool}),
    "channels_last": bool,
    "compile": bool | dict,
    "sync_bn": bool | str,
    "find_unused_parameters": bool,
    "model_wrapper_cfg": Typed("MODEL_WRAPPERS", supplied=("module",)),
    "work_dir": OPTIONAL_STR,
    "load_from": OPTIONAL_STR,
    "resume": bool | str,
    "launcher": Literal["none", "pytorch", "slurm"],
    "log_level": Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    "default_scope": str,
    "experiment_name": OPTIONAL_STR,
}
"""Section or annotation of each top-level key."""

TOP_LEVEL_KEYS = sorted(SECTIONS)

# All arguments of the Runner's constructor must be sections.
_RUNNER_ONLY = {"self", "cfg", "data_preprocessor"}
assert not set(inspect.signature(Runner.__init__).parameters) - _RUNNER_ONLY - set(SECTIONS)

NESTED: dict[str, Typed | Keys] = {
    "dataset": Typed("DATASETS"),
    "transform": Typed("TRANSFORMS"),
    "transforms": Typed("ALBUMENTATIONS"),
    "steps": Typed("TRANSFORMS"),
    "pipeline": Typed("TRANSFORMS"),
    "optimizer": Typed("OPTIMIZERS", supplied=("params",)),
    "clip_grad": Keys(
        {
            "type": str,
            "max_norm": float,
            "norm_type": float,
            "clip_value": float,
            "clip_factor": float,
            "eps": float,
            "exclude": Sequence[str],
        }
    ),
    "metrics": METRIC,
    "vis_backends": Typed("VISUALIZER_BACKENDS", supplied=("save_dir",)),
}
"""Sections of dicts that are given for an argument, by the argument's name.

For other names, the registry is the one that has the type; the owner's registry is searched first.
"""
