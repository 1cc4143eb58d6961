"""Options are parsed and merged, and test sections follow those for validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnzoo.zoo.config import ConfigError, load_config, parse_options

VALIDATION = """
val_dataloader = dict(batch_size=2, dataset=dict(type="Folder", root="a", split="val"))
val_evaluator = dict(type="Accuracy", topk=(1, 5))
val_cfg = dict(type="ValLoop", amp_dtype="bfloat16")
"""


def load(tmp_path: Path, text: str, *options: str) -> Any:
    path = tmp_path / "config.py"
    path.write_text(VALIDATION + text)
    return load_config(path, options)


@pytest.mark.parametrize("value", ["...", "b'x'", "1j", "{1, 2}", "{[]: 1}", "{(1, 2): 3}"])
def test_literals_that_no_config_has_are_strings(value: str):
    assert isinstance(parse_options([f"k={value}"])["k"], str | list)


def test_deeply_nested_values_are_refused():
    with pytest.raises(ConfigError, match="The value of the option k is nested too deeply"):
        parse_options(["k=" + "[x," * 3000 + "]" * 3000])


@pytest.mark.parametrize(
    "text",
    ["", "test_dataloader = val_dataloader\ntest_evaluator = val_evaluator\n", "test_evaluator = dict(topk=(1, 5))\n"],
)
def test_sections_for_validation_are_those_for_testing(tmp_path: Path, text: str):
    cfg = load(tmp_path, text, "val_dataloader.dataset.root=b", "val_evaluator.topk=[1]", "val_cfg.amp_dtype=float16")
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.test_dataloader.dataset.root == "b"
    assert cfg.test_evaluator.type == "Accuracy"
    assert cfg.test_cfg == {"type": "TestLoop", "amp_dtype": "float16"}
    cfg.test_dataloader.batch_size = 9
    assert cfg.val_dataloader.batch_size == 2


def test_a_part_of_a_section_for_testing_changes_that_for_validation(tmp_path: Path):
    text = "test_dataloader = dict(dataset=dict(split='test'))\ntest_evaluator = dict(topk=(1,))\n"
    cfg = load(tmp_path, text, "val_dataloader.dataset.root=b", "test_dataloader.batch_size=7")
    assert cfg.test_dataloader == {"batch_size": 7, "dataset": {"type": "Folder", "root": "b", "split": "test"}}
    assert cfg.test_evaluator == {"type": "Accuracy", "topk": (1,)}
    assert cfg.val_dataloader.batch_size == 2


def test_complete_sections_for_testing_stand_alone(tmp_path: Path):
    text = """
test_dataloader = dict(batch_size=1, dataset=dict(type="Other", root="c"))
test_evaluator = [dict(type="Brier")]
test_cfg = dict(type="TestLoop", amp_dtype=None)
"""
    cfg = load(tmp_path, text, "val_dataloader.batch_size=5", "val_evaluator.topk=[1]", "val_cfg.amp_dtype=float16")
    assert cfg.test_dataloader == {"batch_size": 1, "dataset": {"type": "Other", "root": "c"}}
    assert cfg.test_evaluator == [{"type": "Brier"}]
    assert cfg.test_cfg == {"type": "TestLoop", "amp_dtype": None}


def test_testing_can_be_left_out(tmp_path: Path):
    cfg = load(tmp_path, "test_dataloader = None\ntest_evaluator = None\ntest_cfg = None\n")
    assert cfg.test_dataloader is cfg.test_evaluator is cfg.test_cfg is None
    (tmp_path / "training.py").write_text("train_cfg = dict(max_epochs=3)\n")
    assert load_config(tmp_path / "training.py").to_dict() == {"train_cfg": {"max_epochs": 3}}


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("val_evaluator=[{'type': 'A'}]", "val_evaluator", [{"type": "A"}]),
        ("val_evaluator={'topk': [1]}", "val_evaluator", {"type": "Accuracy", "topk": [1]}),
        ("val_evaluator={'_delete_': True, 'type': 'A'}", "val_evaluator", {"type": "A"}),
        ("custom_hooks.1.decay=3", "custom_hooks", [{"type": "A"}, {"type": "B", "decay": 3}]),
        ("custom_hooks.0={'x': 1}", "custom_hooks", [{"type": "A", "x": 1}, {"type": "B"}]),
        ("custom_hooks={'type': 'A'}", "custom_hooks", {"type": "A"}),
        ("load_from.x.y=1", "load_from", {"x": {"y": 1}}),
    ],
)
def test_where_options_are_merged(tmp_path: Path, option: str, key: str, value: Any):
    text = "custom_hooks = [dict(type='A'), dict(type='B')]\nload_from = None\n"
    assert load(tmp_path, text, option).to_dict()[key] == value
