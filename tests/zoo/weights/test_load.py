"""Weights are loaded completely or not at all; conversions are reported and logged."""

from __future__ import annotations

import copy
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attnzoo import load_weights
from attnzoo.zoo.weights import CheckpointError, WeightsMismatchError, save_safetensors, save_with_digest

from .small_models import official_names, same_weights, small


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("source", ["path", "str", "state dict"])
def test_weights_load_from_a_path_or_a_state_dict(tmp_path: Path, source: str) -> None:
    model, other = small(), small(seed=1)
    path = save(other.state_dict(), tmp_path / "a.pth")
    report = load_weights(model, {"path": path, "str": str(path), "state dict": other.state_dict()}[source])
    assert same_weights(model, other)
    assert report.loaded == len(other.state_dict())
    assert report.conversions == ()
    assert (report.renamed, report.form, report.key) == (0, "state dict", None)


def test_official_names_and_prefixes_are_translated_and_counted(tmp_path: Path) -> None:
    model, other = small(), small(seed=1)
    official = {f"module.{name}": value for name, value in official_names(other.state_dict()).items()}
    report = load_weights(model, save({"state_dict": official, "epoch": 1}, tmp_path / "a.pth.tar"))
    assert same_weights(model, other)
    assert report.prefixes == ("module.",)
    assert report.renamed == sum(name not in other.state_dict() for name in official_names(other.state_dict()))
    assert "names were translated" in str(report)
    assert "'module.'" in str(report)


def test_a_checkpoint_of_a_task_loads_raw_or_averaged(tmp_path: Path) -> None:
    raw, averaged = small(seed=1), small(seed=2)
    path = save(
        {
            "format": "attnzoo.training/1",
            "meta": {"epoch": 3},
            "state_dict": {f"backbone.{name}": value for name, value in raw.state_dict().items()},
            "ema_state_dict": {f"backbone.{name}": value for name, value in averaged.state_dict().items()},
        },
        tmp_path / "epoch_3.pth",
    )
    model = small()
    report = load_weights(model, path)
    assert same_weights(model, averaged)
    assert report.is_ema
    assert "training checkpoint of attnzoo, under 'ema_state_dict' (its averaged weights)" in str(report)
    assert not load_weights(model, path, use_ema=False).is_ema
    assert same_weights(model, raw)


def test_a_head_with_other_classes_keeps_its_values_and_this_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    model, other = small(num_classes=7), small(seed=1)
    before = copy.deepcopy(model)
    with caplog.at_level(logging.WARNING, "attnzoo"):
        report = load_weights(model, official_names(other.state_dict()))
    assert report.head_classes == (5, 7)
    assert model.head.fc.weight.shape == (7, 16)
    assert torch.equal(model.head.fc.weight, before.head.fc.weight)
    assert torch.equal(model.head.fc.bias, before.head.fc.bias)
    assert torch.equal(model.norm.weight, other.norm.weight)
    assert same_weights_but_head(model, other)
    assert report.kept == ()
    assert "the checkpoint has 5 classes, the model has 7" in caplog.text


def same_weights_but_head(model: nn.Module, other: nn.Module) -> bool:
    return same_weights(model, other, but=r"^head\.")


def test_a_model_without_a_head_leaves_it_out(caplog: pytest.LogCaptureFixture) -> None:
    model, other = small(num_classes=0), small(seed=1)
    report = load_weights(model, other.state_dict())
    assert report.head_classes == (5, 0)
    assert torch.equal(model.norm.weight, other.norm.weight)
    assert "left out, because the model has no head" in caplog.text


def test_the_head_can_be_resized_to_the_checkpoints_classes() -> None:
    model, other = small(num_classes=7), small(seed=1)
    report = load_weights(model, other.state_dict(), adopt_classes=True)
    assert (model.num_classes, report.adopted_classes) == (5, 5)
    assert same_weights(model, other)


