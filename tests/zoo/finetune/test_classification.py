"""The recipe of a classifier: lists of images, augmentation, batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attnzoo import get_pretrained_cfg
from attnzoo.zoo.data.classification import ImageClassificationDataset
from attnzoo.zoo.finetune.classification import data_config
from attnzoo.zoo.finetune.options import Facts, Options, choose_settings
from attnzoo.zoo.finetune.recognize import recognize
from support.own_data import class_folders


def config(root: Path, work_dir: Path, **choices: Any) -> dict[str, Any]:
    own: Any = recognize(root).content
    facts = Facts("classification", own.count("train"), 32, 224, 32, from_scratch=False, probe=False, cuda=False)
    settings = choose_settings(Options(**choices), facts)
    return data_config(own, get_pretrained_cfg("nat_mini"), settings, work_dir)


def test_the_lists_name_the_images_of_each_split(tmp_path: Path):
    loaders = config(class_folders(tmp_path / "photos", 10), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "data" / "classes.json").read_text()) == ["blue", "red"]
    for split, count in (("train", 16), ("val", 4)):
        arguments = {**loaders[f"{split}_dataloader"]["dataset"]}
        assert arguments.pop("type") == "ImageClassificationDataset"
        dataset = ImageClassificationDataset(**arguments)
        assert (len(dataset), dataset.classes) == (count, ("blue", "red"))
        labels = [Path(dataset.path(index)).parent.name for index in range(count)]
        assert labels == ["blue"] * (count // 2) + ["red"] * (count // 2)


def test_small_images_are_augmented_as_such(tmp_path: Path):
    root = class_folders(tmp_path / "photos", 10)
    small, large = (config(root, tmp_path / "out", image_size=size) for size in (32, 224))
    assert small["train_dataloader"]["dataset"]["transform"]["type"] == "SmallImageTrain"
    assert small["val_dataloader"]["dataset"]["transform"]["crop_pct"] == 1
    assert large["train_dataloader"]["dataset"]["transform"]["type"] == "ImageNetTrain"
    assert large["val_dataloader"]["dataset"]["transform"]["crop_pct"] == 0.875


def test_a_last_batch_of_one_image_is_dropped(tmp_path: Path):
    root = class_folders(tmp_path / "photos", 10)
    assert config(root, tmp_path / "out", batch_size=5)["train_dataloader"]["drop_last"]
    assert not config(root, tmp_path / "out", batch_size=6)["train_dataloader"]["drop_last"]


def test_top_5_is_reported_for_more_than_5_classes(tmp_path: Path):
    root = class_folders(tmp_path / "photos", 10)
    assert config(root, tmp_path / "out")["val_evaluator"]["topk"] == (1,)
