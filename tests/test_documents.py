"""The README and the pages in docs/: their Python runs, and the files, links and make targets that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import attnzoo
from attnzoo.backbones import registry
from attnzoo.zoo.config import load_config
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.training import write_checkpoint

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXECUTED = ["README.md", "docs/models.md"]
"""Pages whose Python runs here as it stands; tests/zoo/test_openmmlab.py runs that of docs/openmmlab.md."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def save_training(work_dir: Path, config: str) -> None:
    """Writes the work dir of a training run whose model has learned nothing."""
    cfg = load_config(config)
    work_dir.mkdir(parents=True)
    cfg.dump(work_dir / "config.py")
    runner_state = {"meta": {"seed": 0, "iter": 1, "epoch": 1}, "state_dict": MODELS.build(cfg.model).state_dict()}
    write_checkpoint(runner_state, work_dir / "epoch_1.pth")


@pytest.mark.parametrize("name", EXECUTED)
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text_of(ROOT / name), flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    attnzoo.list_models()  # imports all families
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))  # forgets what a page registers
    torch.save(attnzoo.create_model("nat_tiny", num_classes=10).state_dict(), "nat_tiny.pth")
    Image.new("RGB", (128, 96), (200, 30, 30)).save("photo.jpg")
    for folder, config in (("detect", "nat_mask-rcnn_scenes"), ("segment", "eca_semantic-fpn_scenes")):
        save_training(tmp_path / f"work_dirs/quickstart_{folder}", config)
    for block in blocks:
        # These arguments are the only ones that need the network.
        offline = block.replace("pretrained=True)", "pretrained=False)")
        offline = offline.replace('Predictor("nat_mini.in1k")', 'Predictor("nat_mini", weights=False)')
        exec(compile(offline, name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    named = set(re.findall(r"(?:tools|configs|kernels|zoo|tests)/[\w./-]+\.(?:py|md)", text_of(page)))
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text_of(page)) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).is_file()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text_of(page), flags=re.MULTILINE))
    assert named <= targets


def test_the_readme_names_targets_and_pages() -> None:
    """The patterns above find something where there is something to find."""
    readme = text_of(ROOT / "README.md")
    assert "quickstart-detect" in re.findall(r"(?:^    |`)make ([a-z-]+)", readme, flags=re.MULTILINE)
    assert {page.name for page in PAGES[1:]} <= {Path(link).name for link in re.findall(r"\]\(([^)]+)\)", readme)}
