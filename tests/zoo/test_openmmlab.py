"""Backbones in OpenMMLab's configs, against mmengine's registries alone."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope, Registry
from mmengine.runner import load_checkpoint
from torch import nn

from attnzoo import create_model, list_models, load_weights
from attnzoo.zoo import openmmlab

from .weights.small_models import SMALL, official_names, same_weights, small

TEXT = """
custom_imports = dict(imports="attnzoo.zoo.openmmlab", allow_failed_imports=False)
default_scope = "mmdet"
model = dict(
    type="Detector",
    backbone=dict(
        type="attnzoo_nat_mini",
        depths=(1, 1, 1, 1),
        embed_dims=(8, 8, 16, 16),
        num_heads=(1, 1, 1, 1),
        kernel_size=3,
        out_indices=(1, 3),
        drop_path_rate=0.1,
    ),
)
"""


@pytest.fixture
def mmdet(registry: Registry) -> Iterator[Registry]:
    """Mmdetection's registry while its scope is the default one, as in its programs, whatever ran before."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield registry


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry below mmengine's, as mmdetection has it, with a detector that asks it for a backbone."""
    registry = Registry("model", parent=MODELS, scope="mmdet", locations=["attnzoo"])

    @registry.register_module()
    class Detector(BaseModule):
        def __init__(self, backbone: dict[str, Any], init_cfg: Any = None) -> None:
            super().__init__(init_cfg)
            self.backbone = registry.build(backbone)
            self.neck = nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> Any:
            return self.backbone(x)

    yield registry
    MODELS._children.pop("mmdet", None)


