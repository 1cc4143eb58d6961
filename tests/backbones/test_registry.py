"""The list of models: finding them, and registering them."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import pytest
from torch import nn

from attnzoo.backbones import registry
from attnzoo.backbones.registry import PretrainedCfg


class Family(types.ModuleType):
    """A module with models; its functions' annotations are looked up in it."""

    Any = Any
    nn = nn

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.default_cfgs: dict[str, PretrainedCfg] = {}


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    """An empty family, `zebra`, in a registry whose other models come back afterwards."""
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


def test_wrong_names_are_told_the_nearest():
    with pytest.raises(ValueError, match=r"There is no model 'nat_mny'\. Did you mean .*'nat_mini'"):
        registry.model_entrypoint("nat_mny")
    with pytest.raises(ValueError, match=r"There is no tag of nat_mini 'in1'. Did you mean 'in1k'"):
        registry.get_pretrained_cfg("nat_mini.in1")
    with pytest.raises(ValueError, match="tag of nat_mini"):
        registry.model_entrypoint("nat_mini.in22k")
    with pytest.raises(ValueError, match=r"There is no family 'nats'\. Did you mean 'nat'"):
        registry.list_models(family="nats")
    with pytest.raises(ValueError, match=r"There is no argument of nat_mini 'droprate'\. Did you mean 'drop_rate'"):
        registry.model_entrypoint("nat_mini")(droprate=0.1)


def test_registering_checks_what_is_published(family: Family):
    with pytest.raises(ValueError, match=r"has nothing for 'zebra': add 'zebra\.untrained'"):
        registry.register_model(entry_point(family, "zebra"))
    family.default_cfgs = {"zebra": PretrainedCfg()}
    with pytest.raises(ValueError, match="The key 'zebra' of default_cfgs needs a tag"):
        registry.register_model(entry_point(family, "zebra"))
    family.default_cfgs = {"nat_mini.untrained": PretrainedCfg()}
    with pytest.raises(ValueError, match=r"'nat_mini' is registered already, by attnzoo\.backbones\.nat\.variants"):
        registry.register_model(entry_point(family, "nat_mini"))


def test_arguments_that_cannot_be_known_are_let_through(family: Family):
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


def test_checkpoint_filter_of_a_stranger():
    with pytest.raises(ValueError, match="Linear is no backbone of this package"):
        registry.checkpoint_filter(nn.Linear(1, 1))


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
