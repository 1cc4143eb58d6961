"""The registry: finding models, and registering them from inside and outside the package."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.backbones import registry
from attnzoo.backbones.common.backbone import Backbone
from attnzoo.backbones.registry import PretrainedCfg


class Family(types.ModuleType):
    """A module with entry points; their annotations are looked up in it."""

    Any = Any
    nn = nn

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.default_cfgs: dict[str, PretrainedCfg] = {}


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    """An empty family `zebra`, in a registry that is restored after the test."""
    registry.list_models()
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    module = Family("elsewhere.zebra")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def entry_point(module: Family, name: str) -> Any:
    def build(width: int = 2) -> nn.Linear:
        return nn.Linear(width, width)

    build.__name__, build.__module__ = name, module.__name__
    return build


def test_names_are_listed_in_natural_order(family: Family):
    family.default_cfgs = {f"zebra{size}.untrained": PretrainedCfg() for size in (10, 9, 100)}
    for size in (10, 9, 100):
        registry.register_model(entry_point(family, f"zebra{size}"))
    assert registry.list_models("zebra*") == ["zebra9", "zebra10", "zebra100"]
    assert registry.list_models(family="zebra") == ["zebra9", "zebra10", "zebra100"]
    assert "zebra" in registry.list_families()
    assert registry.list_models("zebra*", pretrained=True) == []


def test_patterns_and_tags(family: Family):
    family.default_cfgs = {
        "zebra.in1k": PretrainedCfg(url="https://example.org/a.pth", top1=50.0),
        "zebra.in22k": PretrainedCfg(hf_hub_id="some/zebra", num_classes=21841),
        "zebra.untrained": PretrainedCfg(),
        "zebra_large.untrained": PretrainedCfg(),
    }
    built = registry.register_model(entry_point(family, "zebra"))
    registry.register_model(entry_point(family, "zebra_large"))
    assert registry.list_models("zebra") == ["zebra"]
    assert registry.list_models("zebra*", pretrained=True) == ["zebra.in1k", "zebra.in22k"]
    assert registry.list_models("zebra", pretrained=True) == ["zebra.in1k", "zebra.in22k"]
    assert registry.list_models("*.in22k", pretrained=True, family="zebra") == ["zebra.in22k"]
    assert registry.get_tags("zebra") == ["in1k", "in22k", "untrained"]
    assert registry.get_pretrained_cfg("zebra").tag == "in1k"
    assert registry.get_pretrained_cfg("zebra.in22k").num_classes == 21841
    assert registry.get_pretrained_cfg("zebra.in22k").architecture == "zebra"
    assert registry.model_entrypoint("zebra.in22k") is registry.model_entrypoint("zebra") is built
    for name, expected in {"zebra": True, "zebra.in1k": True, "zebra.in21k": False, "zebr": False}.items():
        assert registry.is_model(name) is expected
    model = built(width=3)
    assert model.in_features == 3
    assert model.pretrained_cfg["top1"] == 50.0


def test_unknown_names_come_with_suggestions():
    with pytest.raises(ValueError, match=r"Unknown model 'nat_mny'\. Did you mean .*'nat_mini'"):
        registry.model_entrypoint("nat_mny")
    with pytest.raises(ValueError, match=r"nat_mini has no tag 'in1'. Did you mean 'in1k'"):
        registry.get_pretrained_cfg("nat_mini.in1")
    with pytest.raises(ValueError, match="nat_mini has no tag"):
        registry.model_entrypoint("nat_mini.in22k")
    with pytest.raises(ValueError, match=r"Unknown family 'nats'\. Did you mean 'nat'"):
        registry.list_models(family="nats")
    with pytest.raises(ValueError, match=r"nat_mini has no argument 'droprate'\. Did you mean 'drop_rate'"):
        registry.model_entrypoint("nat_mini")(droprate=0.1)


def test_registration_checks_default_cfgs(family: Family):
    with pytest.raises(ValueError, match=r"has no key for 'zebra': add 'zebra\.untrained'"):
        registry.register_model(entry_point(family, "zebra"))
    family.default_cfgs = {"zebra": PretrainedCfg()}
    with pytest.raises(ValueError, match=r"Keys of default_cfgs must have a tag, such as 'zebra\.in1k', got 'zebra'"):
        registry.register_model(entry_point(family, "zebra"))
    family.default_cfgs = {"nat_mini.untrained": PretrainedCfg()}
    with pytest.raises(
        ValueError, match=r"Model 'nat_mini' is already registered by attnzoo\.backbones\.nat\.variants"
    ):
        registry.register_model(entry_point(family, "nat_mini"))


def test_any_argument_passes_if_the_class_takes_any(family: Family):
    def build(**kwargs: Any) -> nn.Module:
        return nn.Linear(**kwargs)

    build.__name__, build.__module__ = "zebra", family.__name__
    family.default_cfgs = {"zebra.untrained": PretrainedCfg()}
    assert registry.register_model(build)(in_features=2, out_features=3).out_features == 3


def test_cfg_as_timm_reads_it():
    cfg = PretrainedCfg(top1=81.8, note="a note").to_dict()
    assert cfg["mean"] == registry.IMAGENET_MEAN
    assert cfg["top1"] == 81.8
    assert "url" not in cfg
    assert cfg["first_conv"] is cfg["pool_size"] is None
    assert not PretrainedCfg().has_weights
    assert PretrainedCfg(file="weights.pth").has_weights


def test_checkpoint_filter_of_a_module_that_is_not_a_backbone():
    with pytest.raises(ValueError, match="Linear is not a backbone"):
        registry.checkpoint_filter(nn.Linear(1, 1))


OWN_MODULE = """
import attnzoo
from torch import nn


