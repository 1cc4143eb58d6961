"""Models are rebuilt identically from a folder and from the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm.models
import torch
from safetensors.torch import load_file
from torch import nn

import attnzoo
from attnzoo import create_model, push_to_hub, save_pretrained
from attnzoo.zoo.registry import MODELS
from attnzoo.zoo.weights import publish

from .hub_server import Hub, running_hub
from .small_models import same_weights, small

CLASSES = ["cat", "dog", "emu", "fox", "gnu"]


@pytest.fixture
def repositories(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.randn(2, 3, 37, 32, generator=torch.Generator().manual_seed(0)))


def test_a_saved_model_is_rebuilt_bit_for_bit(tmp_path: Path):
    # Dilations leave no trace in the weights: only the arguments tell them.
    model = small(seed=3, dilations=[[1], [2], [1], [3]], drop_path_rate=0.1)
    folder = save_pretrained(
        model,
        tmp_path / "mine",
        class_names=CLASSES,
        preprocessing={"mean": (0.5, 0.4, 0.3), "input_size": (3, 96, 64)},
        metrics={"top-1 accuracy (%)": 81.25},
        license="mit",
        description="Trained on animals.",
        tag="animals",
    )
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again: Any = create_model(f"local-dir:{folder}")
    assert torch.equal(logits(again), logits(model))
    assert again.stages[3].blocks[0].attn.dilation == 3
    assert again.pretrained_cfg["label_names"] == tuple(CLASSES)
    assert again.pretrained_cfg["mean"] == (0.5, 0.4, 0.3)
    assert again.pretrained_cfg["input_size"] == (3, 96, 64)
    assert (again.pretrained_cfg["tag"], again.pretrained_cfg["license"]) == ("animals", "mit")
    assert again.load_report.loaded == len(model.state_dict())
    by_weights = small(seed=9, dilations=[[1], [2], [1], [3]])
    attnzoo.load_weights(by_weights, f"local-dir:{folder}")
    assert same_weights(by_weights, model)


def test_the_config_is_in_timms_form(tmp_path: Path):
    folder = save_pretrained(small(), tmp_path / "mine", class_names=CLASSES)
    config = json.loads((folder / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["label_names"]) == ("attnzoo_nat_mini", 5, CLASSES)
    assert config["model_args"]["depths"] == [1, 1, 1, 1]
    assert not {"url", "hf_hub_id", "top1"} & set(config["pretrained_cfg"])
    assert config["attnzoo"]["format"] == 2
    timm.models.PretrainedCfg(**config["pretrained_cfg"])
    assert config["attnzoo"]["pretrained_cfg"]["paper"]
    tensors = load_file(folder / "model.safetensors")
    assert tensors.keys() == small().state_dict().keys()


def test_weights_and_arguments_can_be_omitted_or_changed(tmp_path: Path):
    model = small(seed=3)
    folder = save_pretrained(model, tmp_path / "mine")
    assert not same_weights(create_model(f"local-dir:{folder}", pretrained=False), model)
    other: Any = create_model(f"local-dir:{folder}", num_classes=2, drop_path_rate=0.3)
    assert other.load_report.head_classes == (5, 2)
    assert same_weights(other, model, but=r"^head\.fc")
    maps = create_model(f"local-dir:{folder}", features_only=True, out_indices=(0, 2))
    assert [one.shape[1] for one in maps(torch.randn(1, 3, 32, 32))] == [8, 16]


def test_changes_after_building_are_saved(tmp_path: Path):
    model = small(seed=3, in_chans=1)
    model.reset_classifier(3, "max")
    again: Any = create_model(f"local-dir:{save_pretrained(model, tmp_path / 'mine')}")
    images = torch.randn(1, 1, 32, 32)
    assert torch.equal(again.eval()(images), model.eval()(images))
    assert (again.num_classes, again.head.global_pool) == (3, "max")


def test_feature_maps_are_rebuilt_as_feature_maps(tmp_path: Path):
    model: Any = small(seed=4, features_only=True, out_indices=(1, 2), dense="coco", dilations=None)
    folder = save_pretrained(model, tmp_path / "maps")
    again: Any = create_model(f"local-dir:{folder}")
    images = torch.randn(1, 3, 64, 64)
    assert again.out_indices == [1, 2]
    assert all(torch.equal(one, other) for one, other in zip(again(images), model(images), strict=True))
    assert "maps = model(images)" in (folder / "README.md").read_text()


def test_the_backbone_of_a_classifier_is_saved(tmp_path: Path):
    task = MODELS.build({"type": "Classifier", "backbone": small(seed=5)})
    again = create_model(f"local-dir:{save_pretrained(task, tmp_path / 'mine')}")
    assert same_weights(again, task.backbone)


def broken_weights() -> nn.Module:
    model = small()
    with torch.no_grad():
        model.head.fc.bias[0] = torch.nan
    return model


def other_arguments() -> nn.Module:
    model = small()
    model.model_args["kernel_size"] = 5
    return model


def no_arguments() -> nn.Module:
    model = small()
    del model.model_args
    return model


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return small()


class Segmentor(nn.Module):
    kind = "segmentation"


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [
        (small, {"class_names": ["a", "b"]}, "class_names has 2 names, but the model has 5 classes"),
        (small, {"model_args": {"kernel_sise": 3}}, "Did you mean 'kernel_size'"),
        (small, {"model_args": {"depths": {1}}}, "cannot be written to a JSON file"),
        (small, {"preprocessing": {"maen": 1}}, "Did you mean 'mean'"),
        (broken_weights, {}, "values that are not finite"),
        (other_arguments, {}, r"differs in .*rpb.*pass them as model_args="),
        (no_arguments, {}, r"pass them as model_args=dict\(\.\.\.\)"),
        (on_meta, {}, "meta device, which stores no values"),
        (lambda: nn.Linear(1, 1), {}, "not a model of the zoo"),
        (Segmentor, {}, "is a detector or segmentor"),
    ],
)
def test_errors_leave_no_files(tmp_path: Path, make: Any, kwargs: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        save_pretrained(make(), tmp_path / "mine", **kwargs)
    assert not list(tmp_path.iterdir())


def test_an_existing_model_is_replaced_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = small(seed=1), small(seed=2)
    folder = save_pretrained(first, tmp_path / "mine")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True replaces them"):
        save_pretrained(second, folder)
    assert same_weights(create_model(f"local-dir:{folder}"), first)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(publish, "write_text", full)
        with pytest.raises(OSError, match="no space"):
            save_pretrained(second, folder, overwrite=True)
    assert same_weights(create_model(f"local-dir:{folder}"), first)
    save_pretrained(second, folder, overwrite=True)
    assert same_weights(create_model(f"local-dir:{folder}"), second)
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_pushed_model_is_rebuilt_from_the_hub(repositories: Hub, tmp_path: Path):
    model = small(seed=6, dilations=[[1], [2], [1], [3]])
    address = push_to_hub(model, "owner/animals", token="hf_owner", private=True, class_names=CLASSES)
    assert address == f"{repositories.address}/owner/animals/commit/{'1' * 40}"
    assert sorted(repositories.files["owner/animals"]) == ["README.md", "config.json", "model.safetensors"]
    assert repositories.private == {"owner/animals"}
    assert repositories.commits == ["Add model"]
    again: Any = create_model("hf-hub:owner/animals", cache_dir=tmp_path)
    assert torch.equal(logits(again), logits(model))
    assert again.pretrained_cfg["label_names"] == tuple(CLASSES)
    other = small(seed=7, dilations=[[1], [2], [1], [3]])
    attnzoo.load_weights(other, "hf-hub:owner/animals", cache_dir=tmp_path)
    assert same_weights(other, model)


def test_a_card_on_the_hub_is_kept(repositories: Hub):
    repositories.files["owner/animals"] = {"README.md": b"by hand"}
    push_to_hub(small(), "owner/animals", token="hf_owner", commit_message="Again")
    assert repositories.files["owner/animals"]["README.md"] == b"by hand"
    assert repositories.commits == ["Again"]
    push_to_hub(small(), "owner/animals", token="hf_owner", replace_card=True)
    assert b"# owner/animals" in repositories.files["owner/animals"]["README.md"]


def test_errors_of_the_hub_explain_what_to_do(repositories: Hub, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(publish.PublishError, match=r"rejected the token.*token=.*HF_TOKEN"):
        push_to_hub(small(), "owner/animals", token="hf_wrong")
    with pytest.raises(publish.PublishError, match=r"no write access.*owner must be 'other'"):
        push_to_hub(small(), "other/animals", token="hf_owner")
    with pytest.raises(ValueError, match="'hf-hub:owner/name' is expected"):
        push_to_hub(small(), "animals")
    with pytest.raises(ValueError, match="not a valid repository name"):
        push_to_hub(small(), "owner/ani mals", token="hf_owner")
    with pytest.raises(ValueError, match="revision='v2'"):
        push_to_hub(small(), "owner/animals@v2")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(publish.PublishError, match="could not be reached"):
        push_to_hub(small(), "owner/animals", token="hf_owner")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(publish.PublishError, match=r"network is disabled.*save_pretrained"):
        push_to_hub(small(), "owner/animals")
    assert repositories.files == {}