def test_a_fresh_head_can_be_requested() -> None:
    model, other = small(), small(seed=1)
    before = copy.deepcopy(model)
    report = load_weights(model, other.state_dict(), fresh_head=True)
    assert torch.equal(model.head.fc.weight, before.head.fc.weight)
    assert same_weights_but_head(model, other)
    assert set(report.kept) == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.parametrize("in_chans", [1, 2, 5])
def test_the_first_layer_is_adapted_to_other_channels(in_chans: int, caplog: pytest.LogCaptureFixture) -> None:
    from timm.models import adapt_input_conv

    model, other = small(in_chans=in_chans), small(seed=1)
    report = load_weights(model, other.state_dict())
    assert report.in_chans == (3, in_chans)
    wanted = adapt_input_conv(in_chans, other.stem.convs[0].weight.detach())
    torch.testing.assert_close(model.stem.convs[0].weight.detach(), wanted)
    assert same_weights(model, other, but=r"^stem\.convs\.0\.weight")
    assert f"from 3 to {in_chans} input channels" in caplog.text


def broken(kind: str, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state_dict = dict(state_dict)
    if kind == "missing":
        del state_dict["stages.3.blocks.0.norm1.weight"]
    elif kind == "unexpected":
        state_dict["stages.3.blocks.0.norm3.weight"] = torch.ones(16)
    elif kind == "mismatched":
        state_dict["stages.3.blocks.0.norm1.weight"] = torch.ones(17)
    elif kind == "renamed":
        state_dict["stages.3.blocks.0.norm_1.weight"] = state_dict.pop("stages.3.blocks.0.norm1.weight")
    return state_dict


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "1 missing: stages.3.blocks.0.norm1.weight"),
        (
            "unexpected",
            "1 unexpected: stages.3.blocks.0.norm3.weight (nearest name in the model: stages.3.blocks.0.norm",
        ),
        ("mismatched", "1 of another shape: stages.3.blocks.0.norm1.weight (17,), expected (16,)"),
        ("renamed", "stages.3.blocks.0.norm_1.weight (nearest name in the model: stages.3.blocks.0.norm1.weight)"),
    ],
)
def test_weights_that_do_not_fit_leave_the_model_untouched(kind: str, says: str) -> None:
    model = small(num_classes=7)
    before = copy.deepcopy(model)
    with pytest.raises(WeightsMismatchError) as error:
        load_weights(model, broken(kind, small(seed=1).state_dict()), adopt_classes=True)
    assert says in str(error.value)
    assert "nothing was loaded" in str(error.value)
    assert same_weights(model, before)
    assert model.num_classes == 7


@pytest.mark.parametrize("kind", ["missing", "unexpected", "mismatched", "renamed"])
def test_without_strict_fitting_tensors_are_loaded_and_others_logged(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, other = small(), small(seed=1)
    report = load_weights(model, broken(kind, other.state_dict()), strict=False)
    assert same_weights(model, other, but=r"^stages\.3\.blocks\.0\.norm1\.weight$")
    assert (len(report.missing) > 0) == (kind in ("missing", "renamed"))
    assert (len(report.unexpected) > 0) == (kind in ("unexpected", "renamed"))
    assert (len(report.mismatched) > 0) == (kind == "mismatched")
    assert (report.kept == ()) == (kind == "unexpected")
    assert len(report.conversions) > 0
    assert all(sentence in caplog.text for sentence in report.conversions)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool])
