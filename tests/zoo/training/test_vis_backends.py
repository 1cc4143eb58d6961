"""The visualization backends of a config get its log, and cannot end the training."""

from __future__ import annotations

import sys
import types
from typing import Any, ClassVar

import pytest
from mmengine.visualization.vis_backend import BaseVisBackend, force_init_env
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attnzoo.zoo.registry import VISUALIZER_BACKENDS
from attnzoo.zoo.training import read_scalars
from support.training_toy import build, run_ranks, toy_config


@VISUALIZER_BACKENDS.register_module()
class MemoryVisBackend(BaseVisBackend):
    """Keeps what it gets. It fails from the call `broken_from` on, `broken_for` times."""

    calls: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, save_dir: str, broken_from: int | None = None, broken_for: int = 10**6) -> None:
        super().__init__(save_dir)
        self.count, self.broken_from, self.broken_for = 0, broken_from, broken_for

    def _init_env(self) -> None:
        self.calls.append(("start", self._save_dir))

    @property
    @force_init_env
    def experiment(self) -> Any:
        return self

    def _note(self, *what: Any) -> None:
        self.count += 1
        if self.broken_from is not None and 0 <= self.count - self.broken_from < self.broken_for:
            raise ConnectionError("no route to host")
        self.calls.append(what)

    def add_config(self, config: Any, **kwargs: Any) -> None:
        self._note("config", config)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        self._note("scalars", scalar_dict, step)

    def close(self) -> None:
        self._note("close")


@pytest.fixture(autouse=True)
def calls():
    MemoryVisBackend.calls.clear()
    return MemoryVisBackend.calls


def config(work_dir, *backends, **changes):
    visualizer = {"type": "Visualizer", "vis_backends": list(backends)}
    return toy_config(work_dir, visualizer=visualizer, train_cfg__max_epochs=1, **changes)


def test_the_config_and_all_scalars_are_sent(tmp_path, calls):
    runner = build(config(tmp_path, {"type": "MemoryVisBackend"}))
    assert not calls  # evaluations do not start a run
    runner.train()
    assert [call[0] for call in calls] == ["start", "config", *["scalars"] * 6, "close"]
    assert calls[1][1].model.type == "ToyModel"
    records = read_scalars(tmp_path)
    for (_, scalars, step), record in zip(calls[2:-1], records, strict=True):
        assert step == record["iter"] == scalars["iter"]
        assert scalars[f"{record['mode']}/{'loss' if record['mode'] == 'train' else 'top1'}"] is not None
    assert calls[2][1]["train/loss"] == records[0]["loss"]


@pytest.mark.parametrize(("broken_for", "sent"), [(10**6, 1), (2, 4)], ids=["lost", "back"])
def test_a_backend_that_fails_does_not_end_the_training(tmp_path, calls, broken_for, sent):
    failing = {"type": "MemoryVisBackend", "broken_from": 3, "broken_for": broken_for}
    runner = build(config(tmp_path, failing))
    warnings: list[str] = []
    runner.logger.warning = warnings.append
    runner.train()
    assert (tmp_path / "epoch_1.pth").exists()
    assert sum(call[0] == "scalars" for call in calls) == sent
    assert "MemoryVisBackend failed: ConnectionError('no route to host'). Training continues." in warnings[0]
    assert ("as it failed 3 times in a row" in warnings[-1]) == (sent == 1)
    assert len(warnings) == min(broken_for, 3)


def test_tensorboard(tmp_path):
    build(config(tmp_path, {"type": "TensorboardVisBackend"})).train()
    (folder,) = tmp_path.glob("*/vis_data")
    events = EventAccumulator(str(folder)).Reload()
    expected = {record["iter"]: record["loss"] for record in read_scalars(tmp_path) if record["mode"] == "train"}
    assert {event.step: event.value for event in events.Scalars("train/loss")} == pytest.approx(expected)
    assert events.Scalars("val/top1")[0].step == 5


@pytest.mark.parametrize(("backend", "package"), [("WandbVisBackend", "wandb"), ("MLflowVisBackend", "mlflow")])
def test_a_missing_package_is_named_before_training(tmp_path, monkeypatch, backend, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"{backend} cannot be started: .*pip install {package}"):
        build(config(tmp_path, {"type": backend})).train()
    assert not list(tmp_path.glob("*.pth"))


class Recorder(types.ModuleType):
    """A module whose functions record their calls."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.recorded: dict[str, list] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.recorded.setdefault(name, []).append((args, kwargs))


def test_mlflow_gets_a_database_because_it_refuses_folders(tmp_path, monkeypatch):
    mlflow = Recorder("mlflow")
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    build(config(tmp_path, {"type": "MLflowVisBackend"})).train()
    assert mlflow.recorded["set_tracking_uri"] == [((f"sqlite:///{tmp_path.resolve()}/mlflow.db",), {})]
    scalars, step = mlflow.recorded["log_metrics"][0][0]
    assert step == 1
    assert "train/loss" in scalars
    assert "end_run" in mlflow.recorded


def test_weights_and_biases_plots_by_iteration(tmp_path, monkeypatch):
    wandb: Any = Recorder("wandb")
    wandb.config, wandb.run = Recorder("config"), Recorder("run")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    build(config(tmp_path, {"type": "WandbVisBackend", "init_kwargs": {"project": "toy"}})).train()
    assert wandb.recorded["init"][0][1]["project"] == "toy"
    assert wandb.recorded["define_metric"] == [((), {"name": "*", "step_metric": "iter"})]
    assert wandb.config.recorded["update"][0][0][0]["model"]["type"] == "ToyModel"
    assert [args[0]["iter"] for args, _ in wandb.recorded["log"]] == [1, 2, 3, 4, 5, 5]


def test_two_backends_of_one_name(tmp_path):
    with pytest.raises(ValueError, match="two backends named 'MemoryVisBackend'"):
        build(config(tmp_path, {"type": "MemoryVisBackend"}, {"type": "MemoryVisBackend"})).train()


@pytest.mark.slow
def test_only_one_process_sends(tmp_path):
    def train(rank: int) -> None:
        settings = config(tmp_path, {"type": "MemoryVisBackend"}, launcher="pytorch", param_scheduler=None)
        build(settings).train()
        assert bool(MemoryVisBackend.calls) == (rank == 0)

    assert run_ranks(train) == [0, 0]
