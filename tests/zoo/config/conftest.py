"""Fixtures for checks of configs: a small image folder, and a config that trains on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from support.configs import CONFIG


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "val"):
        for name in ("cat", "dog", "owl"):
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (20, 16)).save(root / split / name / "1.png")
    return root


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "config.py"
    path.write_text(CONFIG.replace("{root}", str(root)))
    return path
