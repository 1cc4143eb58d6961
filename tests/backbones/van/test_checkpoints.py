"""Published forms of VAN's checkpoints load strictly."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.registry import checkpoint_filter
from support import parity
from support.vans import PACK, classifier, tiny
from support.weights import assert_same_weights


def official_name(name: str) -> str:
    """Gives the official name of an entry of the model's state dict."""
    name = re.sub(r"^stem\.", "patch_embed1.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", lambda match: f"patch_embed{int(match[1]) + 1}.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.", lambda match: f"block{int(match[1]) + 1}.", name)
    name = re.sub(r"^stages\.(\d)\.norm\.", lambda match: f"norm{int(match[1]) + 1}.", name)
    name = re.sub(r"\.attn\.(conv\w+)\.", r".attn.spatial_gating_unit.\1.", name)
    name = re.sub(r"\.ls([12])\.gamma$", r".layer_scale_\1", name)
    return name.replace(".dwconv.", ".dwconv.dwconv.").replace("head.fc.", "head.")


def as_openmmlab(name: str) -> str:
    """Renames an official entry as mmpretrain's converter does."""
    if name.startswith("head."):
        return name.replace("head.", "head.fc.")
    if name.startswith("patch_embed"):
        name = name.replace(".proj.", ".projection.")
    name = re.sub(r"^block", "blocks", name)
    name = name.replace(".conv0.", ".DW_conv.").replace(".conv_spatial.", ".DW_D_conv.")
    return "backbone." + name.replace(".dwconv.dwconv.", ".dwconv.")


def as_transformers(name: str) -> str:
    """Renames an official entry as transformers' converter does."""
    if name.startswith("head."):
        return name.replace("head.", "classifier.")
    match = re.match(r"^(patch_embed|block|norm)(\d)\.(.*)$", name)
    assert match is not None
    stage, rest = f"van.encoder.stages.{int(match[2]) - 1}.", match[3]
    if match[1] == "norm":
        return f"{stage}normalization.{rest}"
    if match[1] == "patch_embed":
        return f"{stage}embeddings.{rest.replace('proj.', 'convolution.').replace('norm.', 'normalization.')}"
    for ours, theirs in (
        ("norm1.", "pre_normomalization."),  # sic
        ("norm2.", "post_normalization."),
        ("attn.proj_1.", "attention.pre_projection.conv."),
        ("attn.spatial_gating_unit.conv0.", "attention.attention_layer.attention.depth_wise."),
        ("attn.spatial_gating_unit.conv_spatial.", "attention.attention_layer.attention.depth_wise_dilated."),
        ("attn.spatial_gating_unit.conv1.", "attention.attention_layer.attention.point_wise."),
        ("attn.proj_2.", "attention.post_projection."),
        ("layer_scale_1", "attention_scaling.weight"),
        ("layer_scale_2", "mlp_scaling.weight"),
        ("mlp.fc1.", "mlp.in_dense."),
        ("mlp.dwconv.dwconv.", "mlp.depth_wise."),
        ("mlp.fc2.", "mlp.out_dense."),
    ):
        rest = rest.replace(ours, theirs)
    return f"{stage}layers.{rest}"


class TestCheckpoints:
    @pytest.mark.parametrize("rename", [official_name, as_openmmlab, as_transformers])
    def test_every_published_form_loads_strictly(self, rename: Any):
        official = parity.filled_state_dict(PACK)
        given = official if rename is official_name else {rename(name): value for name, value in official.items()}
        if rename is as_transformers:
            given |= {f"van.layernorm.{kind}": torch.full((256,), 7.0) for kind in ("weight", "bias")}
        own = classifier().state_dict().keys()
        assert len([name for name in given if name not in own]) > 0.9 * len(official)
        model = model_entrypoint("van_b0")()
        load_weights(model, given)
        assert_same_weights(model, classifier())
        other = model_entrypoint("van_b0")()
        other.load_state_dict(checkpoint_filter(other)(given))
        assert_same_weights(other, classifier())

    def test_a_segmentation_file_without_classifier_loads_into_the_maps(self):
        official = parity.filled_state_dict(PACK)
        dense = {name: value for name, value in official.items() if not name.startswith("head.")}
        features = FeatureMaps(model_entrypoint("van_b0")()).eval()
        load_weights(features, {f"backbone.{name}": value for name, value in dense.items()})
        images = parity.image((1, 3, 45, 64), 0)
        with torch.no_grad():
            expected = classifier().forward_intermediates(images, intermediates_only=True)
            for own, other in zip(features(images), expected, strict=True):
                assert torch.equal(own, other)

    def test_own_names_pass_and_the_argument_is_left_alone(self):
        model = tiny()
        own = model.state_dict()
        assert checkpoint_filter(model)(own).keys() == own.keys()
        official = {official_name(name): value for name, value in own.items()}
        names = set(official)
        renamed = checkpoint_filter(model)(official)
        assert set(official) == names
        assert renamed.keys() == own.keys()

    def test_unknown_and_missing_names_are_reported(self):
        model = tiny()
        own = model.state_dict()
        filtered = checkpoint_filter(model)
        with pytest.raises(RuntimeError, match=r"Unexpected key.*stages\.0\.blocks\.0\.attn\.extra"):
            model.load_state_dict(filtered({**own, "block1.0.attn.extra": torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Missing key.*stages\.1\.norm\.weight"):
            model.load_state_dict(filtered({name: own[name] for name in own if name != "stages.1.norm.weight"}))


class TestParity:
    def test_names_and_shapes_are_the_official_ones(self):
        shapes = {official_name(name): list(value.shape) for name, value in classifier().state_dict().items()}
        assert shapes == PACK["state_dict"]
