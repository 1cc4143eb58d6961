"""The weights are found in what training scripts save: trained or averaged, with prefixes, next to other entries."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch import nn

from attnzoo.zoo.weights import CheckpointError, extract_state_dict, find_state_dict

RAW = {"norm.weight": torch.ones(2), "head.fc.bias": torch.zeros(3)}
EMA = {"norm.weight": torch.full((2,), 5.0), "head.fc.bias": torch.full((3,), 5.0)}


def prefixed(prefix: str, weights: dict[str, torch.Tensor] = RAW) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("checkpoint", "key", "prefixes"),
    [
        (RAW, None, ()),
        (OrderedDict(RAW), None, ()),
        ({"state_dict": RAW, "epoch": 3, "optimizer": {"state": {}}}, "state_dict", ()),
        ({"model": RAW, "args": None}, "model", ()),
        ({"model_state_dict": RAW}, "model_state_dict", ()),
        ({"module": RAW, "global_steps": 9}, "module", ()),
        ({"model": {"state_dict": RAW}}, "model.state_dict", ()),
        (prefixed("module."), None, ("module.",)),
        ({"state_dict": prefixed("module.")}, "state_dict", ("module.",)),
        (prefixed("_orig_mod.module."), None, ("_orig_mod.", "module.")),
        (prefixed("module._orig_mod."), None, ("module.", "_orig_mod.")),
        ({"state_dict": prefixed("model.")}, "state_dict", ("model.",)),
        ({"state_dict": prefixed("backbone.")}, "state_dict", ("backbone.",)),
        ({"state_dict": prefixed("module.backbone.")}, "state_dict", ("module.", "backbone.")),
        ({**prefixed("module."), "n_averaged": torch.tensor(4)}, None, ("module.",)),
    ],
)
def test_every_form_has_the_same_weights(
    checkpoint: dict[str, Any], key: str | None, prefixes: tuple[str, ...]
) -> None:
    found = find_state_dict(checkpoint)
    assert same(found.state_dict, RAW)
    assert (found.key, found.prefixes, found.is_ema) == (key, prefixes, False)
    assert same(extract_state_dict(checkpoint), RAW)


@pytest.mark.parametrize("key", ["ema_state_dict", "state_dict_ema", "ema"])
def test_averaged_weights_are_chosen_if_the_script_evaluates_them(key: str) -> None:
    checkpoint = {"state_dict": prefixed("backbone."), key: prefixed("backbone.", EMA)}
    found = find_state_dict(checkpoint)
    assert same(found.state_dict, EMA)
    assert (found.key, found.is_ema, found.has_both) == (key, True, True)
    assert same(extract_state_dict(checkpoint, True), EMA)
    assert same(extract_state_dict(checkpoint, use_ema=False), RAW)


def test_descendants_of_deit_evaluate_the_trained_model() -> None:
    checkpoint = {"model": RAW, "model_ema": EMA}
    assert same(extract_state_dict(checkpoint), RAW)
    assert same(extract_state_dict(checkpoint, True), EMA)
    assert same(extract_state_dict({"model_ema": EMA}), EMA)


def test_mmengine_swaps_trained_and_averaged_weights_when_it_saves() -> None:
    checkpoint = {
        "meta": {"mmengine_version": "0.10.7"},
        "state_dict": prefixed("backbone.", EMA),
        "ema_state_dict": {**prefixed("module.backbone."), "steps": torch.tensor(7)},
    }
    found = find_state_dict(checkpoint)
    assert same(found.state_dict, EMA)
    assert (found.key, found.is_ema, found.form) == ("state_dict", True, "OpenMMLab checkpoint")
    assert same(extract_state_dict(checkpoint, False), RAW)


def test_mmengine_really_swaps_them() -> None:
    layer = nn.Linear(2, 2, bias=False)
    model = nn.ModuleDict({"backbone": layer})
    hook = EMAHook()
    hook.ema_model = ExponentialMovingAverage(model)
    hook.src_model = model
    with torch.no_grad():
        layer.weight.fill_(1.0)
        hook.ema_model.module.get_submodule("backbone").get_parameter("weight").fill_(5.0)
    checkpoint = {"state_dict": model.state_dict(), "ema_state_dict": hook.ema_model.state_dict()}
    hook._swap_ema_state_dict(checkpoint)
    assert extract_state_dict(checkpoint, True)["weight"].unique().tolist() == [5.0]
    assert extract_state_dict(checkpoint, False)["weight"].unique().tolist() == [1.0]


@pytest.mark.parametrize(
    ("checkpoint", "use_ema", "says"),
    [
        (RAW, True, "single state dict"),
        ({"state_dict": RAW}, True, "no averaged weights. Its weights are under 'state_dict'"),
        ({"state_dict_ema": EMA}, False, "under 'state_dict_ema'"),
    ],
)
def test_asking_for_absent_weights_is_an_error(checkpoint: dict[str, Any], use_ema: bool, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        find_state_dict(checkpoint, use_ema)


def test_the_backbone_of_a_task_is_returned_and_other_parts_are_listed() -> None:
    checkpoint = {
        "meta": {"mmcv_version": "1.7"},
        "state_dict": {
            **prefixed("backbone.", {"norm.weight": RAW["norm.weight"]}),
            "neck.lateral.weight": torch.ones(1),
            "roi_head.fc.weight": torch.ones(1),
            "data_preprocessor.mean": torch.ones(3),
        },
    }
    found = find_state_dict(checkpoint)
    assert list(found.state_dict) == ["norm.weight"]
    assert set(found.dropped) == {"neck", "roi_head", "data_preprocessor"}
    assert found.form == "OpenMMLab checkpoint"


def test_a_classifier_next_to_the_backbone_is_kept() -> None:
    checkpoint = {"state_dict": {"backbone.norm.weight": RAW["norm.weight"], "head.fc.bias": RAW["head.fc.bias"]}}
    assert same(extract_state_dict(checkpoint), RAW)


def test_numpy_arrays_become_tensors_and_other_entries_are_listed() -> None:
    found = find_state_dict({"model": {"w": np.ones(2, np.float32), "version": 2}})
    assert torch.equal(found.state_dict["w"], torch.ones(2))
    assert found.dropped == ("version",)


def test_a_key_can_be_given_for_an_unknown_format() -> None:
    checkpoint = {"student": RAW, "teacher": EMA}
    with pytest.raises(CheckpointError, match=r"no weights in this checkpoint\. Its keys are: 'student', 'teacher'"):
        find_state_dict(checkpoint)
    assert same(extract_state_dict(checkpoint, key="teacher"), EMA)
    with pytest.raises(CheckpointError, match="no weights under 'taecher'"):
        find_state_dict(checkpoint, key="taecher")


@pytest.mark.parametrize("checkpoint", [{}, {"epoch": 3}, {"state_dict": {}}, {"model": {"cfg": {}}}])
def test_a_checkpoint_without_weights_lists_its_keys(checkpoint: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"no weights in this checkpoint\. Its keys are"):
        find_state_dict(checkpoint)


@pytest.mark.parametrize("code", ["U3", "S3", "g", "M8[s]", "O"])
def test_arrays_that_cannot_become_tensors_are_left_out(code: str) -> None:
    found = find_state_dict({"weight": torch.ones(2), "other": np.zeros(2, code)})
    assert list(found.state_dict) == ["weight"]
    assert found.dropped == ("other",)


def test_arrays_of_another_byte_order_are_converted() -> None:
    found = find_state_dict({"weight": np.array([1.5, -2.0], ">f4")})
    assert found.state_dict["weight"].tolist() == [1.5, -2.0]
