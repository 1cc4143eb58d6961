"""When checkpoints are written, which are kept, and which is the best."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from attnzoo.zoo.evaluation import Metric, MetricInfo
from attnzoo.zoo.registry import METRICS
from attnzoo.zoo.training import CheckpointWriteError, checkpoint_hook
from attnzoo.zoo.training.checkpoint_hook import CheckpointHook, infer_rule
from attnzoo.zoo.work_dir import read_training_checkpoint
from support.full_disk import full_disk
from support.training_toy import build, toy_config


def test_full_disk_in_training_stops_with_the_last_good_checkpoint(tmp_path):
    config = toy_config(tmp_path, default_hooks__checkpoint={"type": "CheckpointHook", "max_keep_ckpts": 1})
    runner = build(config)
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    save = hook.save

    def save_on_full_disk(runner):
        if runner.epoch < 2:
            return save(runner)
        with full_disk():
            return save(runner)

    hook.save = save_on_full_disk
    with pytest.raises(CheckpointWriteError, match=r"last good checkpoint is .*epoch_1\.pth"):
        runner.train()
    assert (tmp_path / "last_checkpoint").read_text() == "epoch_1.pth\n"
    resumed = build({**config, "resume": True})
    resumed.train()
    assert resumed.iter == 15


def test_keeps_the_newest_and_the_best(tmp_path):
    checkpoint = {"type": "CheckpointHook", "max_keep_ckpts": 2, "save_best": "top1"}
    runner = build(toy_config(tmp_path, default_hooks__checkpoint=checkpoint, train_cfg__max_epochs=4))
    values = iter([50.0, 70.0, float("nan"), 70.0])  # of equal values, the first is the best
    runner.val_loop.evaluator.evaluate = lambda size: {"top1": next(values)}
    runner.train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["best_top1.pth", "epoch_3.pth", "epoch_4.pth"]
    assert runner.results()["best"]["top1"] == {"value": 70.0, "epoch": 2, "iter": 10, "file": "best_top1.pth"}
    assert read_training_checkpoint(tmp_path / "best_top1.pth")["meta"]["epoch"] == 2
    assert json.dumps(runner.results())


def test_less_can_be_better(tmp_path):
    hook = {"type": "CheckpointHook", "save_best": ["val_loss", "score"], "rule": [None, "less"]}
    runner = build(toy_config(tmp_path, default_hooks__checkpoint=hook, train_cfg__max_epochs=2))
    values = iter([1.0, 2.0])
    runner.val_loop.evaluator.evaluate = lambda size: {"val_loss": (value := next(values)), "score": -value}
    runner.train()
    best = runner.results()["best"]
    assert (best["val_loss"]["epoch"], best["score"]["epoch"]) == (1, 2)
    assert infer_rule("coco/bbox_mAP") == infer_rule("top5") == "greater"
    with pytest.raises(ValueError, match="rule="):
        infer_rule("score")


@pytest.mark.parametrize(
    ("metric", "rule"),
    [
        ("IoU.terrain", "greater"),
        ("raw_IoU.terrain", "greater"),
        ("val/Acc.car/error", "greater"),
        ("raw_top1", "greater"),
        ("mean_class_top1", "greater"),
        ("segm_AR_100", "greater"),
        ("Dice.terrain", "greater"),
        ("accuracy", "greater"),
        ("val_error", "less"),
        ("top1_error", "less"),
    ],
)
def test_rules_by_name(metric, rule):
    assert infer_rule(metric) == rule


def test_the_metrics_of_the_run_know_their_rules(monkeypatch):
    class Gap(Metric):
        @classmethod
        def metric_infos(cls, classes=(), **arguments):
            return [MetricInfo(f"Gap.{name}", higher_is_better=name == "map") for name in classes or ()]

    monkeypatch.setitem(METRICS.module_dict, "Gap", Gap)
    data = SimpleNamespace(dataset=SimpleNamespace(classes=("map", "accuracy")))
    cfg = {"val_evaluator": {"type": "Gap"}, "custom_hooks": [{"type": "EMAHook", "evaluate_raw": True}]}
    runner = SimpleNamespace(cfg=cfg, val_loop=SimpleNamespace(dataloader=data))
    hook = CheckpointHook(save_best=["Gap.map", "Gap.accuracy", "raw_Gap.accuracy"])
    hook.before_train(runner)
    assert list(hook.rules.values()) == ["greater", "less", "less"]
    with pytest.raises(ValueError, match="needs rule="):
        CheckpointHook(save_best="Gap.other").before_train(runner)


def test_an_unknown_metric_names_the_nearest(tmp_path):
    config = toy_config(tmp_path, train_cfg__max_epochs=1)
    config["default_hooks"]["checkpoint"]["save_best"] = "top_1"
    with pytest.raises(ValueError, match="Did you mean 'top1'"):
        build(config).train()


@pytest.mark.parametrize("arguments", [{"interval": 0}, {"max_keep_ckpts": 0}, {"save_best": "top1", "rule": "more"}])
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="CheckpointHook"):
        CheckpointHook(**arguments)


def test_faults_after_the_checkpoint_is_written(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    def unlink(path, missing_ok=False):
        if path.name.startswith("epoch_"):
            fail()

    config = toy_config(tmp_path, train_cfg__max_epochs=2)
    config["default_hooks"]["checkpoint"] = {"type": "CheckpointHook", "max_keep_ckpts": 1}
    runner = build(config)
    warnings: list[str] = []
    monkeypatch.setattr(runner.logger, "warning", warnings.append)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        runner.train()
    assert len(list(tmp_path.glob("epoch_*.pth"))) == 2
    assert "could not be removed: [Errno 30] Read-only file system" in warnings[0]

    monkeypatch.setattr(checkpoint_hook, "write_text", fail)
    with pytest.raises(CheckpointWriteError, match=r"Read-only file system.*last good checkpoint is .*epoch_1\.pth"):
        build({**config, "work_dir": str(tmp_path / "other")}).train()
