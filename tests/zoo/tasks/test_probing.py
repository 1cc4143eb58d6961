"""Probes on frozen backbones: what is trained, what the probe sees, and training and testing from a config."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from attnzoo import create_model
from attnzoo.heads.probing import EfficientProbe, LinearProbe
from attnzoo.tools import test as test_tool
from attnzoo.tools import train as train_tool
from attnzoo.zoo.config import ConfigError, check_config, load_config
from attnzoo.zoo.registry import MODELS
from support.tiny_classifier import BACKBONE, write_config

BODY: dict[str, Any] = {"type": "nat_mini", **BACKBONE}
PROBES = ({"type": "LinearProbe"}, {"type": "EfficientProbe", "num_queries": 8, "d_out": 2})


def build(probe: dict[str, Any] | nn.Module = PROBES[0], **options: Any) -> Any:
    torch.manual_seed(0)
    probe = {**probe, "num_classes": 3} if isinstance(probe, dict) else probe
    return MODELS.build({"type": "Probe", "backbone": BODY, "probe": probe, **options})


def batch(size: int = 6) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (size, 3, 16, 16), generator=generator, dtype=torch.uint8),
        "label": torch.arange(size) % 3,
        "index": list(range(size)),
        "epoch": [0] * size,
        "path": [f"{number}.png" for number in range(size)],
    }


class Normed(nn.Module):
    """A backbone from elsewhere, with BatchNorm and dropout, that gives a list of maps."""

    num_features = 8

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)

    def forward(self, image):
        x = self.drop(self.norm(self.conv(image)))
        return [image, x]


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("backbone", [BODY, {**BODY, "features_only": True}, Normed()])
def test_only_the_probe_is_trained(probe, backbone):
    settings = {**probe, "num_queries": 2} if "num_queries" in probe and backbone is not BODY else probe
    model = build(settings, backbone=backbone).train()
    before = copy.deepcopy(model.state_dict())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {id(one) for one in trained} == {id(one) for one in model.probe.parameters()}
    for _ in range(2):
        logged = model.train_step(batch(), OptimWrapper(torch.optim.SGD(trained, lr=1.0)))
    assert {"loss", "train_top1"} <= set(logged)
    assert not any(module.training for module in model.backbone.modules())
    assert model.probe.training
    for name, value in model.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, before[name]), name
        else:
            assert not torch.equal(value, before[name]), name


def test_the_probe_sees_the_normalised_last_map():
    model = build({"type": "EfficientProbe"}).eval()
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = model.probe(model.backbone.forward_features(image))
    assert model.probe.in_channels == 64
    torch.testing.assert_close(model(image), expected)
    assert not model.features(image.clone().requires_grad_()).requires_grad
    maps = build(backbone={**BODY, "features_only": True, "out_indices": (0,)}).eval()
    assert maps.probe.in_channels == 32
    assert torch.equal(maps.features(image), maps.backbone(image)[0])


def test_class_tokens_are_left_out():
    backbone: Any = create_model("agent_deit_tiny", img_size=32, num_classes=0).eval()
    model = build(backbone=backbone).eval()
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = backbone.forward_features(image)
    assert backbone.num_prefix_tokens == 1
    assert tokens.shape[1] == 5
    torch.testing.assert_close(model.features(image), tokens[:, 1:])


def test_predictions_are_a_classifiers():
    model = build(data_preprocessor={"mean": (0.5,) * 3, "std": (0.5,) * 3}).eval()
    found = model.test_step(batch())
    logits = model(model.data_preprocessor(batch())["image"])
    for number, one in enumerate(found):
        torch.testing.assert_close(one.pop("scores"), logits[number].softmax(0))
        assert one == {"index": number, "label": number % 3, "path": f"{number}.png"}


def test_mixing_reaches_a_probe():
    mixed = build(mixing={"mixup_alpha": 0.8}, seed=1).eval()
    plain = build().eval()
    data = mixed.data_preprocessor(batch())
    assert mixed(**data, mode="loss")["loss"] != plain(**data, mode="loss")["loss"]


def test_weights_to_start_from_are_the_backbones(tmp_path):
    start = create_model(BODY["type"], **{key: value for key, value in BODY.items() if key != "type"}, num_classes=7)
    torch.save(start.state_dict(), tmp_path / "start.pth")
    model = build(init_weights=str(tmp_path / "start.pth"))
    probe = copy.deepcopy(model.probe.state_dict())
    model.init_weights()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, start.state_dict()[name]), name
    assert all(torch.equal(value, probe[name]) for name, value in model.probe.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": {"type": "LinearProb"}}, "'LinearProbe'"),
        ({"probe": {"type": "EfficientProbe", "num_queries": 5}}, "got in_channels=64, num_queries=5"),
        ({"backbone": nn.Identity()}, "number of channels of Identity is unknown"),
    ],
)
def test_impossible_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_module_with_its_channels_is_taken_as_it_is():
    probe = LinearProbe(3, 4)
    assert build(backbone=nn.Identity(), probe=probe).probe is probe
    assert isinstance(build(PROBES[1]).probe, EfficientProbe)


CONFIG = """
_base_ = ["tiny.py"]
model = dict(
    type="Probe",
    backbone=dict(num_classes=0),
    probe=dict(type="EfficientProbe", num_classes={classes}, num_queries=8),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type="SGD", lr=1.0, momentum=0.9))
train_cfg = dict(max_epochs=12, val_interval=12)
"""


@pytest.fixture
def config(tmp_path: Path):
    tiny = write_config(tmp_path, train=8)

    def write(classes: int = 3) -> Path:
        path = tiny.with_name(f"probe_{classes}.py")
        path.write_text(CONFIG.replace("{classes}", str(classes)))
        return path

    return write


def test_a_probe_is_trained_and_tested_from_a_config(config, tmp_path: Path):
    path = config()
    assert train_tool.main([str(path), "--work-dir", str(tmp_path / "run")]) == 0
    checkpoint = tmp_path / "run" / "epoch_12.pth"
    assert test_tool.main([str(path), str(checkpoint), "--work-dir", str(tmp_path / "test")]) == 0
    results = json.loads((tmp_path / "test" / "results.json").read_text())
    assert results["top1"] == 100.0


def test_another_number_of_classes_than_the_data_have_is_named(config):
    with pytest.raises(ConfigError, match=r"model.probe.num_classes: is 4, but .* has 3 classes"):
        check_config(load_config(config(4)))
