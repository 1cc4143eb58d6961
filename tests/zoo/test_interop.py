"""timm builds, configures, trains and loads the zoo's models like its own, and keeps its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm.data
import timm.loss
import timm.models
import timm.optim
import timm.scheduler
import timm.utils
import torch
from huggingface_hub.errors import EntryNotFoundError

from attnzoo import create_model, list_models, register_in_timm, save_pretrained
from attnzoo.backbones import registry
from support.slow import slow_except

from .weights.small_models import SMALL, official_names, same_weights, small

TIMM: Any = timm  # its packages do not mark what they export, so that a type checker takes it for private


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_in_timm()


def timm_small(seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    return TIMM.create_model("attnzoo_nat_mini", **{"num_classes": 5, **SMALL, **kwargs})


def test_every_model_and_tag_is_listed() -> None:
    names = register_in_timm()
    assert names == [f"attnzoo_{name}" for name in list_models()]
    assert set(TIMM.list_models("attnzoo_*")) == set(names)
    published = [f"attnzoo_{name}" for name in list_models(pretrained=True)]
    assert set(TIMM.list_pretrained("attnzoo_*")) == set(published)
    assert "attnzoo_nat_mini" in TIMM.list_models(module="attnzoo_nat")
    for family in registry.list_families():
        assert all(name.startswith("attnzoo_") for name in TIMM.list_models(module=f"attnzoo_{family}"))


def test_registering_twice_changes_nothing() -> None:
    before = TIMM.model_entrypoint("attnzoo_nat_mini")
    register_in_timm()
    assert TIMM.model_entrypoint("attnzoo_nat_mini") is before


def test_the_default_tag_is_the_zoos() -> None:
    for name in list_models():
        assert TIMM.get_pretrained_cfg(f"attnzoo_{name}").tag == registry.get_tags(name)[0], name


def test_timms_own_models_are_never_replaced() -> None:
    def clash_nat_tiny(pretrained: bool = False, **kwargs: Any) -> torch.nn.Module:
        return torch.nn.Identity()

    TIMM.models.register_model(clash_nat_tiny)
    with pytest.raises(ValueError, match=r"timm already has 1 models of these names.*clash_nat_tiny"):
        register_in_timm("clash_")
    assert TIMM.list_models("clash_*") == ["clash_nat_tiny"]
    assert TIMM.model_entrypoint("clash_nat_tiny") is clash_nat_tiny


def test_another_prefix_adds_names() -> None:
    assert "other_nat_mini" in register_in_timm("other_")
    assert TIMM.is_model("other_nat_mini")
    assert TIMM.is_model("attnzoo_nat_mini")


def test_the_arguments_of_timms_scripts_are_accepted() -> None:
    model = TIMM.create_model(
        "attnzoo_nat_mini.in1k",
        pretrained=False,
        in_chans=1,
        num_classes=7,
        drop_rate=0.0,
        drop_path_rate=0.2,
        drop_block_rate=0.0,
        global_pool=None,
        bn_momentum=None,
        bn_eps=None,
        scriptable=False,
        checkpoint_path="",
        **SMALL,
    )
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert model.pretrained_cfg["architecture"] == "attnzoo_nat_mini"
    assert model.stages[3].blocks[0].drop_path.drop_prob == pytest.approx(0.2)


def test_feature_maps_through_timm() -> None:
    model: Any = timm_small(num_classes=None, features_only=True, out_indices=(0, 2))
    assert [tuple(one.shape) for one in model(torch.randn(1, 3, 64, 64))] == [(1, 8, 16, 16), (1, 16, 4, 4)]
    assert model.feature_info.channels() == [8, 16]
    assert model.feature_info.reduction() == [4, 16]


def test_unknown_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="Did you mean 'kernel_size'"):
        timm_small(kernelsize=3)


FIRST_OF_EACH_FAMILY = [list_models(family=family)[0] for family in registry.list_families()]


@pytest.mark.parametrize("name", slow_except(list_models(), FIRST_OF_EACH_FAMILY))
def test_the_data_configuration_of_every_model(name: str) -> None:
    with torch.device("meta"):
        model = TIMM.create_model(f"attnzoo_{name}")
    cfg = registry.get_pretrained_cfg(name)
    found = TIMM.data.resolve_model_data_config(model)
    assert found == {
        "input_size": cfg.input_size,
        "interpolation": cfg.interpolation,
        "mean": cfg.mean,
        "std": cfg.std,
        "crop_pct": cfg.crop_pct,
        "crop_mode": cfg.crop_mode,
    }
    TIMM.data.create_transform(**found)
    # What timm saves beside weights it must be able to read again.
    TIMM.models.PretrainedCfg(**model.pretrained_cfg)


def test_one_step_of_training_through_timm() -> None:
    model = timm_small(drop_path_rate=0.1)
    optimizer = TIMM.optim.create_optimizer_v2(model, opt="adamw", lr=1e-2, weight_decay=0.05, layer_decay=0.9)
    scheduler, _ = TIMM.scheduler.create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=4, warmup_epochs=1, warmup_lr=1e-3
    )
    average = TIMM.utils.ModelEmaV3(model, decay=0.5)
    mixup = TIMM.data.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=5)
    undecayed = {
        id(parameter)
        for group in optimizer.param_groups
        if group["weight_decay"] == 0.0
        for parameter in group["params"]
    }
    named = dict(model.named_parameters())
    assert id(named["stages.0.blocks.0.attn.rpb"]) in undecayed
    assert id(named["stages.0.blocks.0.attn.qkv.weight"]) not in undecayed
    assert len({group["lr_scale"] for group in optimizer.param_groups}) > 2
    images, target = mixup(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    loss = TIMM.loss.SoftTargetCrossEntropy()(model(images), target)
    loss.backward()
    optimizer.step()
    scheduler.step(1)
    average.update(model)
    assert torch.isfinite(loss)
    assert all(not torch.equal(before[name], parameter) for name, parameter in named.items())
    assert average.module(images).shape == (4, 5)


def test_pretrained_weights_through_timm(tmp_path: Path) -> None:
    other = small(seed=1, num_classes=1000)
    torch.save(official_names(other.state_dict()), tmp_path / "a.pth")
    overlay = {"file": str(tmp_path / "a.pth")}
    model = timm_small(pretrained=True, num_classes=None, pretrained_cfg_overlay=overlay)
    assert same_weights(model, other)
    model = timm_small(pretrained=True, in_chans=1, pretrained_cfg_overlay=overlay)
    assert same_weights(model, other, but=r"^head\.|^stem\.convs\.0\.weight")
    # What timm's train.py does since it resolves sizes itself: the whole configuration as a dict.
    cfg = TIMM.models.resolve_pretrained_cfg("attnzoo_nat_mini", pretrained_cfg_overlay=overlay).to_dict()
    assert same_weights(timm_small(pretrained=True, num_classes=None, pretrained_cfg=cfg), other)


@pytest.mark.parametrize("form", ["own", "official", "training", "timm"])
def test_checkpoint_path_through_timm(tmp_path: Path, form: str) -> None:
    other = small(seed=1)
    own = other.state_dict()
    contents = {
        "own": own,
        "official": {"model": official_names(own)},
        "training": {"state_dict": {f"backbone.{name}": value for name, value in own.items()}},
        "timm": {"state_dict": small().state_dict(), "state_dict_ema": own},
    }
    torch.save(contents[form], tmp_path / "a.pth")
    assert same_weights(timm_small(checkpoint_path=str(tmp_path / "a.pth")), other)


def test_a_wrapped_model_loads_its_own_names() -> None:
    model, other = torch.nn.Module(), torch.nn.Module()
    model.module, other.module = timm_small(), timm_small(seed=1)  # the prefix of data parallel training
    model.load_state_dict(other.state_dict())
    assert same_weights(model, other)


def test_wrong_checkpoints_are_rejected_through_timm(tmp_path: Path) -> None:
    own = small(seed=1).state_dict()
    del own["norm.weight"]
    torch.save(own, tmp_path / "a.pth")
    with pytest.raises(RuntimeError, match=r"Missing key.*norm\.weight"):
        timm_small(checkpoint_path=str(tmp_path / "a.pth"))
    torch.save({"conv1.weight": torch.ones(2)}, tmp_path / "b.pth")
    with pytest.raises(RuntimeError, match=r"conv1\.weight"):
        timm_small(checkpoint_path=str(tmp_path / "b.pth"))


def test_models_saved_by_timm_load_in_timm_and_in_the_zoo(tmp_path: Path) -> None:
    model = timm_small(seed=1)
    TIMM.models.save_for_hf(model, tmp_path, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "attnzoo_nat_mini"
    assert same_weights(TIMM.create_model(f"local-dir:{tmp_path}", pretrained=True, **SMALL), model)
    assert same_weights(create_model(f"local-dir:{tmp_path}", pretrained=True, **SMALL), model)


@pytest.mark.parametrize("source", ["local-dir", "hf-hub"])
def test_timm_opens_saved_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    model = small(seed=2, dilations=[[1], [2], [1], [3]])
    folder = save_pretrained(model, tmp_path / "saved", class_names=list("abcde"), preprocessing={"crop_pct": 0.8})

    def download(repo_id: str, filename: str, **_: Any) -> str:
        if repo_id != "owner/animals" or not (folder / filename).is_file():
            raise EntryNotFoundError(filename)
        return str(folder / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    opened = TIMM.create_model(
        f"local-dir:{folder}" if source == "local-dir" else "hf-hub:owner/animals", pretrained=True
    )
    assert same_weights(opened, model)
    assert opened.stages[3].blocks[0].attn.dilation == 3
    assert opened.pretrained_cfg["label_names"] == tuple("abcde")
    assert TIMM.data.resolve_model_data_config(opened)["crop_pct"] == 0.8
    assert TIMM.create_model(f"local-dir:{folder}", pretrained=False, num_classes=2).num_classes == 2


def test_timm_opens_saved_feature_maps(tmp_path: Path) -> None:
    model = small(seed=2, num_classes=None, features_only=True, out_indices=(0, 2))
    folder = save_pretrained(model, tmp_path / "saved")
    opened = TIMM.create_model(f"local-dir:{folder}", pretrained=True)
    assert same_weights(opened, model)
    assert opened.feature_info.reduction() == [4, 16]
