"""The recipes in CONTRIBUTING.md work as they are written, from outside of the package."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import attnzoo
from attnzoo.backbones import metaformer, registry
from attnzoo.names import nearest_names
from attnzoo.tools import compare, train
from attnzoo.zoo.analysis import mixer_comparison
from attnzoo.zoo.config import ConfigError, check_config, load_config
from attnzoo.zoo.registry import DATASETS, METRICS, MODELS
from support import painted, tiny_classifier

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
SEGMENTATION = """
_base_ = ["{bases}/default_runtime.py"]
model = dict(
    type="Segmentor",
    backbone=dict(type="metaformer_micro", depths=(1, 1), embed_dims=(32, 64), features_only=True),
    decode_head=dict(type="FCNHead", channels=8, num_classes=4),
)
_data = dict(type="SegmentationFolders", root="{root}", classes=["a", "b", "c", "d"])
_loader = dict(batch_size=2, num_workers=0, collate_fn=dict(type="dense_collate"))
train_dataloader = dict(
    sampler=dict(type="EpochSampler"),
    dataset=dict(transform=dict(type="SegmentationTrain", scale=(40, 32), crop_size=(32, 32)), **_data),
    **_loader,
)
val_dataloader = dict(
    sampler=dict(type="EvaluationSampler"), dataset=dict(transform=dict(type="SegmentationTest"), **_data), **_loader
)
val_evaluator = dict(type="MeanIoU")
default_hooks = dict(checkpoint=dict(save_best="mIoU"))
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3))
train_cfg = dict(type="EpochTrainLoop", max_epochs=1)
val_cfg = dict(type="ValLoop")
"""


def recipe(title: str) -> dict[str, str]:
    """Returns the files of a recipe, by the names in their first lines."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n### {title}\n")[1].split("\n### ")[0]
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", section, flags=re.DOTALL)
    assert blocks, title
    return dict(blocks)


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Writes the files of a recipe beside the small configs; what they register is forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)
    for names in (attnzoo.list_models, DATASETS.names, METRICS.names, MODELS.names):
        names()  # registers everything of the package first
    tables: list[dict[str, Any]] = [one.module_dict for one in (DATASETS, METRICS, MODELS)]
    tables += [metaformer.MIXERS, registry._entries]
    before = [dict(table) for table in tables]
    text = tiny_classifier.write_config(tmp_path).read_text()
    bases = Path(train.__file__).parents[1] / "configs" / "_base_"
    painted.save(tmp_path / "painted")
    text = SEGMENTATION.replace("{root}", str(tmp_path / "painted")).replace("{bases}", str(bases))
    (tmp_path / "tiny_segmentation.py").write_text(text)

    def write(title: str) -> Path:
        for name, content in recipe(title).items():
            (tmp_path / name).write_text(content)
        return tmp_path / "config.py"

    yield write
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)
    for name in set(sys.modules) - modules:
        if name.startswith("my_"):
            del sys.modules[name]


def run(config: Path, *options: str) -> dict:
    """Trains for two steps and evaluates; returns the validation's record."""
    work_dir = config.parent / "work"
    argv = [str(config), "--work-dir", str(work_dir), "--cfg-options", "train_cfg.max_epochs=1", *options]
    assert train.main(argv) == 0
    records = [json.loads(line) for line in (work_dir / "scalars.jsonl").read_text().splitlines()]
    assert records[-1]["mode"] == "val"
    assert records[-1]["iter"] == 2
    return records[-1]


def test_a_backbone(follow):
    record = run(follow("A backbone"))
    assert 0 <= record["top1"] <= 100
    model = attnzoo.create_model("my_backbone_small", num_classes=7, depths=(1, 1))
    assert model(torch.randn(2, 3, 32, 48)).shape == (2, 7)
    assert "my_backbone_small" in attnzoo.list_models()
    maps = attnzoo.create_model("my_backbone_small", features_only=True)(torch.randn(1, 3, 32, 48))
    assert [tuple(one.shape) for one in maps] == [(1, 32, 8, 12)] * 2
    assert nearest_names("my_backbone_smal", attnzoo.list_models())[0] == "my_backbone_small"


