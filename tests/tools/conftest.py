"""Fixtures with a trained tiny classifier."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attnzoo.tools import train as train_tool
from support.tiny_classifier import write_config

CONFIG = """
_base_ = ["tiny.py"]
default_hooks = dict(logger=dict(interval=2))
custom_hooks = [dict(type="EMAHook", decay=0.5)]
"""


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, next to a folder of 18 training and 9 validation images in three colors."""
    path = write_config(tmp_path_factory.mktemp("line"), train=6).with_name("line.py")
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def trained(config: Path) -> Path:
    """The work dir of a training run."""
    work_dir = config.parent / "trained"
    assert train_tool.main([str(config), "--work-dir", str(work_dir), "--seed", "3"]) == 0
    return work_dir


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of the work dir that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))
