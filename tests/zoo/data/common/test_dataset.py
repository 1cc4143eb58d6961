"""The base class, tested through the README's example of a data set in a user's own module."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import attnzoo
from attnzoo.zoo.config import ConfigError, check_config
from attnzoo.zoo.data import (
    BrokenImageError,
    ClassificationDataset,
    ImageDataset,
    SampleKey,
)
from attnzoo.zoo.data.common.dataset import read_or_replace
from attnzoo.zoo.registry import DATASETS
from attnzoo.zoo.training.loaders import build_dataloader

README = Path(attnzoo.__file__).parent / "zoo/data/README.md"
EXAMPLE = README.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]


@pytest.fixture
def root(tmp_path, make_image):
    for number in range(4):
        make_image(number).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Writes the user's module, imports it as a config does, and returns the class."""
    (tmp_path / "numbered_images.py").write_text(EXAMPLE)
    (tmp_path / "config.py").write_text("custom_imports = dict(imports=['numbered_images'])\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    Config.fromfile(str(tmp_path / "config.py"))
    yield DATASETS.get("NumberedImages")
    DATASETS.module_dict.pop("NumberedImages")
    sys.modules.pop("numbered_images")


def test_a_data_set_from_outside_is_one_class_of_three_methods(root, outside):
    loader = {
        "dataset": {"type": "NumberedImages", "root": str(root), "transform": {"type": "SmallImageTrain", "size": 16}},
        "sampler": {"type": "EpochSampler", "shuffle": False},
        "batch_size": 2,
        "collate_fn": {"type": "classification_collate"},
    }
    built = build_dataloader(loader, seed=7)
    dataset = built.dataset
    assert isinstance(dataset, ClassificationDataset)
    assert (dataset.kind, dataset.classes, dataset.metainfo) == (
        "classification",
        ("even", "odd"),
        {"classes": ("even", "odd")},
    )
    assert (dataset.seed, dataset.training, dataset.replace_broken, dataset.check()) == (7, True, True, [])
    batches = list(built)
    assert torch.cat([batch["label"] for batch in batches]).tolist() == [0, 1, 0, 1]
    assert batches[1]["path"] == [str(root / "2.png"), str(root / "3.png")]
    other = build_dataloader(loader, seed=8)
    assert not torch.equal(batches[0]["image"], next(iter(other))["image"])


def test_config_keys_of_a_data_set_from_outside_are_checked(root, outside):
    dataset = {"type": "NumberedImages", "root": str(root), "transform": {"type": "Evaluation"}, "num_classes": 2}
    loader = {"batch_size": 2, "sampler": {"type": "EpochSampler"}, "dataset": dataset}
    cfg = Config({"model": {"type": "nat_mini", "num_classes": 2}, "train_dataloader": loader})
    check_config(cfg, paths=False)
    cfg.train_dataloader.dataset.max_retry = 3
    with pytest.raises(ConfigError, match=r"train_dataloader\.dataset\.max_retry: .*'max_retries'"):
        check_config(cfg, paths=False)


def test_broken_images_of_a_data_set_from_outside_are_replaced(root, outside):
    (root / "1.png").write_bytes((root / "1.png").read_bytes()[:40])
    transform = {"type": "SmallImageTrain", "size": 16}
    dataset = outside(str(root), transform=transform)
    sample = dataset[SampleKey(2, 1)]
    assert sample["broken"] == [str(root / "1.png")]
    assert (sample["index"], sample["epoch"]) == (1, 2)
    assert sample["path"] != str(root / "1.png")
    (root / "3.png").unlink()
    assert outside(str(root), transform=transform)[SampleKey(2, 1)]["broken"][0] == str(root / "1.png")
    with pytest.raises(BrokenImageError, match=r"1\.png cannot be read"):
        outside(str(root), transform={"type": "Evaluation", "size": 16})[1]


def test_impossible_arguments_raise(root, outside):
    with pytest.raises(ValueError, match=r"needs a transform, such as dict\(type='Evaluation'"):
        outside(str(root))
    with pytest.raises(ValueError, match=r"has 2 classes, not num_classes=3: correct the number or classes"):
        outside(str(root), transform={"type": "Evaluation"}, num_classes=3)
    with pytest.raises(IndexError, match="has no sample 4: its 4 are numbered from 0"):
        outside(str(root), transform={"type": "Evaluation", "size": 8})[4]


def test_defaults_of_the_class_methods():
    assert ImageDataset.class_names(root="somewhere") is None
    assert ImageDataset.class_palette(root="somewhere") is None
    assert list(ImageDataset.check_paths(root="somewhere")) == []


def test_replacements_depend_on_the_seeds_alone():
    def read(index):
        if index in (0, 2):
            raise BrokenImageError.of(f"{index}.png", "torn")
        return index * 10

    found = {read_or_replace(read, 0, 5, (seed, 0, 0, 0), True, 10)[1] for seed in range(40)}
    assert found == {1, 3, 4}
    first = read_or_replace(read, 0, 5, (3, 0, 0, 0), True, 10)
    assert first == read_or_replace(read, 0, 5, (3, 0, 0, 0), True, 10)
    assert first[0] == first[1] * 10
    assert first[2][0] == "0.png"
    assert read_or_replace(read, 3, 5, (0, 0, 3, 0), True, 10) == (30, 3, [])
    with pytest.raises(BrokenImageError, match=r"2\.png cannot be read: torn"):
        read_or_replace(read, 2, 5, (0, 0, 2, 0), False, 10)
    with pytest.raises(BrokenImageError, match="3 others tried before are broken, too"):
        read_or_replace(lambda index: read(0), 0, 5, (0, 0, 0, 0), True, 3)
