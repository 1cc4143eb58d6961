"""tools/compare.py end to end on a tiny folder of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnzoo.tools import compare
from attnzoo.zoo.config import list_configs, load_config
from attnzoo.zoo.config.loading import CONFIG_ROOT
from attnzoo.zoo.training import EXIT_PREEMPTED, Preempted, Runner

CONFIG = """
_base_ = ["{bases}/default_runtime.py"]
model = dict(
    type="Classifier",
    backbone=dict(
        type="metaformer_micro", depths=(1, 1), embed_dims=(8, 16), head_dim=8, img_size=16, num_classes=2
    ),
    data_preprocessor=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
)
_data = dict(type="ImageClassificationDataset", root="{root}")
_loader = dict(num_workers=0, collate_fn=dict(type="classification_collate"))
train_dataloader = dict(
    batch_size=4,
    sampler=dict(type="EpochSampler"),
    dataset=dict(split="train", transform=dict(type="SmallImageTrain", size=16, padding=2), **_data),
    **_loader,
)
val_dataloader = dict(
    batch_size=4,
    sampler=dict(type="EvaluationSampler"),
    dataset=dict(split="val", transform=dict(type="Evaluation", size=16, crop_pct=1.0), **_data),
    **_loader,
)
val_evaluator = dict(type="Accuracy", topk=(1,))
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-3))
train_cfg = dict(type="EpochTrainLoop", max_epochs=2)
val_cfg = dict(type="ValLoop")
"""
MEASURING = ["--batch-size", "2", "--repeats", "1"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, beside a folder of 8 training and 4 validation images in two colours."""
    folder = tmp_path_factory.mktemp("compare")
    noise = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, colour in (("blue", (40, 60, 220)), ("red", (220, 50, 40))):
            (folder / "images" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(np.array(colour) + noise.integers(-40, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / name / f"{index}.png")
    path = folder / "tiny.py"
    text = CONFIG.replace("{bases}", str(CONFIG_ROOT / "_base_")).replace("{root}", str(folder / "images"))
    path.write_text(text)
    return path


def run(config: Path, work_dir: Path, mixers: list[str], *more: str) -> int:
    return compare.main([str(config), "--work-dir", str(work_dir), "--mixers", *mixers, *MEASURING, *more])


def contenders(work_dir: Path) -> dict[str, dict[str, Any]]:
    report = json.loads((work_dir / "comparison.json").read_text())
    return {one["name"]: one for one in report["contenders"]}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The trainings that are begun: their mixer and whether they go on from a checkpoint."""
    begun = []

    def build(cfg: Any) -> Any:
        begun.append((cfg.model.backbone.mixer, cfg.resume))
        return build_runner(cfg)

    build_runner = compare.build_runner
    monkeypatch.setattr(compare, "build_runner", build)
    return begun


def test_comparison(
    config: Path, tmp_path: Path, trainings: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
):
    assert run(config, tmp_path, ["pool", "window,full"], "--seed", "5") == 0
    assert trainings == [("pool", False), (["window", "full"], False)]
    assert "| pool |" in capsys.readouterr().out
    first = contenders(tmp_path)
    assert list(first) == ["pool", "window,full"]
    for row in first.values():
        assert row["error"] is None
        assert 0 <= row["top1"] <= row["best_top1"] <= 100
        for key in (
            "parameters",
            "macs",
            "throughput",
            "train_throughput",
            "peak_bytes",
            "train_peak_bytes",
            "seconds",
        ):
            assert row[key] > 0, key
        assert row["train_peak_bytes"] > row["peak_bytes"]
    assert first["window,full"]["parameters"] > first["pool"]["parameters"]
    with Image.open(tmp_path / "comparison.png") as image:
        assert image.size[0] > 1000
    page = (tmp_path / "comparison.md").read_text()
    assert "2 epochs, seed 5, 16x16 pixels" in page
    assert load_config(tmp_path / "window+full" / "config.py").randomness.seed == 5

    # What is finished is not trained again, what is new is.
    trainings.clear()
    assert run(config, tmp_path, ["pool", "identity"], "--seed", "5") == 0
    assert trainings == [("identity", False)]
    second = contenders(tmp_path)
    assert list(second) == ["pool", "identity"]
    assert second["pool"]["top1"] == first["pool"]["top1"]
    # Unless it is asked for, or the recipe is another.
    trainings.clear()
    assert run(config, tmp_path, ["pool"], "--seed", "5", "--retrain") == 0
    assert run(config, tmp_path, ["pool"], "--seed", "6") == 0
    assert trainings == [("pool", False), ("pool", False)]


def test_a_mixer_that_fails_is_reported_and_the_others_go_on(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--cfg-options", "model.backbone.mixer_kwargs={'pool_size': 5}", "train_cfg.max_epochs=1"]
    assert run(config, tmp_path, ["lka", "pool"], *options) == 1
    rows = contenders(tmp_path)
    assert "no argument of the mixer 'lka' 'pool_size'" in rows["lka"]["error"]
    assert rows["lka"]["top1"] is None
    assert rows["pool"]["error"] is None
    assert rows["pool"]["throughput"] > 0
    assert "lka failed: " in capsys.readouterr().err
    assert "- lka failed: " in (tmp_path / "comparison.md").read_text()


def test_a_training_that_was_stopped_goes_on(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[tuple[str, bool]]
):
    train = Runner.train

    def stopped(runner: Runner) -> Any:
        raise Preempted("Stopped by SIGTERM.")

    monkeypatch.setattr(Runner, "train", stopped)
    assert run(config, tmp_path, ["pool", "identity"]) == EXIT_PREEMPTED
    assert not (tmp_path / "comparison.json").exists()
    monkeypatch.setattr(Runner, "train", train)
    assert run(config, tmp_path, ["pool", "identity"]) == 0
    assert trainings == [("pool", False), ("pool", True), ("identity", False)]


def test_a_body_that_fails_while_it_is_measured_keeps_its_accuracy(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    count_macs = compare.count_macs

    def fails(model: Any, *args: Any) -> int:
        if model.mixers[0] == "pool":
            raise RuntimeError("out of memory")
        return count_macs(model, *args)

    monkeypatch.setattr(compare, "count_macs", fails)
    assert run(config, tmp_path, ["pool", "identity"]) == 1
    rows = contenders(tmp_path)
    assert rows["pool"]["error"] == "RuntimeError: out of memory"
    assert rows["pool"]["top1"] is not None
    assert rows["pool"]["throughput"] is None
    assert rows["identity"]["macs"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mixers", "bifomer"], "There is no mixer 'bifomer'. Did you mean 'biformer'"),
        (["--mixers", "pool,lkaa"], "There is no mixer 'lkaa'. Did you mean 'lka'"),
        (["--mixers", "pool,pool,pool"], "mixer must have one entry per stage, got 3 for 2 stages"),
        (["--repeats", "0"], "--repeats must be at least 1, but is 0"),
        (["--launcher", "pytorch"], "--launcher must be none"),
        (["--cfg-options", "model.backbone.type=nat_mini"], "model.backbone"),
        (["--cfg-options", "val_evaluator=none"], "nothing to compare by"),
        (["--cfg-options", "model.backbone.num_classes=3"], "is 3, but train_dataloader.dataset has 2 classes"),
    ],
)
def test_mistakes_are_one_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    code = compare.main([str(config), "--work-dir", str(tmp_path / "work"), *arguments])
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    if "stages" in said:  # a mistake in one of several mixers; the others could have gone on
        assert code == 1
    else:
        assert code == 2
        assert not (tmp_path / "work").exists()


def test_a_config_without_a_body_for_mixers_is_refused(capsys: pytest.CaptureFixture[str]):
    assert compare.main(["nat_digits", "--mixers", "pool"]) == 2
    assert "must be a body that takes a mixer" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in list_configs() if name.startswith("compare/")])
def test_shipped_comparisons_differ_in_nothing_but_the_mixer(name: str):
    cfg = load_config(name)
    assert cfg.model.backbone.type == "metaformer_micro"
    assert "mixer_kwargs" not in cfg.model.backbone
    assert cfg.train_cfg.max_epochs % cfg.train_cfg.val_interval == 0
    one, other = compare.with_mixer(cfg_with_folder(name), "lka"), compare.with_mixer(cfg_with_folder(name), "halo")
    assert one.pop("work_dir") != other.pop("work_dir")
    other.model.backbone.mixer = "lka"
    assert one.to_dict() == other.to_dict()


def cfg_with_folder(name: str) -> Any:
    cfg = load_config(name)
    cfg.work_dir = "work_dirs/compare"
    return cfg
