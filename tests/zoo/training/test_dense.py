"""Detectors and segmentors trained and evaluated from config, in one process and in two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attnzoo.zoo.config import check_config, load_config
from attnzoo.zoo.data.examples.scenes import make_scenes
from attnzoo.zoo.training import build_runner, read_scalars, read_training_checkpoint
from support.slow import slow_except
from support.training_toy import run_ranks, same

SMALL = [
    "model.backbone.depths=[1,1,1]",
    "model.neck.out_channels=16",
    "train_cfg.max_epochs=1",
    "param_scheduler.warmup_iters=1",
    "default_hooks.logger.interval=1",
]
TASKS: dict[str, tuple[str, list[str], str]] = {
    "detector": (
        "quickstart/nat_mask-rcnn_scenes",
        [
            "model.backbone.embed_dims=[8,16,16]",
            "model.backbone.num_heads=[1,1,1]",
            "model.backbone.kernel_size=3",
            "model.rpn_head.feat_channels=16",
            "model.roi_head.bbox_head.fc_channels=16",
            "model.roi_head.mask_head.num_convs=1",
            "model.roi_head.test.score_thr=0.0",
            "model.roi_head.test.max_per_img=20",
            "train_dataloader.dataset.transform.scales=[[64,64]]",
        ],
        "bbox_mAP_50",
    ),
    "segmentor": (
        "quickstart/eca_semantic-fpn_scenes",
        [
            "model.backbone.planes=[8,16,16]",
            "model.decode_head.channels=16",
            "train_dataloader.dataset.transform.crop_size=[64,64]",
        ],
        "mIoU",
    ),
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(out, size=64, train=8, val=5, most=2)
    return out


def config(task: str, scenes: Path, work_dir: Path, batch_size: int = 4, **changes: Any) -> Any:
    name, options, _ = TASKS[task]
    loaders = ("train_dataloader", "val_dataloader", "test_dataloader")
    options = [*SMALL, *options, *(f"{loader}.dataset.root={scenes}" for loader in loaders)]
    cfg = load_config(name, [*options, f"train_dataloader.batch_size={batch_size}", "val_dataloader.batch_size=2"])
    cfg.work_dir = str(work_dir)
    for key, value in changes.items():
        cfg[key] = value
    return cfg


def evaluate(cfg: Any) -> dict[str, float]:
    cfg.load_from = str(Path(cfg.work_dir) / "epoch_1.pth")
    runner = build_runner(cfg)
    return runner.test()


@pytest.mark.parametrize("task", TASKS)
def test_a_trained_task_is_evaluated_and_resumed(task: str, scenes: Path, tmp_path: Path):
    cfg = config(task, scenes, tmp_path)
    check_config(cfg)
    build_runner(cfg).train()
    records = read_scalars(tmp_path)
    losses = [record["loss"] for record in records if record["mode"] == "train"]
    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(losses)))
    (validation,) = [record for record in records if record["mode"] == "val"]
    figure = TASKS[task][2]
    assert 0 <= validation[figure] <= 100
    # The checkpoint alone gives the same metric.
    assert evaluate(config(task, scenes, tmp_path))[figure] == pytest.approx(validation[figure], abs=1e-9)


@pytest.mark.parametrize("task", slow_except(TASKS, ["segmentor"]))
def test_a_killed_training_ends_with_the_same_bits(task: str, scenes: Path, tmp_path: Path):
    through, stopped = tmp_path / "through", tmp_path / "stopped"
    hooks = {"checkpoint": {"by_epoch": False, "interval": 1}}
    build_runner(config(task, scenes, through, default_hooks=hooks)).train()
    first = config(task, scenes, stopped, default_hooks=hooks)
    build_runner(first).train()
    for path in stopped.glob("epoch_*.pth"):
        path.unlink()  # what is left stands in the middle of the epoch
    build_runner(config(task, scenes, stopped, default_hooks=hooks, resume=True)).train()
    ours, theirs = (read_training_checkpoint(folder / "epoch_1.pth") for folder in (stopped, through))
    assert same(ours["state_dict"], theirs["state_dict"]) == []


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_train_together_and_evaluate_as_one(task: str, scenes: Path, tmp_path: Path):
    two = tmp_path / "two"

    def train(rank: int) -> None:
        torch.set_num_threads(1)
        cfg = config(task, scenes, two, batch_size=2, launcher="pytorch")
        cfg.val_evaluator.out_file = str(tmp_path / "together")
        build_runner(cfg).train()

    assert run_ranks(train) == [0, 0]
    (together,) = [record for record in read_scalars(two) if record["mode"] == "val"]
    cfg = config(task, scenes, two)
    cfg.test_evaluator.out_file = str(tmp_path / "alone")
    for name, value in evaluate(cfg).items():
        assert together[name] == pytest.approx(value, abs=1e-9), name
    # The metrics of an untrained detector are mostly 0, but its detections are not empty.
    written = sorted(path.name for path in tmp_path.glob("together*"))
    assert written == (["together.bbox.json", "together.segm.json"] if task == "detector" else ["together"])
    ours = [json.loads((tmp_path / name).read_text()) for name in written]
    theirs = [json.loads((tmp_path / name.replace("together", "alone")).read_text()) for name in written]
    if task == "segmentor":
        assert ours == theirs
        return
    for found, expected in zip(ours, theirs, strict=True):
        # Images are batched differently, so the last digit of a score may differ, and with it the order of two.
        assert len(found) == len(expected) > 5
        assert [one["image_id"] for one in found] == [one["image_id"] for one in expected]
        scores = [torch.tensor([one["score"] for one in entries]).sort().values for entries in (found, expected)]
        torch.testing.assert_close(*scores, rtol=0, atol=1e-5)
