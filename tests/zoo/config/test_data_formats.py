"""YAML and JSON configs are plain data: nothing in them is executed, imported or misread."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from attnzoo.zoo.config import ConfigError, load_config
from attnzoo.zoo.config.data_formats import parse_data

MODULE = "import pathlib\n\npathlib.Path({marker!r}).touch()\n"


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that appears if a config runs code, and modules and a Python config that make it."""
    path = tmp_path / "marker"
    (tmp_path / "evil.py").write_text(MODULE.format(marker=str(path)))
    (tmp_path / "evil_scope").mkdir()
    (tmp_path / "evil_scope" / "registry.py").write_text(MODULE.format(marker=str(path)))
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    for name in ("evil", "evil_scope", "evil_scope.registry"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "model: !!python/object/apply:os.system ['touch {marker}']", "line 1.*python/object/apply"),
        ("a.yaml", "model: !!python/object/new:evil.X []", "line 1.*python/object/new"),
        ("a.yaml", "model: !!python/name:evil.X", "python/name"),
        ("a.yml", "model: !!python/module:evil", "python/module"),
        ("a.yaml", "model: '{{{{$UNSET:x'\nx: !!python/object/apply:evil.f []\n#'}}}}", "python/object/apply"),
        ("a.yaml", "_base_: evil.py", "the base 'evil.py' is Python code"),
        ("a.json", '{{"_base_": ["./evil.py"]}}', "the base './evil.py' is Python code"),
        ("a.yaml", "_base_: inner.yaml", "inner.yaml: the base 'evil.py' is Python code"),
        ("a.py", "_base_ = 'inner.yaml'", "inner.yaml: the base 'evil.py' is Python code"),
        ("a.py", "_base_ = 'tags.yaml'", "tags.yaml.*python/object/apply"),
        ("a.yaml", "custom_imports: {{imports: [evil]}}", "custom_imports imports Python modules"),
        ("a.json", '{{"custom_imports": {{"imports": "evil"}}}}', "Only a .py config may run code"),
        ("a.json", '{{"model": {{"type": "evil.X"}}}}', "model.type must be a registered name, got 'evil.X'"),
        ("a.json", '{{"custom_hooks": [{{"type": "os.system"}}]}}', "custom_hooks.0.type must be a registered name"),
        ("a.json", '{{"model": {{"type": "Classifier", "_scope_": "evil_scope"}}}}', "model._scope_ must be one of"),
        ("a.yaml", "default_scope: evil_scope", "default_scope must be one of attnzoo, mmengine"),
    ],
)
def test_no_code_runs(marker: Path, name: str, text: str, said: str):
    folder = marker.parent
    (folder / "inner.yaml").write_text("_base_: evil.py\n")
    (folder / "tags.yaml").write_text(f"model: !!python/object/apply:os.system ['touch {marker}']\n")
    (folder / name).write_text(text.format(marker=marker))
    with pytest.raises(ConfigError, match=said):
        load_config(folder / name)
    assert not marker.exists()
    assert "evil" not in sys.modules


def test_modules_are_imported_for_python_configs_and_for_options(marker: Path):
    config = marker.parent / "config.json"
    config.write_text('{"model": {"type": "nat_mini"}}')
    load_config(config)
    assert not marker.exists()
    load_config(config, ["custom_imports.imports=[evil]"])
    assert marker.exists()
    marker.unlink()
    del sys.modules["evil"]
    (marker.parent / "config.py").write_text("_base_ = 'config.json'\ncustom_imports = dict(imports=['evil'])\n")
    assert load_config(marker.parent / "config.py").model.type == "nat_mini"
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_what_mmengine_dumps_can_be_read(suffix: str, tmp_path: Path):
    content = {"model": {"type": "nat_mini.in1k", "depths": [1, 2]}, "optim_wrapper": {"betas": (0.9, 0.999)}}
    path = tmp_path / f"config{suffix}"
    Config(content).dump(path)
    expected = json.loads(json.dumps(content)) if suffix == ".json" else content
    assert load_config(path).to_dict() == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.5E+6", 1.5e6),
        ("-.5e2", -50.0),
        ("10", 10),
        ("1.0.0", "1.0.0"),
        ("e5", "e5"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("!!python/tuple [1, [2]]", (1, [2])),
    ],
)
def test_values_in_yaml(text: str, value: Any):
    parsed = parse_data(f"key: {text}", Path("a.yaml"))["key"]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "", "a.yaml is empty"),
        ("a.yaml", "- 1", "must be a dict of keys and values, got a list"),
        ("a.json", "3", "must be a dict of keys and values, got a int"),
        ("a.json", "{\n'a': 1}", "a.json: .*line 2 column 1"),
        ("a.yaml", "a: 1\nb: [1, 2", "a.yaml: line 2"),
        ("a.yaml", "a: 1\nb: 2\na: 3", "line 3, column 1: found the key 'a' twice"),
        ("a.json", '{"a": {"b": 1, "b": 2}}', "found the key 'b' twice"),
        ("a.yaml", "1: 2", "the keys of a config must be strings, got 1"),
        ("a.yaml", "a: {? [1] : 2}", "line 1"),
        ("a.yaml", "a: {1.5: 2}", "the keys of a must be strings, got 1.5"),
        ("a.yaml", "a: !!binary aGVsbG8=", "a must be a plain value, got a bytes"),
        ("a.yaml", "a: !!set {b, c}", "a must be a plain value, got a set"),
        ("a.yaml", "a: !!python/tuple {b: 1}", "a tuple must be a list"),
        ("a.yaml", "a: &a [*a]", "is too large"),
        ("a.yaml", "a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a.json", '{"a": ' + "[" * 100 + "]" * 100 + "}", "is too large"),
        (
            "a.yaml",
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
            "is too large",
        ),
    ],
)
def test_what_is_refused(name: str, text: str, said: str):
    with pytest.raises(ConfigError, match=said):
        parse_data(text, Path(name))