class Tower(nn.Module):
    def __init__(self, width: int = 4, num_classes: int = 3, in_chans: int = 3) -> None:
        super().__init__()
        self.fc = nn.Linear(width, num_classes)


@attnzoo.register_model
def tower_small(**kwargs) -> Tower:
    return Tower(**{"width": 2, **kwargs})
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A user's module that registers a model, imported, and forgotten after the test."""
    registry.list_models()
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    (tmp_path / "users_towers.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("users_towers")
    del sys.modules["users_towers"]


class TestRegistrationFromOutside:
    def test_the_model_is_found_and_built(self, own_module: Any):
        assert attnzoo.list_models(family="users_towers") == ["tower_small"]
        assert attnzoo.get_pretrained_cfg("tower_small").tag == "untrained"
        model = attnzoo.create_model("tower_small", num_classes=5)
        assert isinstance(model, own_module.Tower)
        assert model.get_parameter("fc.weight").shape == (5, 2)
        with pytest.raises(ValueError, match=r"tower_small has no argument 'widht'\. Did you mean 'width'"):
            attnzoo.create_model("tower_small", widht=3)

    def test_its_checkpoints_load(self, own_module: Any):
        model = registry.model_entrypoint("tower_small")()
        published = {f"module.{name}": value + 1 for name, value in model.state_dict().items()}
        attnzoo.load_weights(model, published)
        assert torch.equal(model.fc.weight, published["module.fc.weight"])

    def test_its_own_checkpoint_filter_is_used(self, own_module: Any, monkeypatch: pytest.MonkeyPatch):
        def checkpoint_filter_fn(state_dict: Any, model: Any) -> Any:
            return {name.replace("head.", "fc."): value for name, value in state_dict.items()}

        monkeypatch.setattr(own_module, "checkpoint_filter_fn", checkpoint_filter_fn, raising=False)
        model = registry.model_entrypoint("tower_small")()
        assert registry.checkpoint_filter(model)({"head.bias": 1}) == {"fc.bias": 1}

    def test_a_backbone_that_was_not_registered(self):
        class Own(Backbone):
            pass

        assert registry.checkpoint_filter(Own())({"module.stem.weight": 1}) == {"stem.weight": 1}


def test_every_module_beside_the_registry_is_a_family():
    folder = Path(registry.__file__).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    families = {name for name in registry.list_families() if f"attnzoo.backbones.{name}" in sys.modules}
    assert families == modules - {"__init__", "registry", "common"}


def test_the_registry_imports_no_framework():
    code = (
        "import sys, attnzoo.backbones.registry\n"
        "found = {'torch', 'timm', 'mmengine', 'attnzoo.backbones.nat'} & set(sys.modules)\n"
        "assert not found, found\n"
        "attnzoo.backbones.registry.list_models()\n"
        "assert 'attnzoo.backbones.nat' in sys.modules\n"
        "assert not {'mmengine', 'cv2', 'albumentations'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