def build(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    return MODELS.build({"type": "attnzoo_nat_mini", **SMALL, **kwargs})


def test_a_config_with_custom_imports_builds_a_detector(mmdet: Registry, tmp_path: Path):
    path = tmp_path / "detector.py"
    path.write_text(TEXT)
    config = Config.fromfile(path)
    for model in (config.model, Config.fromstring(str(config.dump()), ".py").model):
        detector: Any = mmdet.build(model)
        maps = detector(torch.randn(1, 3, 40, 33))
        assert isinstance(maps, tuple)
        assert [tuple(one.shape) for one in maps] == [(1, 8, 5, 5), (1, 16, 2, 2)]
        assert detector.backbone.out_channels == [8, 16]
        assert detector.backbone.strides == [8, 32]


def test_every_backbone_is_registered_once():
    names = openmmlab.register()
    assert names == [f"attnzoo_{name}" for name in list_models()]
    found: list[Any] = [MODELS.get(name) for name in names]
    assert [f"attnzoo_{one.entry_point}" for one in found] == names
    with DefaultScope.overwrite_default_scope("mmengine"):
        assert MODELS.get("attnzoo_van_b0") is openmmlab.attnzoo_van_b0  # pyright: ignore[reportAttributeAccessIssue]


def test_initialization_keeps_loaded_weights(mmdet: Registry, tmp_path: Path):
    weights = small(seed=5)
    torch.save(weights.state_dict(), tmp_path / "body.pth")
    wanted = {name: value for name, value in weights.state_dict().items() if name.startswith(("stem", "stages"))}

    def loaded(detector: Any) -> bool:
        own = detector.backbone.maps.body.state_dict()
        return all(torch.equal(own[name], value) for name, value in wanted.items())

    settings = {"type": "attnzoo_nat_mini", **SMALL}
    for given in ({"pretrained": str(tmp_path / "body.pth")}, {"checkpoint_path": str(tmp_path / "body.pth")}):
        detector: Any = mmdet.build({"type": "Detector", "backbone": {**settings, **given}})
        assert loaded(detector)
        detector.init_weights()
        assert loaded(detector)
    (tmp_path / "folder").mkdir()
    (tmp_path / "body.pth").rename(tmp_path / "folder" / "body.pth")
    later = {"init_cfg": {"type": "Pretrained", "checkpoint": f"local-dir:{tmp_path / 'folder'}"}}
    detector = mmdet.build({"type": "Detector", "backbone": {**settings, **later}})
    assert not loaded(detector)
    detector.init_weights()
    assert loaded(detector)
    detector.backbone.load_state_dict(build(out_indices=(0, 1, 2, 3)).state_dict())
    detector.init_weights()
    assert not loaded(detector)  # once is enough


def test_frozen_stages_and_norms_stay_in_evaluation_mode():
    backbone: Any = build(frozen_stages=1).train()
    body = backbone.maps.body
    assert not any(parameter.requires_grad for parameter in body.stem.parameters())
    assert not any(parameter.requires_grad for parameter in body.stages[0].parameters())
    assert all(parameter.requires_grad for parameter in body.stages[1].parameters())
    assert (body.stem.training, body.stages[0].training, body.stages[1].training) == (False, False, True)
    resnet: Any = MODELS.build(
        {"type": "attnzoo_eca_resnet18", "depths": (1, 1), "planes": (8, 16), "k_size": 3, "norm_eval": True}
    )
    norms = [module for module in resnet.train().modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert resnet.maps.training
    assert all(parameter.requires_grad for norm in norms for parameter in norm.parameters())


@pytest.mark.parametrize("form", ["own", "saved", "official"])
def test_checkpoints_of_complete_detectors_load_in_every_form(form: str, mmdet: Registry, tmp_path: Path):
    weights = small(seed=5, num_classes=0)
    state = {name: value for name, value in weights.state_dict().items() if not name.startswith("norm.")}
    detector: Any = mmdet.build({"type": "Detector", "backbone": {"type": "attnzoo_nat_mini", **SMALL}})
    if form == "saved":
        other = mmdet.build({"type": "Detector", "backbone": {"type": "attnzoo_nat_mini", **SMALL}})
        load_weights(other.backbone.maps, weights.state_dict())
        whole = {**detector.state_dict(), **other.state_dict()}
    else:
        whole = {
            f"backbone.{name}": value
            for name, value in (official_names(state) if form == "official" else state).items()
        }
        whole |= {"neck.weight": torch.ones(2, 8, 1, 1), "neck.bias": torch.zeros(2)}
    torch.save({"state_dict": whole, "meta": {}}, tmp_path / "detector.pth")
    load_checkpoint(detector, str(tmp_path / "detector.pth"), map_location="cpu", strict=True)
    own = detector.backbone.maps.body.state_dict()
    assert all(torch.equal(own[name], value) for name, value in state.items())
    assert torch.equal(detector.neck.weight, whole["neck.weight"])


def test_recomputation_gives_equal_gradients():
    first, second = build(), build(with_cp=True)
    images = torch.randn(1, 3, 32, 32)
    for model in (first, second):
        torch.stack([one.square().mean() for one in model(images)]).sum().backward()
    assert second.maps.body.stages[0].grad_checkpointing
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad)


def test_a_backbone_can_be_pickled():
    backbone = build()
    again = pickle.loads(pickle.dumps(backbone))
    assert same_weights(again, backbone)
    assert type(again) is type(backbone)


def test_wrong_arguments_are_errors(tmp_path: Path):
    with pytest.raises(ValueError, match="either pretrained or init_cfg"):
        build(pretrained=True, init_cfg={"type": "Pretrained", "checkpoint": "a.pth"})
    with pytest.raises(ValueError, match=r"must be dict\(type='Pretrained', checkpoint=\.\.\.\)"):
        build(init_cfg={"type": "Kaiming"})
    with pytest.raises(ValueError, match="nat_mini has no tag 'in2k'"):
        build(pretrained="in2k")
    with pytest.raises(ValueError, match="Did you mean 'drop_path_rate'"):
        build(drop_path_rat=0.1)
    with pytest.raises(FileNotFoundError):
        build(pretrained=str(tmp_path / "none.pth"))


def test_maps_equal_those_of_create_model():
    backbone = build(out_indices=(0, 2)).eval()
    other = create_model("nat_mini", features_only=True, out_indices=(0, 2), **SMALL).eval()
    other.load_state_dict(backbone.maps.state_dict())
    images = torch.randn(1, 3, 37, 41)
    with torch.no_grad():
        assert all(torch.equal(one, two) for one, two in zip(backbone(images), other(images), strict=True))


def test_weights_trained_in_openmmlab_load_into_the_zoo(mmdet: Registry, tmp_path: Path):
    detector: Any = mmdet.build({"type": "Detector", "backbone": {"type": "attnzoo_nat_mini", **SMALL}})
    torch.save({"state_dict": detector.state_dict(), "meta": {}}, tmp_path / "epoch_12.pth")
    maps = small(seed=9, features_only=True)
    load_weights(maps, tmp_path / "epoch_12.pth")
    assert same_weights(maps, detector.backbone.maps)


def test_the_documentation_lists_the_channels():
    backbone: Any = openmmlab.attnzoo_nat_mini(depths=(1, 1, 1, 1))  # pyright: ignore[reportAttributeAccessIssue]
    assert (backbone.out_channels, backbone.strides) == ([64, 128, 256, 512], [4, 8, 16, 32])
    text = (Path(openmmlab.__file__).parents[1] / "docs" / "openmmlab.md").read_text()
    assert "[64, 128, 256, 512], [4, 8, 16, 32]" in text
    assert 'imports="attnzoo.zoo.openmmlab"' in text
