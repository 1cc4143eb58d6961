"""Published checkpoints are used by recipes: by a predictor and by an evaluation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from attnzoo import Predictor
from attnzoo.tools import test as test_tool
from attnzoo.zoo.catalog import Checkpoint, checkpoint_of_config, register_checkpoint
from attnzoo.zoo.config import find_config, load_config
from support import painted_coco
from support.catalog import SMALL_RECIPE, small_checkpoint

from ..weights.local_server import Served, Server

THREE_CLASSES = "model.roi_head.num_classes=3"


def register(url: str) -> Checkpoint:
    entry = Checkpoint(
        name=SMALL_RECIPE,
        family="nat",
        task="detection",
        config=SMALL_RECIPE,
        urls=(url,),
        license="MIT",
        source="a test",
    )
    register_checkpoint(entry)
    return entry


@pytest.mark.usefixtures("catalog")
def test_only_a_shipped_recipe_has_a_published_checkpoint(tmp_path: Path):
    shipped = load_config(SMALL_RECIPE)
    assert checkpoint_of_config(shipped) is None
    entry = register("https://example.org/a.pth")
    assert checkpoint_of_config(shipped) is entry
    assert checkpoint_of_config(load_config(find_config(SMALL_RECIPE))) is entry
    assert checkpoint_of_config(load_config("nat_digits")) is None
    assert checkpoint_of_config(Config(shipped.to_dict())) is None
    own = tmp_path / f"{SMALL_RECIPE}.py"
    own.write_text(f"_base_ = [{str(find_config(SMALL_RECIPE))!r}]\n", encoding="utf-8")
    assert checkpoint_of_config(load_config(own)) is None


@pytest.mark.usefixtures("catalog")
def test_a_predictor_uses_the_published_checkpoint(server: Server):
    for weights, message in [(None, "is a config, which has no weights"), (True, "no published checkpoint for it")]:
        with pytest.raises(ValueError, match=message):
            Predictor(SMALL_RECIPE, weights)
    cfg = load_config(SMALL_RECIPE)
    state, content = small_checkpoint(cfg.to_dict()["model"])
    register(server.serve("/small.pth", Served(content)))
    for model, weights in [(SMALL_RECIPE, None), (cfg, True)]:
        predictor = Predictor(model, weights, progress=False)
        assert predictor.weights == f"published: {SMALL_RECIPE}"
        loaded = predictor.task.state_dict()
        assert loaded.keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in loaded.items())
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert predictor(image).masks is not None


@pytest.mark.usefixtures("catalog")
def test_an_evaluation_uses_the_published_checkpoint(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "data"
    painted_coco.save(root)
    data = f"test_dataloader.dataset.root={root}"
    arguments = [SMALL_RECIPE, "--pretrained", "--work-dir", str(tmp_path / "work"), "--cfg-options", data]
    arguments += ["test_dataloader.dataset.split=train2017", THREE_CLASSES, "test_dataloader.num_workers=0"]
    assert test_tool.main(arguments) == 2
    assert "the catalog has no published checkpoint" in capsys.readouterr().err
    cfg = load_config(SMALL_RECIPE, [THREE_CLASSES])
    url = server.serve("/three.pth", Served(small_checkpoint(cfg.to_dict()["model"])[1]))
    entry = register(url)
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    assert test_tool.main(arguments) == 2
    assert re.search(r"save it as\s+\S+three\.pth", capsys.readouterr().err)
    monkeypatch.delenv("ATTNZOO_OFFLINE")
    assert test_tool.main(arguments) == 0
    results = json.loads((tmp_path / "work" / "results.json").read_text())
    assert results["checkpoint"] == str(entry.fetch())
    assert "segm_mAP" in results
