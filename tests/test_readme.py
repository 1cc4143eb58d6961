"""The README: its Python runs, and the files and targets that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import attnzoo
from attnzoo.zoo.config import load_config
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.training import write_checkpoint

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert BLOCKS
    monkeypatch.chdir(tmp_path)
    torch.save(attnzoo.create_model("nat_tiny", num_classes=10).state_dict(), "nat_tiny.pth")
    Image.new("RGB", (128, 96), (200, 30, 30)).save("photo.jpg")
    for folder, config in (("detect", "nat_mask-rcnn_scenes"), ("segment", "eca_semantic-fpn_scenes")):
        leave_training(tmp_path / f"work_dirs/quickstart_{folder}", config)
    for block in BLOCKS:
        # The only lines that need the network.
        offline = block.replace("pretrained=True)", "pretrained=False)")
        offline = offline.replace('Predictor("nat_mini.in1k")', 'Predictor("nat_mini", weights=False)')
        exec(compile(offline, "README.md", "exec"), {})


def leave_training(work_dir: Path, config: str):
    """Leaves what a training leaves, with a model that has learned nothing."""
    cfg = load_config(config)
    work_dir.mkdir(parents=True)
    cfg.dump(work_dir / "config.py")
    runner_state = {"meta": {"seed": 0, "iter": 1, "epoch": 1}, "state_dict": MODELS.build(cfg.model).state_dict()}
    write_checkpoint(runner_state, work_dir / "epoch_1.pth")


def test_named_files_exist():
    named = set(re.findall(r"(?:tools|configs|kernels|zoo)/[\w./-]+\.(?:py|md)", README))
    assert len(named) >= 5
    missing = [name for name in sorted(named) if not (ROOT / name).is_file()]
    assert not missing


def test_named_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert named
    assert named <= targets