def test_integers_are_not_loaded_as_floats(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    model, state_dict = small(), small(seed=1).state_dict()
    before = copy.deepcopy(model)
    state_dict["norm.weight"] = state_dict["norm.weight"].to(dtype)
    with pytest.raises(WeightsMismatchError, match=rf"1 of another type: norm.weight {dtype}, expected torch.float32"):
        load_weights(model, state_dict)
    assert same_weights(model, before)
    report = load_weights(model, state_dict, strict=False)
    assert report.kept == ("norm.weight",)
    assert f"another shape or type in the model and were left out: norm.weight {dtype}" in caplog.text


def test_weights_that_are_not_finite_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    model, state_dict = small(), small(seed=1).state_dict()
    state_dict["norm.weight"][3] = float("nan")
    state_dict["head.fc.bias"][0] = float("-inf")
    report = load_weights(model, state_dict)
    assert report.nonfinite == ("norm.weight", "head.fc.bias")
    assert "2 tensors contain NaN or infinite values: norm.weight, head.fc.bias" in caplog.text


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_flipped_byte_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    path, model = tmp_path / name, small()
    weights = small(seed=1).state_dict()
    if name == "a.pth":
        with path.open("wb") as file:
            save_with_digest({"state_dict": weights}, file)
    else:
        save_safetensors(weights, path)
    assert load_weights(model, path).nonfinite == ()
    before, content = copy.deepcopy(model), path.read_bytes()
    rng = random.Random(0)
    places = [*range(16), *range(len(content) - 16, len(content)), *rng.sample(range(len(content)), 168)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged|neither a safetensors|is not a pickle|truncated"):
            load_weights(model, path)
    assert same_weights(model, before)


def test_weights_of_another_model_are_rejected_even_without_strict() -> None:
    with pytest.raises(WeightsMismatchError, match="none of the tensors does"):
        load_weights(small(), {"conv1.weight": torch.ones(2), "fc.weight": torch.ones(2)}, strict=False)


def test_the_message_explains_how_to_load_weights_without_a_head() -> None:
    headless = {name: value for name, value in small(seed=1).state_dict().items() if not name.startswith("head.")}
    with pytest.raises(WeightsMismatchError, match="has no head: build the model with num_classes=0"):
        load_weights(small(), headless)


def test_the_message_says_that_the_sizes_differ() -> None:
    with pytest.raises(WeightsMismatchError, match="built with other sizes"):
        load_weights(small(mlp_ratio=2.0), small().state_dict())


def test_feature_maps_take_classification_weights() -> None:
    other = small(seed=1)
    model = small(num_classes=None, features_only=True, out_indices=(1, 2))
    report = load_weights(model, official_names(other.state_dict()))
    assert torch.equal(model.body.stem.norm.weight, other.stem.norm.weight)
    assert report.kept == ()
    torch.testing.assert_close(
        model.body.stages[2].blocks[0].attn.qkv.weight, other.stages[2].blocks[0].attn.qkv.weight, rtol=0, atol=0
    )


def test_additional_norms_of_feature_maps_are_reported_as_kept() -> None:
    model = small(num_classes=None, features_only=True, output_norms=True, in_chans=1)
    report = load_weights(model, small(seed=1).state_dict())
    assert report.kept == tuple(f"norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias"))
    assert report.in_chans == (3, 1)


def test_a_models_own_weights_count_as_loaded() -> None:
    model = small()
    report = load_weights(model, model.state_dict())
    assert (report.loaded, report.kept) == (len(model.state_dict()), ())


def test_a_wrapped_model_is_loaded_into() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module):
            super().__init__()
            self.module = module

    model, other = small(), small(seed=1)
    load_weights(Wrapper(model), other.state_dict())
    assert same_weights(model, other)


def test_half_precision_weights_keep_the_models_type() -> None:
    model, other = small(), small(seed=1)
    load_weights(model, {name: value.half() for name, value in other.state_dict().items()})
    assert model.norm.weight.dtype == torch.float32
    torch.testing.assert_close(model.head.fc.weight, other.head.fc.weight, rtol=1e-3, atol=1e-4)


def test_a_model_outside_the_zoo_needs_its_own_names() -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    load_weights(model, {f"module.{name}": value for name, value in other.state_dict().items()})
    assert torch.equal(model.weight, other.weight)


def test_a_model_on_the_meta_device_is_an_error() -> None:
    with torch.device("meta"):
        model = small()
    with pytest.raises(ValueError, match="meta device"):
        load_weights(model, small().state_dict())


def test_other_sources_and_checkpoints_without_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got int"):
        load_weights(small(), 3)  # pyright: ignore[reportArgumentType] (the test is that this is told)
    path = save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth.*: There are no weights.*'epoch'"):
        load_weights(small(), path)
