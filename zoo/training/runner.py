"""The Runner: mmengine's, with complete resuming and its own loops, hooks and checkpoints."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as _Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from ...deprecated_paths import renamed_names
from ...names import unknown_name
from ..config.writing import config_text
from ..data.common.broken_images import BrokenImagesHook
from ..files import remove_leftovers, write_json, write_text
from ..folder_lock import TRAINING_LOCK, FolderInUse, FolderLock
from ..preprocessing import Preprocessing
from ..registry import MODELS, PARAM_SCHEDULERS, RUNNERS, SCOPE
from ..work_dir import CLASS_NAMES, CONFIG
from .auto_scale import lr_factor, scale_schedule
from .checkpoint_hook import CheckpointHook
from .default_hooks import merge_default_hooks
from .distributed import LAUNCHERS, gather_objects, init_distributed
from .ema import EMAHook
from .loaders import batch_size, build_dataloader, with_seed
from .loops import shutdown_workers
from .model_setup import prepare_model, unwrap_model
from .nonfinite import NonFiniteGuardHook
from .optim_constructor import OptimWrapperConstructor
from .optim_wrappers import OptimWrapper
from .resume import ResumeCandidates, set_aside_earlier_files
from .resume_checks import changed_settings
from .schedules import WarmupDecay
from .signals import Preempted, StopRequest
from .state import collect_state, restore_state
from .vis_backends import VisBackends, build_backends

_run_numbers = itertools.count()


def build_runner(cfg: Config | Mapping[str, Any]) -> Runner:
    """Builds a Runner from a config.

    Args:
        cfg: Config with at least `model` and `work_dir`, and the other keys of mmengine's Runner. In addition, `resume`
            can be a path, `channels_last=True` and `compile=True` (or arguments of torch.compile) are options, and
            `auto_scale_lr` accepts `rule="linear" | "sqrt"`. It is not modified.

    Raises:
        ValueError: `model` or `work_dir` is missing, or a name or value in the config is wrong.
    """
    cfg = copy.deepcopy(cfg) if isinstance(cfg, Config) else Config(copy.deepcopy(dict(cfg)))
    for key in ("model", "work_dir"):
        if key not in cfg:
            raise ValueError(f"The config needs the key {key!r}.")
    cfg.setdefault("default_scope", SCOPE)
    cfg.setdefault("env_cfg", {})
    cfg["randomness"] = {"seed": 0, **(cfg.get("randomness") or {})}
    # mmengine looks loggers and message hubs up by name, and two runs in one process must not share them.
    name = cfg.get("experiment_name") or (Path(cfg.filename).stem if cfg.filename else "run")
    cfg["experiment_name"] = f"{name}_{next(_run_numbers)}"
    return RUNNERS.build(cfg)


@RUNNERS.register_module()
class Runner(_Runner):
    """mmengine's Runner with the zoo's own loops, hooks and checkpoints; build it with `build_runner`.

    Attributes:
        stop_request: Whether training was asked to stop.
        is_training: Whether `train` is running.
        vis_backends: The visualization backends of the config in process 0 while training runs.
        last_metrics: Metrics of the last evaluation.
        preprocessing: How the model is evaluated, known once training has started. Checkpoints carry it.
    """

    optim_wrapper: OptimWrapper
    train_loop: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.stop_request = StopRequest()
        self.is_training = False
        self.last_metrics: dict[str, Any] = {}
        self.preprocessing = Preprocessing()
        self._lr_factor = 1.0
        self._model_has_run_seed = False
        self._backend_configs: Any = None
        self.vis_backends: VisBackends | None = None
        super().__init__(*args, **kwargs)

    def setup_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Starts the process group, on GPUs or CPUs, and applies mmengine's settings.

        Args:
            env_cfg: cudnn_benchmark, mp_cfg, resource_limit, and dist_cfg with the arguments of `init_distributed`.
        """
        if self._launcher not in LAUNCHERS:
            raise ValueError(unknown_name("launcher", self._launcher, LAUNCHERS))
        if self.distributed and not torch.distributed.is_initialized():
            init_distributed(self._launcher, **env_cfg.get("dist_cfg", {}))
        super().setup_env(dict(env_cfg))

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Builds the model; a task with an argument `seed` receives the seed of the run."""
        if isinstance(model, dict):
            seeded = with_seed(MODELS, model, self.seed)
            self._model_has_run_seed = "seed" in seeded and "seed" not in model
            model = seeded
        return super().build_model(model)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Builds mmengine's visualizer. Its backends are started by training, which sends them its log."""
        if isinstance(visualizer, Visualizer):
            self._backend_configs = list(visualizer._vis_backends.values())
            visualizer._vis_backends.clear()
            return super().build_visualizer(visualizer)
        options = dict(visualizer or {"type": "Visualizer"})
        self._backend_configs = options.pop("vis_backends", None)
        return super().build_visualizer({**options, "vis_backends": []})

    def _start_vis_backends(self) -> None:
        """Starts the visualization backends of the config in process 0.

        Raises:
            ValueError: A backend cannot be started.
        """
        problem = None
        if self.rank == 0 and self._backend_configs:
            work_dir = Path(self.work_dir)
            try:
                backends = build_backends(self._backend_configs, Path(self.log_dir) / "vis_data", work_dir)
                self.vis_backends = VisBackends(backends, self.logger)
                self.vis_backends.start(self.cfg)
                self.visualizer._vis_backends.update(backends)
            except ValueError as error:
                problem = str(error)
        # Otherwise the other processes would wait for process 0 forever.
        problem = gather_objects(problem)[0]
        if problem is not None:
            raise ValueError(problem)

    def wrap_model(self, model_wrapper_cfg: Mapping[str, Any] | None, model: nn.Module) -> nn.Module:
        """Moves the model to its device and wraps it, see `prepare_model`."""
        return prepare_model(model, self.cfg.to_dict(), self.distributed, model_wrapper_cfg)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | Mapping[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Builds a data loader, see `loaders.build_dataloader`; samplers divide the data among processes themselves."""
        return build_dataloader(dataloader, seed)

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Builds the optimizer wrapper with `OptimWrapperConstructor`."""
        if isinstance(optim_wrapper, OptimWrapper):
            return optim_wrapper
        options = copy.deepcopy(dict(optim_wrapper))
        constructor = OptimWrapperConstructor(options, options.pop("paramwise_cfg", None))
        return constructor(self.model)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: Mapping[str, Any] | None = None) -> None:
        """Scales the learning rate to the batch size; absolute rates of schedules are scaled when they are built.

        Args:
            optim_wrapper: The optimizer wrapper.
            auto_scale_lr: Options of `lr_factor`.
        """
        per_process = batch_size(self.train_dataloader)
        accumulated = optim_wrapper.accumulative_counts
        total = self.world_size * per_process * accumulated
        self._lr_factor = lr_factor(auto_scale_lr, total)
        if auto_scale_lr and auto_scale_lr.get("enable", False):
            for group in optim_wrapper.param_groups:
                group["lr"] *= self._lr_factor
            self.logger.info(
                f"Learning rates are multiplied by {self._lr_factor:g}: the batch size is {total} ({self.world_size} "
                f"process(es) x {per_process} x {accumulated} accumulated), that of the recipe "
                f"{auto_scale_lr['base_batch_size']}."
            )

    def _build_param_scheduler(self, scheduler: Any, optim_wrapper: Any) -> list:
        """Builds schedules, with their absolute rates scaled like those of the optimizer."""
        built = []
        for cfg in scheduler if isinstance(scheduler, (list, tuple)) else [scheduler]:
            if not isinstance(cfg, dict):
                built.append(cfg)
                continue
            options, message = scale_schedule(cfg, self._lr_factor)
            if message:
                self.logger.info(message)
            kind = PARAM_SCHEDULERS.get(options["type"])
            if isinstance(kind, type) and issubclass(kind, WarmupDecay):
                # mmengine's build function would not pass the length of an epoch.
                arguments = {name: value for name, value in options.items() if name != "type"}
                arguments.setdefault("end", self.max_iters)
                built.append(kind(optim_wrapper, epoch_length=self.train_loop.epoch_length, **arguments))
            else:
                built.extend(super()._build_param_scheduler(options, optim_wrapper))
        return built

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """Registers the hooks that every run has, with the changes of the config's `default_hooks`.

        Raises:
            ValueError: The guard against losses that are not finite is removed.
        """
        for hook in merge_default_hooks(hooks).values():
            self.register_hook(hook)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Registers a hook; a type that can only be used once replaces an earlier one."""
        super().register_hook(hook, priority)
        for single in (NonFiniteGuardHook, CheckpointHook, EMAHook, BrokenImagesHook):
            same = [other for other in self._hooks if isinstance(other, single)]
            if len(same) > 1:
                # mmengine inserts a hook after the earlier ones of the same priority.
                self._hooks.remove(same[0])

    def _hook(self, kind: type[Hook]) -> Any:
        return next((hook for hook in self._hooks if isinstance(hook, kind)), None)

    @property
    def ema(self) -> EMAHook | None:
        """The hook that averages weights, if there is one."""
        return self._hook(EMAHook)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Calls a method of all hooks that have it. mmengine's version hides the origin of a TypeError."""
        for hook in self._hooks:
            function = getattr(hook, fn_name, None)
            if function is not None:
                function(self, **kwargs)

    def get_hooks_info(self) -> str:
        """Returns the names of the hooks, in order."""
        return ", ".join(type(hook).__name__ for hook in self._hooks)

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Logs the environment of the run; mmengine's report takes seconds."""
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        )
        self.logger.info(
            f"torch {torch.__version__} on {device}; {self.world_size} process(es), launcher {self._launcher}; "
            f"seed {self.seed}; environment {dict(env_cfg)}"
        )

    def dump_config(self) -> None:
        """Does nothing: training writes the config when it starts, and evaluation does not write it."""

    def train(self) -> nn.Module:
        """Trains from scratch or from a checkpoint, and returns the model.

        Raises:
            Preempted: A signal asked to stop, and the state is saved. If not caught, the process exits with
                EXIT_PREEMPTED.
            TrainingDiverged: Too many losses or gradients were not finite.
            CheckpointError: There are checkpoints to resume from, but none is intact and fits the config.
            CheckpointWriteError: A checkpoint cannot be written.
            FolderInUse: Another process trains in the work dir.
            ResumeMismatch: The config or the data differs from that of the checkpoint to resume from.
            ValueError: The config defines no training.
        """
        if self._train_loop is None:
            raise ValueError("The config defines no training: it needs train_dataloader, train_cfg and optim_wrapper.")
        with self._locked_work_dir(), self.stop_request:
            self.is_training = True
            try:
                self._prepare()
                self.train_loop.run()
                self.call_hook("after_run")
            finally:
                self.is_training = False
                self.call_hook("leave")
                self._shutdown_workers()
        return self.model

    @contextlib.contextmanager
    def _locked_work_dir(self) -> Iterator[None]:
        """Context manager in which process 0 holds the lock of the work dir.

        Raises:
            FolderInUse: Another process trains in the work dir, or it cannot be written to.
        """
        lock = FolderLock(self.work_dir, TRAINING_LOCK, "Wait for it, stop it, or choose another --work-dir.")
        problem = None
        with contextlib.ExitStack() as stack:
            if self.rank == 0:
                try:
                    stack.enter_context(lock)
                except (FolderInUse, OSError) as error:
                    problem = str(error)
            # Otherwise the other processes would wait for process 0 forever.
            problem = gather_objects(problem)[0]
            if problem is not None:
                raise FolderInUse(problem)
            yield

    def test(self) -> dict[str, Any]:
        """Evaluates on the test data and returns the metrics."""
        try:
            return super().test()
        finally:
            self.call_hook("leave")
            self._shutdown_workers()

    def _shutdown_workers(self) -> None:
        for loop in (self._train_loop, self._val_loop, self._test_loop):
            if isinstance(loop, BaseLoop):
                shutdown_workers(loop.dataloader)

    def _prepare(self) -> None:
        """Builds everything that training needs, and restores the state of a checkpoint or loads initial weights."""
        candidates = ResumeCandidates(self._resume, self.work_dir, self.logger)
        found = candidates.next()
        if found is not None:
            self._restore_seed(found[1]["meta"]["seed"])
        self._train_loop = self.build_train_loop(self._train_loop)  # pyright: ignore[reportArgumentType]  # train() checked it
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        self.scale_lr(self.optim_wrapper, self.auto_scale_lr)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        if self._val_loop is not None:
            self._val_loop = self.build_val_loop(self._val_loop)
        path, state = candidates.choose(self, found) or (None, {})
        self._start_vis_backends()
        if self.rank == 0:
            self._prepare_work_dir(path, state, candidates.skipped)
        barrier()
        self._write_classes()
        self.call_hook("before_run")
        if state:
            for change in changed_settings(self, state):
                self.logger.warning(f"Resuming from {path}: {change}.")
            restore_state(self, state)
            self.logger.info(f"Resumed from {path}: epoch {self.epoch}, iteration {self.iter}.")
        else:
            self._init_model_weights()
            self.load_or_resume()
        self._has_loaded = True
        classes = getattr(self.train_loop.dataloader.dataset, "classes", None)
        self.preprocessing = Preprocessing.from_config(self.cfg, unwrap_model(self.model), classes)
        self.preprocessing.write_to(unwrap_model(self.model))

    def _prepare_work_dir(self, path: Path | None, state: Mapping[str, Any], skipped: Iterable[Path]) -> None:
        """Moves files of an earlier training out of the way, and writes the config."""
        continues = path is not None and path.resolve().parent == Path(self.work_dir).resolve()
        iteration = state["meta"]["iter"] if continues else None
        set_aside_earlier_files(self.work_dir, iteration, self.timestamp, self.logger, skipped)
        remove_leftovers(self.work_dir)
        write_text(Path(self.work_dir) / CONFIG, config_text(self.cfg))

    def _write_classes(self) -> None:
        """Writes the class names, which are used for predictions without the data."""
        path = Path(self.work_dir) / CLASS_NAMES
        classes = getattr(self.train_loop.dataloader.dataset, "classes", None)
        if self.rank != 0:
            return
        if classes:
            write_json(path, list(classes))
        else:
            path.unlink(missing_ok=True)  # from an earlier training

    def _restore_seed(self, seed: int) -> None:
        if seed == self.seed:
            return
        if self._randomness_cfg.get("seed") is not None:
            self.logger.warning(f"The seed {seed} of the checkpoint overrides the seed {self.seed} of the config.")
        self.set_randomness(**{**self._randomness_cfg, "seed": seed})
        if self._model_has_run_seed:
            vars(unwrap_model(self.model))["seed"] = seed

    def stop(self) -> None:
        """Saves a checkpoint and stops, because a signal asked for it; all processes must call this.

        Raises:
            Preempted: Always.
        """
        if not self.is_training:
            raise Preempted(f"Stopped by {self.stop_request.reason}.", self.stop_request.exit_code)
        hook = self._hook(CheckpointHook)
        reason = f"Stopped by {self.stop_request.reason} at epoch {self.epoch + 1}, iteration {self.iter}"
        if hook is None:
            message = f"{reason}; nothing was saved, because there is no CheckpointHook."
        else:
            path = hook.save(self)
            message = f"{reason}; saved {path}. To continue, run the same command with --resume."
        self.logger.warning(message)
        raise Preempted(message, self.stop_request.exit_code)

    def training_state(self) -> dict[str, Any]:
        """Returns the complete state of the run, see `collect_state`; all processes must call this."""
        return collect_state(self)

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Not supported: set `resume` in the config instead.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("Set resume=True, or resume='path', in the config.")

    def load_or_resume(self) -> None:
        """Loads the weights of `load_from`, if the config has it and nothing was loaded before."""
        if self._load_from is not None and not self._has_loaded:
            self.load_checkpoint(self._load_from)
            self._has_loaded = True

    def load_checkpoint(self, filename: str, use_ema: bool | None = None, **kwargs: Any) -> None:
        """Loads weights to start from, or to evaluate. To continue a training, set `resume` instead.

        Args:
            filename: A checkpoint of the same task, or anything that `attnzoo.load_weights` accepts: a checkpoint of a
                detector or segmentor with its heads, or of a backbone.
            use_ema: Whether to load averaged weights; by default if there are any.
            **kwargs: Ignored; arguments of mmengine's Runner.
        """
        from ..weights import fetch, load_weights, read_checkpoint, weights_target

        model = unwrap_model(self.model)
        checkpoint = read_checkpoint(fetch(filename))
        key = "ema_state_dict" if use_ema is not False and "ema_state_dict" in checkpoint else "state_dict"
        state = checkpoint.get(key, {})
        own = model.state_dict()
        wanted = key == "ema_state_dict" or not use_ema
        if wanted and state.keys() == own.keys() and all(state[name].shape == own[name].shape for name in own):
            model.load_state_dict(state)
        else:
            load_weights(weights_target(model, checkpoint), checkpoint, use_ema=use_ema)
        self.logger.info(f"Loaded weights from {filename}.")

    def results(self) -> dict[str, Any]:
        """Returns the position of training, the last metrics, and the best ones with their files, as plain types."""
        hook, guard = self._hook(CheckpointHook), self._hook(NonFiniteGuardHook)
        return {
            "epoch": self.epoch,
            "iter": self.iter,
            "metrics": {name: value for name, value in self.last_metrics.items() if isinstance(value, (int, float))},
            "best": copy.deepcopy(hook.best) if hook is not None else {},
            "skipped_steps": len(guard.records) if guard is not None else 0,
        }


__getattr__ = renamed_names(__name__, {"CLASSES": "zoo.work_dir.CLASS_NAMES"})
