"""Logging to the visualization backends of a config: Weights & Biases, MLflow, TensorBoard and others of mmengine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.visualization import MLflowVisBackend, WandbVisBackend
from mmengine.visualization.vis_backend import BaseVisBackend

from ..registry import VISUALIZER_BACKENDS

MAX_FAILURES = 3
"""Number of failures in a row after which a backend is not used any more."""


class VisBackends:
    """Sends the config and scalars to backends. A backend that fails while training runs does not end the training.

    Args:
        backends: The backends, by name.
        logger: Logs failures.
    """

    def __init__(self, backends: Mapping[str, BaseVisBackend], logger: logging.Logger) -> None:
        self._backends = dict(backends)
        self._failures = dict.fromkeys(backends, 0)
        self._logger = logger

    def start(self, cfg: Config) -> None:
        """Starts the backends and sends them the config.

        Raises:
            ValueError: A backend cannot be started: its package is not installed, or it cannot log in.
        """
        for name, backend in self._backends.items():
            try:
                _ = backend.experiment  # starts the backend
            except Exception as error:
                raise ValueError(f"visualizer.vis_backends: {name} cannot be started: {error}") from error
        self._call(lambda backend: backend.add_config(cfg))

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Sends scalars.

        Args:
            scalars: Values by name.
            step: Number of completed iterations.
        """
        self._call(lambda backend: backend.add_scalars(dict(scalars), step))

    def close(self) -> None:
        """Closes the backends, which may upload what they have."""
        self._call(lambda backend: backend.close())
        self._backends.clear()

    def _call(self, function: Callable[[BaseVisBackend], None]) -> None:
        for name, backend in list(self._backends.items()):
            try:
                function(backend)
            except Exception as error:
                self._failures[name] += 1
                last = self._failures[name] == MAX_FAILURES
                self._logger.warning(
                    f"{name} failed: {error!r}. Training continues"
                    f"{f' without it, as it failed {MAX_FAILURES} times in a row.' if last else '.'}"
                )
                if last:
                    del self._backends[name]
            else:
                self._failures[name] = 0


def build_backends(
    configs: Mapping[str, Any] | BaseVisBackend | Sequence[Any] | None, save_dir: Path, work_dir: Path
) -> dict[str, BaseVisBackend]:
    """Builds visualization backends without starting them.

    Args:
        configs: Configs of backends, or backends; a config may have a name besides its type.
        save_dir: Folder for the files of backends that write some.
        work_dir: Work dir of the run.

    Returns:
        The backends by name, by default that of their type.

    Raises:
        ValueError: Two backends have the same name.
    """
    if isinstance(configs, (Mapping, BaseVisBackend)):
        configs = [configs]
    backends: dict[str, BaseVisBackend] = {}
    for config in configs or ():
        name = None
        backend = config
        if isinstance(config, Mapping):
            arguments = {"save_dir": str(save_dir), **config}
            name = arguments.pop("name", None)
            kind = arguments["type"]
            kind = VISUALIZER_BACKENDS.get(kind) if isinstance(kind, str) else kind
            if kind is MLflowVisBackend:
                # mmengine's default is a folder, which MLflow 3 refuses.
                arguments.setdefault("tracking_uri", f"sqlite:///{work_dir.resolve() / 'mlflow.db'}")
                arguments.setdefault("artifact_location", (work_dir.resolve() / "mlflow").as_uri())
            elif kind is WandbVisBackend:
                # mmengine does not send the step.
                arguments.setdefault("define_metric_cfg", [{"name": "*", "step_metric": "iter"}])
            backend = VISUALIZER_BACKENDS.build(arguments)
        name = name or type(backend).__name__
        if name in backends:
            raise ValueError(f"visualizer.vis_backends: there are two backends named {name!r}; set `name` of one.")
        backends[name] = backend
    return backends
