"""Whatever is wrong in a config, its checks raise a ConfigError: no other exception, no hang, and no code is run."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mmengine.config import Config

from attnzoo.zoo.config import ConfigError, check_config, load_config
from attnzoo.zoo.training.dry_run import dry_run
from support.config_mutations import mutate, mutate_text

pytestmark = pytest.mark.slow
RECIPES = ("quickstart/nat_digits", "quickstart/nat_mask-rcnn_scenes", "quickstart/eca_semantic-fpn_scenes")


@pytest.fixture(autouse=True)
def no_commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails if `os.system` is called, which mutations name as a type and as a tag."""
    called: list[Any] = []
    monkeypatch.setattr(os, "system", called.append)
    yield
    assert not called


@pytest.mark.parametrize("name", RECIPES)
def test_mutated_configs(name: str):
    cfg = load_config(name).to_dict()
    outcomes = {True: 0, False: 0}
    for seed in range(700):
        rng = random.Random(f"{name} {seed}")
        mutated = mutate(cfg, rng)
        try:
            check_config(Config(mutated), paths=rng.random() < 0.2)
        except ConfigError as error:
            outcomes[False] += 1
            if ":" not in str(error):
                pytest.fail(f"seed {seed}: no key in {error}")
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")
        else:
            outcomes[True] += 1
    assert min(outcomes.values()) > 10


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
def test_mutated_text(suffix: str, tmp_path: Path):
    cfg = json.loads(json.dumps(load_config(RECIPES[0]).to_dict()))
    text = json.dumps(cfg, indent=1) if suffix != ".yaml" else yaml.safe_dump(cfg)
    path = tmp_path / f"config{suffix}"
    loaded = 0
    for seed in range(300):
        path.write_text(mutate_text(text, random.Random(f"{suffix} {seed}")))
        try:
            content = load_config(path)
            loaded += 1
            check_config(content, paths=False)
        except ConfigError:
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")
    assert loaded > 10


def test_configs_that_pass_their_checks_are_built(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(config, {"model.mixing": None, "model.loss.label_smoothing": 0.0, "test_evaluator": None})
    cfg.test_evaluator, cfg.work_dir = cfg.val_evaluator, str(tmp_path / "work_dir")
    content = cfg.to_dict()
    built = 0
    for seed in range(700):
        mutated = {"work_dir": "work_dir", **mutate(content, random.Random(seed))}
        try:
            check_config(Config(mutated))
            dry_run(Config(mutated))
            built += 1
        except ValueError:  # a ConfigError, or one of the constructors
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")
    assert built > 10