def test_a_mixer(follow, tmp_path: Path):
    config = follow("A mixer")
    run(config)
    module = sys.modules["my_mixer"]
    x = torch.randn(2, 5, 7, 8)
    assert module.ShiftMixer(8, 1)(x).shape == x.shape
    with pytest.raises(ValueError, match="The mixer 'pool' is already registered"):
        metaformer.register_mixer("pool")


def test_the_comparison_takes_mixers_from_outside(follow, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = [str(follow("A mixer")), "--work-dir", str(tmp_path / "compared")]
    recipe = compare.load_recipe(compare.parse_args([*argv, "--mixers", "shift", "pool"]))
    body = mixer_comparison.build_body(mixer_comparison.with_mixer(recipe, "shift"))
    assert sum(isinstance(module, sys.modules["my_mixer"].ShiftMixer) for module in body.modules()) == 2
    assert compare.main([*argv, "--mixers", "shft"]) == 2
    assert "Did you mean 'shift'" in capsys.readouterr().err


@pytest.mark.slow
def test_mixers_from_outside_are_compared(follow, tmp_path: Path):
    argv = [str(follow("A mixer")), "--work-dir", str(tmp_path / "compared"), "--batch-size", "2", "--repeats", "1"]
    options = ["--cfg-options", "train_cfg.max_epochs=1", "model.backbone.mixer_kwargs=none"]
    assert compare.main([*argv, "--mixers", "shift", "pool", *options]) == 0
    report = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    rows = next(value for value in report.values() if isinstance(value, list))
    assert [(row["name"], row["error"]) for row in rows] == [("shift", None), ("pool", None)]


def test_a_head_and_a_place_for_it(follow):
    config = follow("A head")
    record = run(config)
    assert 0 <= record["mIoU"] <= 100
    task = MODELS.build(load_config(config).model)
    layers = ["decode_head.conv_seg", "edge_head.conv_seg"]
    assert task.class_layers() == layers
    assert (task.kind, list(task.export_parts())) == ("segmentation", ["whole", "backbone"])
    with pytest.raises(ConfigError, match=r"model\.edge_head\.chanels: .*'channels'"):
        check_config(load_config(config, ["model.edge_head.chanels=3"]))


def test_a_data_set(follow, tmp_path: Path):
    config = follow("A data set")
    (tmp_path / "named").mkdir()
    for index, (name, color) in enumerate(tiny_classifier.COLORS.items()):
        for number in range(4):
            Image.new("RGB", (20, 18), color).save(tmp_path / "named" / f"{name}_{index}{number}.png")
    record = run(config)
    assert 0 <= record["top1"] <= 100
    with pytest.raises(ConfigError) as error:
        check_config(load_config(config, ["train_dataloader.dataset.folder=nowhere"]))
    assert str(error.value) == "train_dataloader.dataset.folder: there is no folder nowhere."
    with pytest.raises(ConfigError, match=r"model\.backbone\.num_classes: is 3, but train_dataloader.* has 2 classes"):
        check_config(load_config(config, ["train_dataloader.dataset.classes=[red,green]"]))


def test_a_metric(follow, tmp_path: Path):
    config = follow("A metric")
    record = run(config)
    assert 0 <= record["brier"] <= 2
    assert (tmp_path / "work" / "best_brier.pth").is_file()
    with pytest.raises(ConfigError, match=r"save_best: val_evaluator has no metric .* Did you mean 'brier'"):
        check_config(load_config(config, ["default_hooks.checkpoint.save_best=briar"]))


def test_every_recipe_is_followed():
    titles = re.findall(r"^### (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert titles == ["A backbone", "A mixer", "A head", "A data set", "A metric"]
