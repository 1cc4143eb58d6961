"""create_model: names, tags, arguments, checkpoints; what is wrong is told with the nearest right."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import attnzoo
from attnzoo import PretrainedCfg, create_model, get_pretrained_cfg, list_models
from attnzoo.backbones import registry
from attnzoo.zoo.factory import resolve_pretrained_cfg

from .weights.small_models import SMALL, official_names, same_weights, small


def test_a_model_is_built_with_its_arguments() -> None:
    model: Any = create_model("nat_mini", num_classes=3, in_chans=2, drop_path_rate=0.3, **SMALL)
    assert model.stem.convs[0].in_channels == 2
    assert model(torch.randn(1, 2, 32, 32)).shape == (1, 3)
    assert model.stages[3].blocks[0].drop_path.drop_prob == pytest.approx(0.3)
    assert not hasattr(model, "load_report")


def test_the_tag_determines_the_default_number_of_classes() -> None:
    tiny: dict[str, Any] = {"dilations": 1, **SMALL}
    assert create_model("dinat_large.in22k", **tiny).num_classes == 21841
    assert create_model("dinat_large.in22k_ft_in1k", **tiny).num_classes == 1000
    assert create_model("dinat_large.in22k", num_classes=4, **tiny).num_classes == 4
    assert create_model("dinat_large.in22k", num_classes=0, **tiny).num_classes == 0


def test_the_tag_chooses_the_configuration() -> None:
    model: Any = small()
    assert (model.pretrained_cfg["architecture"], model.pretrained_cfg["tag"]) == ("nat_mini", "in1k")
    assert model.default_cfg is model.pretrained_cfg
    with torch.device("meta"):
        by_name: Any = create_model("dinat_large.in22k", dilations=1, **SMALL)
        by_argument: Any = create_model("dinat_large", pretrained_cfg="in22k", dilations=1, **SMALL)
        both: Any = create_model("dinat_large.in22k_ft_in1k", pretrained_cfg="in22k", dilations=1, **SMALL)
    assert by_name.pretrained_cfg["tag"] == "in22k"
    assert by_name.pretrained_cfg == by_argument.pretrained_cfg == both.pretrained_cfg


def test_a_configuration_can_be_given() -> None:
    cfg = PretrainedCfg(num_classes=11, mean=(0.5,) * 3, first_conv="stem.convs.0")
    model: Any = create_model("nat_mini", pretrained_cfg=cfg, **SMALL)
    assert model.num_classes == 11
    assert model.pretrained_cfg["mean"] == (0.5,) * 3
    assert model.pretrained_cfg["architecture"] == "nat_mini"
    fields = {"num_classes": 12, "std": [0.2, 0.2, 0.2], "label_offset": 0}
    model = create_model("nat_mini", pretrained_cfg=fields, pretrained_cfg_overlay={"crop_pct": 1.0}, **SMALL)
    assert model.num_classes == 12
    assert model.pretrained_cfg["std"] == (0.2, 0.2, 0.2)
    assert model.pretrained_cfg["crop_pct"] == 1.0
    assert model.pretrained_cfg["first_conv"] == "stem.convs.0"


def test_a_given_source_replaces_all_published_ones() -> None:
    cfg, weights = resolve_pretrained_cfg("nat_mini", {"hf_hub_id": "me/mine"})
    assert (cfg.url, cfg.file, cfg.hf_hub_id, weights) == (None, None, "me/mine", None)
    cfg, _ = resolve_pretrained_cfg("nat_mini", {"crop_pct": 1.0})
    assert cfg.url == get_pretrained_cfg("nat_mini").url
    cfg, weights = resolve_pretrained_cfg("nat_mini", None, {"state_dict": {"a": 1}})
    assert weights == {"a": 1}


def test_feature_maps_are_returned_on_request() -> None:
    model: Any = create_model("nat_mini", features_only=True, out_indices=(1, 3), **SMALL)
    maps = model(torch.randn(1, 3, 64, 64))
    assert [tuple(one.shape) for one in maps] == [(1, 8, 8, 8), (1, 16, 2, 2)]
    assert model.feature_info.reduction() == [8, 32]
    assert model.pretrained_cfg["architecture"] == "nat_mini"
    assert not any(name.startswith("body.head.") for name in model.state_dict())
    with pytest.raises(ValueError, match="features_only=True"):
        create_model("nat_mini", out_indices=(1,), **SMALL)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: create_model("nat_minni"), "Unknown model 'nat_minni'. Did you mean 'nat_mini'"),
        (lambda: create_model("nat_mini.in2k"), "nat_mini has no tag 'in2k'. Did you mean 'in1k'"),
        (lambda: create_model("nat_mini", pretrained_cfg="in2k"), "Did you mean 'in1k'"),
        (lambda: create_model("nat_mini", pretrained_cfg={"crop_ptc": 1}), "'crop_ptc'. Did you mean 'crop_pct'"),
        (lambda: create_model("nat_mini", pretrained_cfg_overlay={"fiel": 1}), "'fiel'. Did you mean 'file'"),
        (lambda: create_model("nat_mini", pretrained_cfg=3), "a tag, a PretrainedCfg or a mapping"),  # pyright: ignore[reportArgumentType] (a wrong type on purpose)
        (
            lambda: create_model("nat_mini", kernelsize=3),
            "nat_mini has no argument 'kernelsize'. Did you mean 'kernel_size'",
        ),
        (lambda: create_model("nat_mini", num_class=3), "Did you mean 'num_classes'"),
        (lambda: create_model("nat_mini", feature_only=True), "Did you mean 'features_only'"),
        (lambda: create_model("nat_mini", img_size=64), "Allowed: 'attention'"),
        (lambda: create_model("weights/nat_mini.pth", **SMALL), "Unknown model 'weights/nat_mini'"),
        (
            lambda: create_model("https://example.org/nat.pth", **SMALL),
            "pass files and URLs of weights as checkpoint_path=",
        ),
        (lambda: create_model("nat_mini", True, checkpoint_path="a.pth"), "not both"),
    ],
)
def test_wrong_arguments_suggest_similar_names(call: Any, says: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is what is tested, below
        call()
    assert says in str(error.value)


def test_the_arguments_of_every_model_are_known() -> None:
    for name in list_models():
        assert {"num_classes", "in_chans", "drop_path_rate"} <= (registry.model_arguments(name) or set()), name


@pytest.fixture
def untrained() -> Iterator[str]:
    """Registers for one test a model of the NAT family that nobody has published weights for."""
    entry = registry._entries["nat_mini"]
    cfg = PretrainedCfg(architecture="nat_untrained", tag="untrained", first_conv="stem.convs.0")
    registry._entries["nat_untrained"] = registry._Entry(entry.family, entry.build, {"untrained": cfg})
    yield "nat_untrained"
    del registry._entries["nat_untrained"]


def test_a_model_without_published_weights_lists_others(untrained: str) -> None:
    create_model(untrained, **SMALL)
    with pytest.raises(ValueError, match=r"No weights are published for 'nat_untrained'\. Available: .*in1k") as error:
        create_model(untrained, pretrained=True, **SMALL)
    assert "checkpoint_path=" in str(error.value)
    with pytest.raises(ValueError, match="No weights are published"):
        create_model(untrained, pretrained=True, pretrained_cfg_overlay={"crop_pct": 1.0}, **SMALL)


@pytest.mark.parametrize("use_ema", [None, True, False])
def test_a_checkpoint_of_training_loads_with_its_classes(tmp_path: Path, use_ema: bool | None) -> None:
    raw, averaged = small(seed=1), small(seed=2)
    path = tmp_path / "epoch_3.pth"
    torch.save(
        {
            "format": "attnzoo.training/1",
            "state_dict": {f"backbone.{name}": value for name, value in raw.state_dict().items()},
            "ema_state_dict": {f"backbone.{name}": value for name, value in averaged.state_dict().items()},
        },
        path,
    )
    model: Any = create_model("nat_mini", checkpoint_path=path, use_ema=use_ema, **SMALL)
    assert same_weights(model, raw if use_ema is False else averaged)
    assert model.num_classes == 5
    assert model.load_report.adopted_classes == 5


def test_a_checkpoint_with_another_head_is_adapted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = small(seed=1)
    torch.save({"state_dict": official_names(other.state_dict())}, tmp_path / "a.pth")
    with caplog.at_level(logging.WARNING, "attnzoo"):
        model: Any = small(num_classes=9, in_chans=1, checkpoint_path=tmp_path / "a.pth")
    assert model.num_classes == 9
    assert same_weights(model, other, but=r"^head\.|^stem\.convs\.0\.weight")
    assert "The head was not loaded" in caplog.text
    assert "from 3 to 1 input channels" in caplog.text


def test_feature_maps_load_a_checkpoint(tmp_path: Path) -> None:
    other: Any = small(seed=1)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in other.state_dict().items()}}, tmp_path / "a.pth")
    model: Any = create_model("nat_mini", features_only=True, checkpoint_path=tmp_path / "a.pth", **SMALL)
    assert torch.equal(model.body.stages[3].blocks[0].attn.rpb, other.stages[3].blocks[0].attn.rpb)


def test_a_negative_number_of_classes_requests_a_fresh_head(tmp_path: Path) -> None:
    """How timm's train.py fine-tunes from a file: --pretrained-path."""
    other = small(seed=1)
    torch.save(other.state_dict(), tmp_path / "a.pth")
    overlay = {"file": str(tmp_path / "a.pth"), "num_classes": -1}
    model = small(pretrained=True, pretrained_cfg_overlay=overlay)
    assert same_weights(model, other, but=r"^head\.")
    assert not same_weights(model, other)


def test_the_report_is_copied_with_the_model() -> None:
    model = small(pretrained=True, pretrained_cfg_overlay={"state_dict": small(seed=1).state_dict()})
    assert "a state dict in memory" in str(copy.deepcopy(model).load_report)


def test_the_public_functions_are_the_registrys() -> None:
    assert attnzoo.list_models is registry.list_models
    assert attnzoo.is_model("nat_mini.in1k")
    assert not attnzoo.is_model("nat_mini.in2k")
    assert "nat_mini.in1k" in attnzoo.list_models("nat_*", pretrained=True, family="nat")


def test_every_model_accepts_dense_settings():
    plain = create_model("van_b0", features_only=True, depths=(1, 1, 1, 1))
    dense = create_model("van_b0", features_only=True, depths=(1, 1, 1, 1), dense="coco")
    assert plain.state_dict().keys() == dense.state_dict().keys()
    assert "norm0.weight" in create_model("nat_mini", features_only=True, dense="coco").state_dict()
    with pytest.raises(ValueError, match="ade20k"):
        create_model("van_b0", features_only=True, dense="ade")  # pyright: ignore[reportArgumentType]
