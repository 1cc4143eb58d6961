"""Published forms of DaViT's checkpoints load strictly."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from attnzoo import create_model, load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.registry import checkpoint_filter
from support import parity
from support.davits import FAMILY, FLORENCE2, classifier, on_meta, pack_weights, scattered, tiny
from support.weights import assert_same_weights


def in_pairs(name: str) -> str:
    """Numbers a block as published: pairs in a stage, and the block in a pair."""
    return re.sub(
        r"^(stages\.\d+\.blocks\.)(\d+)", lambda match: f"{match[1]}{int(match[2]) // 2}.{int(match[2]) % 2}", name
    )


def as_official(name: str) -> str:
    name = re.sub(r"^stem\.", "stages.0.downsample.", in_pairs(name))
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"patch_embeds.\1.", name).replace(".conv.", ".proj.")
    name = re.sub(r"^stages\.(\d)\.blocks\.", r"main_blocks.\1.", name)
    name = re.sub(r"\.cpe([12])\.", lambda match: f".cpe.{int(match[1]) - 1}.", name)
    return name.replace("head.norm.", "norms.").replace("head.fc.", "head.")


def as_openmmlab(name: str) -> str:
    """Renames as mmpretrain's converter does; the last output norm is the head's."""
    if name.startswith("head.fc."):
        return name
    name = in_pairs(name).replace("head.norm.", "norm3.")
    name = re.sub(r"^stem\.", "patch_embed.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", lambda match: f"stages.{int(match[1]) - 1}.downsample.", name)
    name = re.sub(r"^(patch_embed|stages\.\d\.downsample)\.conv\.", r"\1.projection.", name)
    name = re.sub(r"(blocks\.\d+)\.0\.", r"\1.spatial_block.", name)
    name = re.sub(r"(blocks\.\d+)\.1\.", r"\1.channel_block.", name)
    name = name.replace("mlp.fc1.", "ffn.layers.0.0.").replace("mlp.fc2.", "ffn.layers.1.")
    return "backbone." + name.replace("spatial_block.attn.", "spatial_block.attn.w_msa.")


def as_florence2(name: str, transformers: bool) -> str:
    """Renames as Florence-2's own code does, or as transformers' port of it."""
    name = re.sub(r"^stem\.", "convs.0.", in_pairs(name))
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"convs.\1.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.(\d+)\.0\.", r"blocks.\1.\2.spatial_block.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.(\d+)\.1\.", r"blocks.\1.\2.channel_block.", name)
    kind = "channel_attn" if "channel_block" in name else "window_attn"
    if transformers:
        name = re.sub(r"\.cpe([12])\.proj\.", r".conv\1.", name)
        return "model.vision_tower." + name.replace(".attn.", f".{kind}.").replace(".mlp.", ".ffn.")
    name = re.sub(r"^(convs\.\d)\.conv\.", r"\1.proj.", name)
    name = re.sub(r"\.cpe([12])\.proj\.", r".conv\1.fn.dw.", name)
    name = name.replace(".norm1.", f".{kind}.norm.").replace(".attn.", f".{kind}.fn.")
    return "vision_tower." + name.replace(".norm2.", ".ffn.norm.").replace(".mlp.", ".ffn.fn.net.")


class TestCheckpoints:
    @pytest.mark.parametrize("prefix", ["", "module.", "model."])
    @pytest.mark.parametrize("rename", [as_official, in_pairs, as_openmmlab])
    def test_every_published_form_of_the_classifiers(self, rename: Callable[[str], str], prefix: str):
        model, other = classifier("davit_tiny"), model_entrypoint("davit_tiny")()
        published = {prefix + rename(name): value for name, value in model.state_dict().items()}
        assert len(published) == len(model.state_dict())
        load_weights(other, published)
        assert_same_weights(model, other)

    @pytest.mark.parametrize("transformers", [False, True])
    def test_image_towers_of_florence2(self, transformers: bool):
        model = scattered(tiny(**FLORENCE2, num_classes=0))
        published = {
            as_florence2(name, transformers): value
            for name, value in model.state_dict().items()
            if not name.startswith("head.")
        }
        published |= {"language_model.model.shared.weight": torch.zeros(1), "image_projection": torch.zeros(1)}
        other = tiny(**FLORENCE2, num_classes=0)
        load_weights(other, published)
        for part in ("stem", "stages"):
            assert_same_weights(model.get_submodule(part), other.get_submodule(part))
        assert torch.equal(other.get_parameter("head.norm.weight"), torch.ones(16))
        maps = FeatureMaps(tiny(**FLORENCE2))
        load_weights(maps, published)
        assert_same_weights(model.get_submodule("stages"), maps.body.stages)
        with pytest.raises((RuntimeError, ValueError), match=r"head\.fc"):
            load_weights(tiny(**FLORENCE2), published)

    def test_image_towers_are_built_as_their_files_are(self):
        with torch.device("meta"):
            model = create_model("davit_base_fl")
        assert model.num_classes == 0
        assert isinstance(model.get_submodule("head.fc"), nn.Identity)

    def test_official_dense_names(self):
        model, other = FeatureMaps(tiny(output_norms=True)), FeatureMaps(tiny(output_norms=True))
        scattered(model)
        dense = {
            f"backbone.{as_official(name.removeprefix('body.'))}": value for name, value in model.state_dict().items()
        }
        assert {"backbone.norm0.weight", "backbone.norm1.bias", "backbone.main_blocks.1.1.0.attn.qkv.weight"} <= set(
            dense
        )
        load_weights(other, {**dense, "neck.lateral_convs.0.conv.weight": torch.zeros(1)})
        assert_same_weights(model, other)

    @pytest.mark.parametrize("rename", [as_official, in_pairs, as_openmmlab])
    def test_classifiers_load_into_feature_maps(self, rename: Callable[[str], str]):
        model = classifier("davit_tiny")
        published = {rename(name): value for name, value in model.state_dict().items()}
        for kwargs in ({}, {"dense": "coco"}):
            maps = FeatureMaps(model_entrypoint("davit_tiny")(**kwargs), out_indices=(0, 2))
            load_weights(maps, published)
            assert_same_weights(model.stages[2], maps.body.stages[2])

    def test_openmmlab_backbones_keep_their_output_norms(self):
        model = FeatureMaps(tiny(output_norms=True))
        scattered(model)
        published = {as_openmmlab(name.removeprefix("body.")): value for name, value in model.state_dict().items()}
        other = FeatureMaps(tiny(output_norms=True))
        load_weights(other, published)
        assert_same_weights(model, other)

    def test_own_names_pass_unchanged(self):
        for model in (tiny(), tiny(**FLORENCE2, num_classes=0), FeatureMaps(tiny(output_norms=True))):
            own = model.state_dict()
            once = checkpoint_filter(model)(own)
            assert once.keys() == own.keys()
            assert all(torch.equal(once[name], own[name]) for name in own)

    def test_the_argument_is_left_alone(self):
        official = dict(pack_weights("davit_tiny"))
        checkpoint_filter(classifier("davit_tiny"))(official)
        assert official.keys() == pack_weights("davit_tiny").keys()

    def test_unknown_and_missing_names_are_reported(self):
        model = tiny()
        own = model.state_dict()
        filtered = checkpoint_filter(model)
        for extra in ("stages.0.blocks.0.attn.extra", "main_blocks.9.0.0.norm1.weight", "norm0.weight"):
            with pytest.raises(RuntimeError, match="Unexpected key"):
                model.load_state_dict(filtered({**own, extra: torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Missing key.*stages\.1\.downsample\.conv\.weight"):
            model.load_state_dict(filtered({name: own[name] for name in own if "downsample" not in name}))


class TestAgainstTimm:
    @pytest.mark.parametrize("variant", [name for name in FAMILY if name != "davit_large_window12_384"])
    def test_names_of_every_size(self, variant: str):
        with torch.device("meta"):
            theirs = timm.create_model(variant, num_classes=1000)
        filtered = checkpoint_filter(on_meta(variant))(theirs.state_dict())
        own = {name: value.shape for name, value in on_meta(variant).state_dict().items()}
        assert {name: value.shape for name, value in filtered.items()} == own


class TestParity:
    @pytest.mark.parametrize(("variant", "rename"), [("davit_tiny", as_official), ("davit_tiny_timm", in_pairs)])
    def test_names_and_shapes_are_the_published_ones(self, variant: str, rename: Callable[[str], str]):
        shapes = {rename(name): list(value.shape) for name, value in classifier(variant).state_dict().items()}
        assert shapes == parity.load_pack("davit", variant)[0]["state_dict"]
