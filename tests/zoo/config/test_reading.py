"""Config files and their bases are read as mmengine reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from attnzoo.zoo.config import ConfigError, load_config
from attnzoo.zoo.config.loading import CONFIG_ROOT
from attnzoo.zoo.config.reading import read_config

BASE = """
model = dict(type="A", head=dict(type="B", size=1), layers=[dict(x=1), dict(x=2)])
optimizer = dict(type="SGD", lr=0.1)
scale = 3
clip = None
"""
DERIVED = """
import math
_base_ = ["base.py", "other.yaml"]
model = dict(head=dict(_delete_=True, type="C"), layers=[dict(x=3)])
optimizer = dict(lr={{ _base_.factor }}, name="{{ fileBasenameNoExtension }}", root="{{$CONFIG_TEST_ROOT:data}}")
copy = _base_.model
copy.extra = math.pi
scale = [_base_.scale, {{_base_.scale}}]
more = dict(new=dict(deep=(1, 2)))

def helper():
    return 1
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "other.yaml").write_text("factor: 0.5\nextra: {a: [1, {b: c}]}\n")
    path = tmp_path / "derived.py"
    path.write_text(DERIVED)
    return path


@pytest.mark.parametrize("variable", [None, "/somewhere/else"])
def test_files_are_read_as_by_mmengine(config: Path, variable: str | None, monkeypatch: pytest.MonkeyPatch):
    if variable is not None:
        monkeypatch.setenv("CONFIG_TEST_ROOT", variable)
    content, text = read_config(config)
    assert content["optimizer"]["root"] == variable or "data"
    expected = Config.fromfile(config, lazy_import=False)
    assert content == expected.to_dict()
    assert "factor: 0.5" in text
    assert "def helper" in text


def test_data_may_have_bases_of_data(tmp_path: Path):
    (tmp_path / "base.json").write_text('{"model": {"type": "A", "head": {"size": 1}}, "work_dir": "x"}')
    path = tmp_path / "derived.yaml"
    path.write_text("_base_: [base.json]\nmodel: {head: {size: 2}}\nresume: '{{_base_.model.head.size}}'\n")
    expected = {"model": {"type": "A", "head": {"size": 2}}, "work_dir": "x", "resume": 1}
    assert read_config(path)[0] == expected


@pytest.mark.parametrize("name", ["nat/nat_mini_upernet_160k_ade20k", "halonet/halonet_h0_32xb128_350e_in1k"])
def test_shipped_configs_are_read_as_by_mmengine(name: str):
    path = CONFIG_ROOT / f"{name}.py"
    assert read_config(path)[0] == Config.fromfile(path, lazy_import=False).to_dict()


def test_variables_share_no_dicts(tmp_path: Path):
    path = tmp_path / "config.py"
    path.write_text("val_evaluator = [dict(type='Accuracy')]\ntest_evaluator = val_evaluator\n")
    content, _ = read_config(path)
    content["val_evaluator"][0]["type"] = "Other"
    assert content["test_evaluator"] == [{"type": "Accuracy"}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("_base_ = ['base.py', 'base.py']", "the bases must not have the same keys, got clip, model, .* twice"),
        ("_base_ = 'base.py'\nscale = dict(a=1)", "derived.py: scale: is a dict, but 3 in a base"),
        ("_base_ = 'base.py'\nx = '{{ _base_.model.neck }}'", "derived.py: the bases have no 'model.neck'"),
        ("x = '{{$CONFIG_TEST_ROOT:}}'", "the environment variable CONFIG_TEST_ROOT must be set"),
        ("_base_ = 'weights.pth'", "the name of a base must end with .py"),
    ],
)
def test_files_that_do_not_fit(config: Path, text: str, said: str):
    config.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_config(config)


def test_binary_files_are_refused(tmp_path: Path):
    for suffix in (".py", ".yaml", ".json"):
        path = tmp_path / f"config{suffix}"
        path.write_bytes(b"\x80\x02\xff\x00")
        with pytest.raises(ConfigError, match="is not a text file in UTF-8"):
            load_config(path)
