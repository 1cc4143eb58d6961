"""Written configs are read back as they were, and run nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from attnzoo.zoo.config import load_config
from attnzoo.zoo.config.writing import config_text, import_path


def test_written_configs_are_read_back(tmp_path: Path):
    content = {
        "model": {"type": "A", "class": 1, "a-b": [1, (2,), ()], "empty": {}, "text": 'it\'s "x"\n\\', "n": -1.5},
        "optim_wrapper": {"names": ["a" * 60, "b" * 60], "nested": [{"x": {"y": None}}, [True, []]], 3: "three"},
        "resume": False,
    }
    path = tmp_path / "config.py"
    path.write_text(config_text(Config(content)))
    assert load_config(path).to_dict() == content
    assert max(map(len, path.read_text().splitlines())) < 140


def test_keys_do_not_become_code(tmp_path: Path):
    marker = tmp_path / "marker"
    key = f"a': __import__('pathlib').Path({str(marker)!r}).touch(), 'b"
    path = tmp_path / "config.py"
    path.write_text(config_text({"model": {key: 1}}))
    assert load_config(path).model == {key: 1}
    assert not marker.exists()
    with pytest.raises(ValueError, match="top-level keys of a config must be names"):
        config_text({key: 1})


def test_values_that_are_not_finite_and_classes(tmp_path: Path):
    path = tmp_path / "config.py"
    path.write_text(config_text({"model": {"type": nn.GELU, "a": math.inf, "b": math.nan, "c": Path("x")}}))
    model = load_config(path).model
    assert model.type == import_path(nn.GELU) == "torch.nn.modules.activation.GELU"
    assert model.a == math.inf
    assert math.isnan(model.b)
    assert "Path" in model.c
