"""Finding configs, loading them, and options on top."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnzoo.zoo.config import ConfigError, find_config, list_configs, load_config, parse_options
from attnzoo.zoo.config.loading import CONFIG_ROOT, config_name

BASE = """
_helper = [2, 2]
model = dict(type="Classifier", backbone=dict(type="nat_mini", depths=_helper, num_classes=10))
param_scheduler = [dict(type="WarmupCosine", warmup=5)]
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999)))
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "base.py").write_text(BASE)
    path = tmp_path / "derived.py"
    path.write_text("import os\n_base_ = './base.py'\nmodel = dict(backbone=dict(num_classes=20))\nwork_dir = os.sep\n")
    return path


def test_bases_are_merged_and_helpers_left_out(config: Path):
    cfg = load_config(config)
    assert cfg.model.backbone == {"type": "nat_mini", "depths": [2, 2], "num_classes": 20}
    assert cfg.work_dir == "/"
    assert "_helper" not in cfg
    assert "os" not in cfg


def test_options_go_on_top(config: Path):
    cfg = load_config(
        config,
        [
            "model.backbone.depths=1,1",
            "param_scheduler.0.warmup=2",
            "optim_wrapper.optimizer.betas=(0.9,0.95)",
            "train_cfg.max_epochs=3",
        ],
    )
    assert cfg.model.backbone.depths == [1, 1]
    assert cfg.param_scheduler[0].warmup == 2
    assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.95)
    assert cfg.train_cfg.max_epochs == 3
    assert load_config(config, {"model.backbone.num_classes": 7}).model.backbone.num_classes == 7


def test_dumping_and_loading_gives_the_same_config(config: Path, tmp_path: Path):
    cfg = load_config(config, ["model.backbone.depths=1,1"])
    cfg.dump(tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py").to_dict() == cfg.to_dict()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("k=3", 3),
        ("k=1e-3", 1e-3),
        ("k=true", True),
        ("k=False", False),
        ("k=none", None),
        ("k=None", None),
        ("k=1,2,3", [1, 2, 3]),
        ("k=[1,2]", [1, 2]),
        ("k=(1,2)", (1, 2)),
        ("k=[(1,2),[3]]", [(1, 2), [3]]),
        ("k=[a,b]", ["a", "b"]),
        ("k=a,b", ["a", "b"]),
        ("k=[[1,true],[x,2]]", [[1, True], ["x", 2]]),
        ("k=data/images", "data/images"),
        ("k=rand-m9-mstd0.5-inc1", "rand-m9-mstd0.5-inc1"),
        ("k='1,2'", "1,2"),
        ("k=a=b", "a=b"),
        ("k={'a': 1}", {"a": 1}),
        ("k=", ""),
    ],
)
def test_values_of_options(option: str, value: object):
    parsed = parse_options([option])["k"]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("option", ["model.x", "=3", "a..b=3", ".a=1"])
def test_options_need_a_key_and_a_value(option: str):
    with pytest.raises(ConfigError, match="must be key=value"):
        parse_options([option])


def test_a_wrong_top_level_key_names_the_right_one(config: Path):
    with pytest.raises(ConfigError, match=r"'modle'. Did you mean 'model'"):
        load_config(config, ["modle.x=1"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("param_scheduler.1.warmup=2", "param_scheduler is a list of 1, and '1' is not one of its indices"),
        ("param_scheduler.first.warmup=2", "'first' is not one of its indices"),
        ("optim_wrapper.optimizer.betas.0=0.5", "optim_wrapper.optimizer.betas is a tuple. Replace it completely"),
        ("model.backbone.type.name=2", "model.backbone.type is 'nat_mini' and has no keys"),
    ],
)
def test_options_that_lead_nowhere(config: Path, option: str, said: str):
    with pytest.raises(ConfigError, match=said):
        load_config(config, [option])


def test_shipped_configs_are_found_by_name():
    names = list_configs()
    assert "quickstart/nat_digits" in names
    assert not any(name.startswith("_base_") for name in names)
    expected = CONFIG_ROOT / "quickstart/nat_digits.py"
    for given in (
        "nat_digits",
        "quickstart/nat_digits",
        "quickstart/nat_digits.py",
        "configs/quickstart/nat_digits.py",
        str(expected),
    ):
        assert find_config(given).resolve() == expected
    assert config_name(expected) == "quickstart/nat_digits"


def test_a_file_goes_before_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "nat_digits.py").write_text("work_dir = 'mine'\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("nat_digits.py").work_dir == "mine"
    assert load_config("nat_digits").get("work_dir") != "mine"
    assert config_name("nat_digits.py") == "nat_digits.py"


def test_an_unknown_name_tells_the_nearest():
    with pytest.raises(ConfigError, match=r"There is no file nat_digit\..*'nat_digit'. Did you mean 'nat_digits'"):
        find_config("nat_digit")
    with pytest.raises(ConfigError, match="Did you mean 'quickstart/nat_digits'"):
        find_config("quickstrat/nat_digits.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nmodel = dict(", "SyntaxError: line 2: "),
        ("return 3", "SyntaxError: line 1: "),
        ("_base_ = './nowhere.py'", "there is no base .*nowhere.py"),
        ("_base_ = 3", "_base_ must be a path or a list of paths, got 3"),
        ("_base_ = 'mmdet::mask_rcnn.py'", "_base_ must be the path of a file"),
        ("_base_ = 'broken.py'", "is a base of itself"),
        ("x = 1\nmodel = dict(depth=undefined)", "NameError: line 2: .*undefined"),
        ("filename = 'x'", "filename is reserved for config file"),
    ],
)
def test_configs_that_cannot_be_loaded(tmp_path: Path, text: str, said: str):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"broken\.py:? {said}"):
        load_config(path)


def test_other_files_are_no_configs(tmp_path: Path):
    path = tmp_path / "weights.pth"
    path.write_text("")
    with pytest.raises(ConfigError, match=r"must end with \.py"):
        find_config(path)
