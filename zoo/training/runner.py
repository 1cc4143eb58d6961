"""The Runner: mmengine's, made to survive."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import Runner as _Runner
from torch import nn
from torch.utils.data import DataLoader

from ...names import unknown_name
from ..registry import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    MODEL_WRAPPERS,
    MODELS,
    PARAM_SCHEDULERS,
    RUNNERS,
    SCOPE,
    Registry,
)
from .checkpoint import LAST, PATTERNS, CheckpointError, find_latest, read_checkpoint, remove_leftovers, write_text
from .checkpoint_hook import CheckpointHook
from .distributed import LAUNCHERS, gather_objects, init_distributed, local_rank
from .ema import EMAHook
from .guards import RECORD, NonFiniteGuardHook
from .logs import HISTORY_LENGTH, SCALARS
from .optim import OptimWrapper, OptimWrapperConstructor
from .schedules import ABSOLUTE_RATES, WarmupDecay
from .signals import Preempted, StopRequest, shield_worker
from .state import message_hub_state, random_states, restore_message_hub, restore_random_states

CONFIG = "config.py"
"""File in a work dir: the config of its training, as text."""

_run_numbers = itertools.count()


def build_runner(cfg: Config | Mapping[str, Any]) -> Runner:
    """Builds a Runner from a config.

    Args:
        cfg: a config with at least `model` and `work_dir`; mmengine's Runner tells what else. Besides, `resume` can be
            a path, `channels_last=True` and `compile=True` (or arguments of torch.compile) are options, and
            `auto_scale_lr` takes `rule="linear" | "sqrt"`. Not changed.

    Raises:
        ValueError: `model` or `work_dir` is missing, or a name or value in the config is wrong.
    """
    cfg = copy.deepcopy(cfg) if isinstance(cfg, Config) else Config(copy.deepcopy(dict(cfg)))
    for key in ("model", "work_dir"):
        if key not in cfg:
            raise ValueError(f"A config needs the key {key!r}.")
    cfg.setdefault("default_scope", SCOPE)
    cfg.setdefault("env_cfg", {})
    cfg.setdefault("randomness", {"seed": 0})
    # mmengine finds loggers and message hubs by name: two runs in one process must not share them.
    name = cfg.get("experiment_name") or (Path(cfg.filename).stem if cfg.filename else "run")
    cfg["experiment_name"] = f"{name}_{next(_run_numbers)}"
    return RUNNERS.build(cfg)


@RUNNERS.register_module()
class Runner(_Runner):
    """mmengine's Runner with the zoo's own loops, hooks and checkpoints; build it with `build_runner`.

    Attributes:
        stop_request: whether training was asked to stop.
        is_training: whether `train` is running.
        last_metrics: of the last evaluation.
    """

    optim_wrapper: OptimWrapper
    train_loop: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.stop_request = StopRequest()
        self.is_training = False
        self.last_metrics: dict[str, Any] = {}
        self._lr_ratio = 1.0
        super().__init__(*args, **kwargs)

    # -- Building ------------------------------------------------------------------------------------------------------

    def setup_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Starts the process group, on GPUs or CPUs, and sets what mmengine sets.

        Args:
            env_cfg: cudnn_benchmark, mp_cfg, resource_limit, and dist_cfg with the arguments of `init_distributed`.
        """
        if self._launcher not in LAUNCHERS:
            raise ValueError(unknown_name("launcher", self._launcher, LAUNCHERS))
        if self.distributed and not torch.distributed.is_initialized():
            init_distributed(self._launcher, **env_cfg.get("dist_cfg", {}))
        super().setup_env(dict(env_cfg))

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Builds the model; a task that takes a seed gets this run's."""
        if isinstance(model, dict):
            model = _with_seed(MODELS, model, self.seed)
        return super().build_model(model)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Builds mmengine's visualizer; without backends where the config has none, because LoggerHook writes."""
        if visualizer is None:
            visualizer = {"type": "Visualizer", "vis_backends": []}
        return super().build_visualizer(visualizer)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Brings the model to its device, in the wanted form, and wraps it where there are several processes.

        Args:
            model_wrapper_cfg: type and arguments of the wrapper; None is MMDistributedDataParallel.
            model: the model.

        Raises:
            ValueError: `sync_bn` without GPUs.
        """
        if is_model_wrapper(model):
            return model
        if self.cfg.get("channels_last"):
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
        device = get_device()
        if not self.distributed:
            model = revert_sync_batchnorm(model)
        elif self.cfg.get("sync_bn"):
            if not device.startswith("cuda"):
                raise ValueError("sync_bn=True needs GPUs: torch's SyncBatchNorm has no CPU form.")
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model = model.to(device)
        compile_options = self.cfg.get("compile")
        if compile_options:
            # In place, so that parameters keep their names; the task around a backbone is plain Python.
            target = getattr(model, "backbone", model)
            target.compile(**({} if compile_options is True else compile_options))
        if not self.distributed:
            return model
        options: dict[str, Any] = {
            "type": MMDistributedDataParallel,
            "find_unused_parameters": self.cfg.get("find_unused_parameters", False),
            **(model_wrapper_cfg or {}),
            "module": model,
            "device_ids": [local_rank()] if device.startswith("cuda") else None,
        }
        return MODEL_WRAPPERS.build(options)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | Mapping[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Builds a data loader.

        Args:
            dataloader: dict(dataset, sampler, batch_sampler, collate_fn, ...) and arguments of torch's DataLoader.
                Without workers, options that only concern workers do not count.
            seed: of the sampler and the data set, where they take one.
            diff_rank_seed: not used; samplers share out among processes themselves.

        Raises:
            ValueError: there is no dataset or sampler.
        """
        if isinstance(dataloader, DataLoader):
            return dataloader
        options = copy.deepcopy(dict(dataloader))
        for key in ("dataset", "sampler"):
            if key not in options:
                raise ValueError(f"A data loader needs the key {key!r}; given: {sorted(options)}.")
        dataset = options.pop("dataset")
        if isinstance(dataset, Mapping):
            dataset = DATASETS.build(_with_seed(DATASETS, dataset, seed))
        sampler = options.pop("sampler")
        if isinstance(sampler, Mapping):
            sampler = DATA_SAMPLERS.build(_with_seed(DATA_SAMPLERS, sampler, seed), default_args={"dataset": dataset})
        batch_sampler = options.pop("batch_sampler", None)
        if isinstance(batch_sampler, Mapping):
            given = {"sampler": sampler, "batch_size": options.pop("batch_size")}
            batch_sampler = DATA_SAMPLERS.build(dict(batch_sampler), default_args=given)
        collate = options.pop("collate_fn", None)
        if isinstance(collate, Mapping):
            arguments = dict(collate)
            collate = functools.partial(FUNCTIONS.get(arguments.pop("type")), **arguments)
        elif isinstance(collate, str):
            collate = FUNCTIONS.get(collate)
        if not options.get("num_workers"):
            for key in ("persistent_workers", "prefetch_factor", "timeout"):
                options.pop(key, None)
        return DataLoader(
            dataset,
            sampler=sampler if batch_sampler is None else None,
            batch_sampler=batch_sampler,
            collate_fn=collate,
            worker_init_fn=_init_worker,
            **options,
        )

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Builds the optimizer wrapper with `OptimWrapperConstructor`."""
        if isinstance(optim_wrapper, OptimWrapper):
            return optim_wrapper
        options = copy.deepcopy(dict(optim_wrapper))
        constructor = OptimWrapperConstructor(options, options.pop("paramwise_cfg", None))
        return constructor(self.model)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: Mapping[str, Any] | None = None) -> None:
        """Scales the learning rate to the batch size; the schedules' absolute rates follow when they are built.

        Args:
            optim_wrapper: the optimizer wrapper.
            auto_scale_lr: dict(enable=True, base_batch_size=..., rule="linear" | "sqrt"): the recipe's batch size over
                all processes and accumulated batches, and how rates follow it.

        Raises:
            ValueError: a key is unknown or missing.
        """
        if not auto_scale_lr or not auto_scale_lr.get("enable", False):
            return
        keys = ("enable", "base_batch_size", "rule")
        for key in auto_scale_lr:
            if key not in keys:
                raise ValueError(unknown_name("key of auto_scale_lr", key, keys))
        base = auto_scale_lr.get("base_batch_size")
        if not base:
            raise ValueError("auto_scale_lr needs base_batch_size, the batch size that the recipe's rate is for.")
        rule = auto_scale_lr.get("rule", "linear")
        if rule not in ("linear", "sqrt"):
            raise ValueError(unknown_name("rule of auto_scale_lr", rule, ("linear", "sqrt")))
        each = self.train_loop.state_dict()["batch_size"]
        accumulated = optim_wrapper._accumulative_counts
        batch = self.world_size * each * accumulated
        ratio = batch / base
        self._lr_ratio = ratio if rule == "linear" else ratio**0.5
        for group in optim_wrapper.param_groups:
            group["lr"] *= self._lr_ratio
        self.logger.info(
            f"Learning rates are multiplied by {self._lr_ratio:g} ({rule} rule): a step sees {batch} images "
            f"({self.world_size} process(es) x {each} x {accumulated} accumulated), the recipe is for {base}."
        )

    def _build_param_scheduler(self, scheduler: Any, optim_wrapper: Any) -> list:
        """Builds schedules, with their absolute rates scaled as the optimizer's."""
        built = []
        for given in scheduler if isinstance(scheduler, (list, tuple)) else [scheduler]:
            if not isinstance(given, dict):
                built.append(given)
                continue
            options = dict(given)
            for name in ABSOLUTE_RATES:
                if options.get(name) and self._lr_ratio != 1.0:
                    scaled = options[name] * self._lr_ratio
                    self.logger.info(f"{options['type']}: {name} {options[name]:g} becomes {scaled:g}.")
                    options[name] = scaled
            kind = PARAM_SCHEDULERS.get(options["type"])
            if inspect.isclass(kind) and issubclass(kind, WarmupDecay):
                options.update(optimizer=optim_wrapper, max_iters=self.max_iters)
                # mmengine's build function takes `epoch_length` away from schedules.
                options.pop("type")
                built.append(kind(epoch_length=self.train_loop.epoch_length, **options))
            else:
                built.extend(super()._build_param_scheduler(options, optim_wrapper))
        return built

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """Registers the hooks that every run has, changed as the config's `default_hooks` say.

        Raises:
            ValueError: the guard against losses that are not finite is taken away.
        """
        default: dict[str, Any] = {
            "runtime_info": {"type": "RuntimeInfoHook"},
            "timer": {"type": "IterTimerHook"},
            "guard": {"type": "NonFiniteGuardHook"},
            "param_scheduler": {"type": "ParamSchedulerHook"},
            "logger": {"type": "LoggerHook"},
            "progress": {"type": "ProgressBarHook"},
            "checkpoint": {"type": "CheckpointHook"},
        }
        for name, hook in (hooks or {}).items():
            if name == "guard" and hook is None:
                raise ValueError("The guard hook stays; dict(type='NonFiniteGuardHook', max_skips=0) is the strictest.")
            if isinstance(hook, dict) and "type" not in hook and name in default:
                hook = {**default[name], **hook}
            default[name] = hook
        for hook in default.values():
            if hook is not None:
                self.register_hook(hook)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Registers a hook; a guard or checkpoint hook takes the place of the one that is there."""
        super().register_hook(hook, priority)
        for single in (NonFiniteGuardHook, CheckpointHook, EMAHook):
            same = [known for known in self._hooks if isinstance(known, single)]
            if len(same) > 1:
                # mmengine sorts a later one of equal priority behind the earlier ones.
                self._hooks.remove(same[0])

    def _hook(self, kind: type[Hook]) -> Any:
        return next((hook for hook in self._hooks if isinstance(hook, kind)), None)

    @property
    def ema(self) -> EMAHook | None:
        """The hook that averages weights, where there is one."""
        return self._hook(EMAHook)

    def get_hooks_info(self) -> str:
        """Names the hooks in their order."""
        return ", ".join(type(hook).__name__ for hook in self._hooks)

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Logs what the run depends on; mmengine's report takes seconds."""
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        )
        self.logger.info(
            f"torch {torch.__version__} on {device}; {self.world_size} process(es), launcher {self._launcher}; "
            f"seed {self.seed}; environment {dict(env_cfg)}"
        )

    def dump_config(self) -> None:
        """Does nothing: training writes its config where it begins, and evaluation leaves it alone."""

    # -- Training ------------------------------------------------------------------------------------------------------

    def train(self) -> nn.Module:
        """Trains, from the beginning or from where a checkpoint stands.

        Returns:
            The model.

        Raises:
            Preempted: a signal asked to stop; the state is saved. Uncaught, it ends the process with EXIT_PREEMPTED.
            TrainingDiverged: too many losses or gradients were not finite.
            CheckpointError: a checkpoint could not be written, or the one to resume from not be read.
            ValueError: the config has no training, or the checkpoint to resume from does not fit it.
        """
        if self._train_loop is None:
            raise ValueError("The config has no training: it needs train_dataloader, train_cfg and optim_wrapper.")
        with self.stop_request:
            self.is_training = True
            try:
                self._prepare()
                self.train_loop.run()
                self.call_hook("after_run")
            finally:
                self.is_training = False
                self.call_hook("leave")
        return self.model

    def _prepare(self) -> None:
        path, state = self._find_resume()
        if state:
            self._adopt_seed(state["meta"]["seed"])
        elif self.rank == 0:
            self._set_aside()
        if self.rank == 0:
            remove_leftovers(self.work_dir)
            write_text(self.cfg.pretty_text, Path(self.work_dir) / CONFIG)
        barrier()
        self._train_loop = self.build_train_loop(self._train_loop)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        self.scale_lr(self.optim_wrapper, self.auto_scale_lr)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        if self._val_loop is not None:
            self._val_loop = self.build_val_loop(self._val_loop)
        self.call_hook("before_run")
        if state:
            self._restore(path, state)
        else:
            self._init_model_weights()
            self.load_or_resume()
        self._has_loaded = True

    def _adopt_seed(self, seed: int) -> None:
        if seed == self.seed:
            return
        if self._randomness_cfg.get("seed") is not None:
            self.logger.warning(f"The checkpoint's seed is {seed}; it counts, and the config's {self.seed} does not.")
        self.set_randomness(**{**self._randomness_cfg, "seed": seed})

    def _set_aside(self) -> None:
        """Moves what an earlier training left in the work dir out of the way of a new one."""
        folder = Path(self.work_dir)
        old = [path for pattern in (*PATTERNS, LAST, SCALARS, RECORD, "tensorboard") for path in folder.glob(pattern)]
        if not old:
            return
        aside = folder / f"earlier_{self.timestamp}"
        aside.mkdir(exist_ok=True)
        for path in old:
            path.rename(aside / path.name)
        self.logger.warning(
            f"{folder} holds an earlier training, which is not resumed: its {len(old)} file(s) move to {aside}."
        )

    def _find_resume(self) -> tuple[Path | None, dict[str, Any]]:
        """Finds the checkpoint to go on from; process 0 decides which."""
        wanted = self._resume
        if not wanted:
            return None, {}
        folder = Path(self.work_dir)
        path: Path | None = None
        if isinstance(wanted, str):
            path = Path(wanted)
            if not path.exists():
                raise CheckpointError(f"resume={wanted!r}: there is no such file or folder.")
            if path.is_dir():
                folder, path = path, None
        if path is None:
            skipped: dict[Path, str] = {}
            if self.rank == 0:
                path, _, skipped = find_latest(folder)
            path = gather_objects(path)[0]
            for reason in skipped.values():
                self.logger.warning(f"Skipped while looking for a checkpoint to resume from: {reason}")
            if path is None:
                if skipped:
                    raise CheckpointError(f"None of the {len(skipped)} checkpoint(s) in {folder} is whole.")
                self.logger.info(f"No checkpoint in {folder} to resume from: training starts from the beginning.")
                return None, {}
        return path, read_checkpoint(path)

    def stop(self) -> None:
        """Saves and leaves, because a signal asked for it; all processes must call it.

        Raises:
            Preempted: always.
        """
        if not self.is_training:
            raise Preempted(f"Stopped by {self.stop_request.reason}.", self.stop_request.exit_code)
        hook = self._hook(CheckpointHook)
        where = f"Stopped by {self.stop_request.reason} at epoch {self.epoch + 1}, iteration {self.iter}"
        if hook is None:
            message = f"{where}; nothing saved, because there is no CheckpointHook."
        else:
            path = hook.save(self)
            message = f"{where}; saved {path}. To go on, start the same command again with --resume."
        self.logger.warning(message)
        raise Preempted(message, self.stop_request.exit_code)

    # -- State ---------------------------------------------------------------------------------------------------------

    @property
    def bare_model(self) -> nn.Module:
        """The model without its distributed wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model  # type: ignore[return-value]

    def training_state(self) -> dict[str, Any]:
        """Everything that a run is, as plain types; all processes must call it."""
        states = gather_objects(random_states())
        if self.rank != 0:
            return {}
        state: dict[str, Any] = {
            "meta": {
                **self.train_loop.state_dict(),
                "seed": int(self.seed),
                "world_size": self.world_size,
                "metrics": {
                    name: value for name, value in self.last_metrics.items() if isinstance(value, (int, float))
                },
                "torch": str(torch.__version__),
                "time": time.strftime("%Y-%m-%d %H:%M:%S"),
            },
            "state_dict": self.bare_model.state_dict(),
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self.param_schedulers or ()],
            "random_states": states,
            "hooks": {
                type(hook).__name__: hook.state_dict()
                for hook in self._hooks
                if callable(getattr(hook, "state_dict", 0))
            },
            "message_hub": message_hub_state(self.message_hub),
        }
        if self.ema is not None and self.ema.average is not None:
            state["ema_state_dict"] = self.ema.average.state_dict()
            state["meta"]["ema_updates"] = self.ema.average.updates
        return state

    def _restore(self, path: Path | None, state: dict[str, Any]) -> None:
        meta = state["meta"]
        if meta["world_size"] != self.world_size:
            raise ValueError(
                f"{path} is of {meta['world_size']} process(es), this run has {self.world_size}: its place in the data "
                f"cannot be carried over. Resume with as many, or start anew from its weights with load_from."
            )
        self.train_loop.load_state_dict(meta)
        try:
            self.bare_model.load_state_dict(state["state_dict"], strict=True)
            self.optim_wrapper.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} does not fit this config: {error}") from error
        self._restore_average(path, state)
        schedulers = self.param_schedulers or []
        if len(schedulers) != len(state["param_schedulers"]):
            raise ValueError(f"{path} has {len(state['param_schedulers'])} schedules, this config {len(schedulers)}.")
        for scheduler, saved in zip(schedulers, state["param_schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        for hook in self._hooks:
            saved = state["hooks"].get(type(hook).__name__)
            if saved is not None:
                hook.load_state_dict(saved)  # type: ignore[attr-defined]  # what has state_dict has this
        restore_message_hub(self.message_hub, state["message_hub"], HISTORY_LENGTH)
        self.last_metrics = dict(meta["metrics"])
        # Last, because building and loading may draw from the generators.
        restore_random_states(state["random_states"][self.rank])
        self.logger.info(f"Resumed from {path}: epoch {self.epoch}, iteration {self.iter}.")

    def _restore_average(self, path: Path | None, state: dict[str, Any]) -> None:
        if self.ema is None:
            return
        average = self.ema.start(self.model)
        if "ema_state_dict" in state:
            average.load_state_dict(state["ema_state_dict"], state["meta"]["ema_updates"])
        else:
            self.logger.warning(f"{path} has no averaged weights: the average starts from its weights.")

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Not here: set `resume` in the config, and training resumes completely.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("Set resume=True, or resume='path', in the config.")

    def load_or_resume(self) -> None:
        """Loads the weights of `load_from`, where the config has it and nothing was loaded before."""
        if self._load_from is not None and not self._has_loaded:
            self.load_checkpoint(self._load_from)
            self._has_loaded = True

    def results(self) -> dict[str, Any]:
        """What came out, in plain types: where training stands, the last metrics, the best ones and their files."""
        hook, guard = self._hook(CheckpointHook), self._hook(NonFiniteGuardHook)
        return {
            "epoch": self.epoch if isinstance(self.train_loop, object) else 0,
            "iter": self.iter,
            "metrics": {name: value for name, value in self.last_metrics.items() if isinstance(value, (int, float))},
            "best": copy.deepcopy(hook.best) if hook is not None else {},
            "skipped_steps": len(guard.records) if guard is not None else 0,
        }


def _with_seed(registry: Registry, cfg: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    """A copy of a config, with the run's seed where its type takes one and it gives none."""
    cfg = dict(cfg)
    kind = cfg.get("type")
    if seed is not None and "seed" not in cfg and kind is not None:
        builder = registry.get(kind) if isinstance(kind, str) else kind
        if "seed" in inspect.signature(builder).parameters:
            cfg["seed"] = int(seed)
    return cfg


def _init_worker(worker: int) -> None:
    """Prepares a data loader's worker: its own generators, one thread, deaf to the first signals."""
    del worker  # torch's seed has it already
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    shield_worker()
