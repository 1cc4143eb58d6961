"""End-to-end tests of tools/compare.py on a tiny folder of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnzoo.tools import compare
from attnzoo.zoo.analysis import mixer_comparison
from attnzoo.zoo.config import load_config
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
MEASUREMENT_OPTIONS = ["--batch-size", "2", "--repeats", "1"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, next to a folder of 8 training and 4 validation images in two colors."""
    folder = tmp_path_factory.mktemp("compare")
    noise = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, color in (("blue", (40, 60, 220)), ("red", (220, 50, 40))):
            (folder / "images" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(np.array(color) + noise.integers(-40, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / name / f"{index}.png")
    path = folder / "tiny.py"
    text = CONFIG.replace("{bases}", str(CONFIG_ROOT / "_base_")).replace("{root}", str(folder / "images"))
    path.write_text(text)
    return path


def run(config: Path, work_dir: Path, mixers: list[str], *more: str) -> int:
    return compare.main([str(config), "--work-dir", str(work_dir), "--mixers", *mixers, *MEASUREMENT_OPTIONS, *more])


def candidates(work_dir: Path) -> dict[str, dict[str, Any]]:
    report = json.loads((work_dir / "comparison.json").read_text())
    return {one["name"]: one for one in report["candidates"]}


@pytest.fixture
def started_runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Records the training runs that start: mixer, and whether it resumes from a checkpoint."""
    runs = []

    def build(cfg: Any) -> Any:
        runs.append((cfg.model.backbone.mixer, cfg.resume))
        return build_runner(cfg)

    build_runner = mixer_comparison.build_runner
    monkeypatch.setattr(mixer_comparison, "build_runner", build)
    return runs


def test_comparison(
    config: Path, tmp_path: Path, started_runs: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
):
    assert run(config, tmp_path, ["pool", "window,full"], "--seed", "5") == 0
    assert started_runs == [("pool", False), (["window", "full"], False)]
    assert "| pool |" in capsys.readouterr().out
    first = candidates(tmp_path)
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

    # Finished mixers are not trained again, but new ones are.
    started_runs.clear()
    assert run(config, tmp_path, ["pool", "identity"], "--seed", "5") == 0
    assert started_runs == [("identity", False)]
    second = candidates(tmp_path)
    assert list(second) == ["pool", "identity"]
    assert second["pool"]["top1"] == first["pool"]["top1"]
    # With --retrain or a different recipe, all are trained again.
    started_runs.clear()
    assert run(config, tmp_path, ["pool"], "--seed", "5", "--retrain") == 0
    assert run(config, tmp_path, ["pool"], "--seed", "6") == 0
    assert started_runs == [("pool", False), ("pool", False)]


@pytest.mark.slow
def test_failing_mixer_is_reported_and_the_others_continue(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--cfg-options", "model.backbone.mixer_kwargs={'pool_size': 5}", "train_cfg.max_epochs=1"]
    assert run(config, tmp_path, ["lka", "pool"], *options) == 1
    rows = candidates(tmp_path)
    assert "The mixer 'lka' has no argument 'pool_size'" in rows["lka"]["error"]
    assert rows["lka"]["top1"] is None
    assert rows["pool"]["error"] is None
    assert rows["pool"]["throughput"] > 0
    assert "lka failed: " in capsys.readouterr().err
    assert "- lka failed: " in (tmp_path / "comparison.md").read_text()


@pytest.mark.slow
def test_preempted_training_is_resumed(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started_runs: list[tuple[str, bool]]
):
    train = Runner.train

    def stopped(runner: Runner) -> Any:
        raise Preempted("Stopped by SIGTERM.")

    monkeypatch.setattr(Runner, "train", stopped)
    assert run(config, tmp_path, ["pool", "identity"]) == EXIT_PREEMPTED
    assert not (tmp_path / "comparison.json").exists()
    monkeypatch.setattr(Runner, "train", train)
    assert run(config, tmp_path, ["pool", "identity"]) == 0
    assert started_runs == [("pool", False), ("pool", True), ("identity", False)]


def test_model_that_fails_in_measurements_keeps_its_accuracy(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    count_macs = mixer_comparison.count_macs

    def fails(model: Any, *args: Any) -> int:
        if model.mixers[0] == "pool":
            raise RuntimeError("out of memory")
        return count_macs(model, *args)

    monkeypatch.setattr(mixer_comparison, "count_macs", fails)
    assert run(config, tmp_path, ["pool", "identity"]) == 1
    rows = candidates(tmp_path)
    assert rows["pool"]["error"] == "RuntimeError: out of memory"
    assert rows["pool"]["top1"] is not None
    assert rows["pool"]["throughput"] is None
    assert rows["identity"]["macs"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mixers", "bifomer"], "Unknown mixer 'bifomer'. Did you mean 'biformer'"),
        (["--mixers", "pool,lkaa"], "Unknown mixer 'lkaa'. Did you mean 'lka'"),
        (["--mixers", "pool,pool,pool"], "mixer must have one entry per stage, got 3 for 2 stages"),
        (["--repeats", "0"], "--repeats must be >= 1, got 0."),
        (["--launcher", "pytorch"], "--launcher must be none"),
        (["--cfg-options", "model.backbone.type=nat_mini"], "model.backbone"),
        (["--cfg-options", "val_evaluator=none"], "so the mixers cannot be compared"),
        (["--cfg-options", "model.backbone.num_classes=3"], "is 3, but train_dataloader.dataset has 2 classes"),
    ],
)
def test_user_errors(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    code = compare.main([str(config), "--work-dir", str(tmp_path / "work"), *arguments])
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    if "stages" in message:  # affects only one mixer, so the others could continue
        assert code == 1
    else:
        assert code == 2
        assert not (tmp_path / "work").exists()


def test_config_without_mixers_is_rejected(capsys: pytest.CaptureFixture[str]):
    assert compare.main(["nat_digits", "--mixers", "pool"]) == 2
    assert "must be a body that takes a mixer" in capsys.readouterr().err
