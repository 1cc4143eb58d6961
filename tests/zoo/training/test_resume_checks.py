"""Changes between a checkpoint and the run that resumes from it are refused or reported, never silent."""

from __future__ import annotations

import pytest

from attnzoo.zoo.registry import DATASETS
from attnzoo.zoo.training.resume_checks import ResumeMismatch
from support.training_toy import ToyDataset, build, toy_config


@DATASETS.register_module()
class NamedToyDataset(ToyDataset):
    """ToyDataset with class names, as a class folder has."""

    def __init__(self, classes: tuple[str, ...], **settings) -> None:
        super().__init__(**settings)
        self.classes = classes


def config(work_dir, classes=("cat", "dog"), **changes):
    dataset = {"type": "NamedToyDataset", "classes": classes, **changes.pop("dataset", {})}
    settings = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None, "train_cfg__max_epochs": 2, **changes}
    result = toy_config(work_dir, train_dataloader__dataset=dataset, **settings)
    result["default_hooks"]["checkpoint"] = {"type": "CheckpointHook"}
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    build(config(folder, train_cfg__max_epochs=1)).train()
    return folder


def resume(trained, tmp_path, *args, **changes):
    """Resumes in another work dir; returns the warnings."""
    runner = build(config(tmp_path, *args, resume=str(trained), **changes))
    warnings: list[str] = []
    runner.logger.warning = warnings.append
    runner.train()
    return " ".join(warnings)


def test_nothing_to_report(trained, tmp_path):
    assert not resume(trained, tmp_path)


@pytest.mark.parametrize(
    ("classes", "changes", "message"),
    [
        (("cat", "fox"), {}, "gone: 'dog'; new: 'fox'; label 1 was 'dog' and is now 'fox'"),
        (("ape", "cat", "dog"), {}, "it has 2 and the data 3; new: 'ape'; label 0 was 'cat' and is now 'ape'"),
        (("dog", "cat"), {}, "label 0 was 'cat' and is now 'dog'"),
        (("cat", "dog"), {"dataset": {"length": 23}}, "samples=22.*samples=23"),
        (("cat", "dog"), {"train_dataloader__batch_size": 5}, "batch_size=4.*batch_size=5"),
        (
            ("cat", "dog"),
            {"optim_wrapper__optimizer": {"type": "SGD", "lr": 0.1}},
            "trained with the optimizer AdamW, but the config has SGD",
        ),
    ],
    ids=["renamed", "added", "reordered", "samples", "batch size", "optimizer"],
)
def test_another_run_is_refused(trained, tmp_path, classes, changes, message):
    with pytest.raises(ResumeMismatch, match=message) as refused:
        resume(trained, tmp_path, classes, **changes)
    assert "load_from" in str(refused.value)
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__norm": False}, r"5 are not in the model \(norm.weight, "),
        ({"model__dtype": "float64"}, r"state_dict.fc1.weight must be like the model's"),
        ({"param_scheduler": []}, "it contains 1 schedules, this config 0"),
        (
            {"optim_wrapper__paramwise_cfg": {"norm_decay_mult": 1.0, "custom_keys": {"fc2": {"lr_mult": 2.0}}}},
            "optimizer.param_groups: the checkpoint has",
        ),
    ],
    ids=["model", "dtype", "schedules", "groups"],
)
def test_parts_that_do_not_fit_are_named(trained, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        resume(trained, tmp_path, **changes)


def test_settings_that_the_checkpoint_overrides_are_reported(trained, tmp_path):
    optimizer = {"type": "AdamW", "lr": 0.05, "weight_decay": 0.2, "betas": (0.8, 0.999)}
    reported = resume(trained, tmp_path, optim_wrapper__optimizer=optimizer, custom_hooks=[], randomness={"seed": 9})
    assert "weight_decay stays 0.1, the config's 0.2 is ignored" in reported
    assert "betas stays (0.9, 0.999), the config's (0.8, 0.999) is ignored" in reported
    assert "averaged weights are dropped, because the config has no EMAHook" in reported
    assert "The seed 3 of the checkpoint overrides the seed 9 of the config" in reported


def test_averaging_that_begins_later_is_reported(trained, tmp_path):
    build(config(tmp_path / "first", train_cfg__max_epochs=1, custom_hooks=[])).train()
    assert "averaging starts from the checkpoint's weights" in resume(tmp_path / "first", tmp_path / "second")
