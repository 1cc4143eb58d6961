"""The DaViT family against the official code's outputs, names and figures, and against timm's models."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.davit import DaVit as TimmDaViT
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import create_model, load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.common import blocks as common_blocks
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.davit import ChannelAttention, DaViT, WindowAttention
from attnzoo.backbones.davit import model as davit_model
from attnzoo.backbones.registry import checkpoint_filter, get_tags
from support import parity
from support.weights import assert_same_weights

PACKS = ("davit_tiny", "davit_tiny_timm")
CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("davit", name)[0]["cases"]]
FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "davit" / "family.json").read_text())}
TOWERS = ("davit_base_fl", "davit_huge_fl")
Model = TypeVar("Model", bound=nn.Module)
FLORENCE2 = {"down_kernel_size": 3, "channel_attn_v2": True}


def tiny(**kwargs: Any) -> DaViT:
    """A DaViT of two stages and small windows."""
    defaults: dict[str, Any] = {
        "depths": (1, 2),
        "embed_dims": (8, 16),
        "num_heads": (2, 4),
        "window_size": 3,
        "num_classes": 5,
    }
    return DaViT(**{**defaults, **kwargs})


def scattered(model: Model) -> Model:
    """Gives every parameter values that show in the output."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def blocks_of(model: DaViT) -> list[list[Any]]:
    stages: list[Any] = list(model.stages)
    return [list(stage.blocks) for stage in stages]


@functools.cache
def on_meta(variant: str) -> DaViT:
    with torch.device("meta"):
        return model_entrypoint(variant)().eval()


@functools.cache
def pack_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("davit", variant)[0])


@functools.cache
def classifier(variant: str) -> DaViT:
    model = model_entrypoint("davit_tiny")().eval()
    load_weights(model, pack_weights(variant))
    return model


@functools.cache
def features(variant: str) -> FeatureMaps:
    model = FeatureMaps(model_entrypoint("davit_tiny")()).eval()
    load_weights(model, pack_weights(variant))
    return model


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


class TestParity:
    @pytest.mark.parametrize("shortcuts", [False, True])
    @pytest.mark.parametrize(("variant", "case_name"), CASES)
    def test_official_outputs(self, variant: str, case_name: str, shortcuts: bool):
        pack, golden = parity.load_pack("davit", variant)
        (case,) = (one for one in pack["cases"] if one["name"] == case_name)
        images = parity.image(case["shape"], case["seed"])
        with torch.set_grad_enabled(not shortcuts):
            if case["call"] == "logits":
                outputs = {"logits": classifier(variant)(images)}
            else:
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(variant)(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, golden[f"{case_name}/{name}"])
            assert error <= parity.tolerance(pack), (name, error)

    @pytest.mark.parametrize(("variant", "rename"), [("davit_tiny", as_official), ("davit_tiny_timm", in_pairs)])
    def test_names_and_shapes_are_the_published_ones(self, variant: str, rename: Callable[[str], str]):
        shapes = {rename(name): list(value.shape) for name, value in classifier(variant).state_dict().items()}
        assert shapes == parity.load_pack("davit", variant)[0]["state_dict"]

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_parameters_and_operations(self, variant: str):
        facts = FAMILY[variant]
        with torch.device("meta"):
            model = model_entrypoint(variant)(num_classes=facts["config"]["num_classes"]).eval()
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
        size = facts["config"]["img_size"]  # elsewhere the official code projects padded positions too, and drops them
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, size, size, device="meta"))
        assert counter.get_total_flops() / 2e9 == pytest.approx(facts[f"macs_g_{size}"], abs=1e-4)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_facts(self, variant: str):
        facts = FAMILY[variant]
        cfg = get_pretrained_cfg(variant)
        size = facts["config"]["img_size"]
        head = 0 if facts["config"]["num_classes"] else (on_meta(variant).num_features + 1) * 1000
        assert cfg.params == facts["params"] + head
        assert cfg.macs == pytest.approx(facts[f"macs_g_{size}"] + head / 1e9, abs=1e-4)
        assert (cfg.input_size, cfg.num_classes) == ((3, size, size), facts["config"]["num_classes"])
        assert not cfg.verified
        by_names = {one["names"]: one for one in facts["pretrained"]}
        if not by_names:
            assert get_tags(variant) == ["untrained"]
            assert not cfg.has_weights
        elif variant in TOWERS:
            assert [cfg.hf_hub_id] == [one["hub_id"] for one in by_names.values()]
            assert get_tags(variant) == ["florence2"]
        else:
            openmmlab = get_pretrained_cfg(f"{variant}.openmmlab_in1k")
            assert get_tags(variant) == ["in1k", "openmmlab_in1k"]
            assert (cfg.url, cfg.hf_hub_id) == (by_names["official"]["url"], by_names["timm's"]["hub_id"])
            assert openmmlab.url == by_names["mmpretrain's"]["url"]
            assert openmmlab.sha256 is not None
            assert f"-{openmmlab.sha256}.pth" in by_names["mmpretrain's"]["url"]
            assert cfg.top1 == openmmlab.top1 == facts["paper"]["in1k_top1"]
            assert cfg.crop_pct == facts["paper"]["timm_measured"]["crop_pct"]
            assert (cfg.license, openmmlab.license) == ("mit", "apache-2.0")

    def test_every_model_is_there(self):
        assert set(FAMILY) == set(list_models(family="davit"))

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_architecture(self, variant: str):
        config = FAMILY[variant]["config"]
        model = on_meta(variant)
        stages = blocks_of(model)
        assert [len(blocks) for blocks in stages] == config["blocks_per_stage"]
        assert [blocks[0].norm1.normalized_shape[0] for blocks in stages] == config["embed_dims"]
        for norm in (module for module in model.modules() if isinstance(module, nn.LayerNorm)):
            assert norm.eps == config["layer_norm_eps"]
        for heads, blocks in zip(config["num_heads"], stages, strict=True):
            for place, block in enumerate(blocks):
                assert isinstance(block.attn, ChannelAttention if place % 2 else WindowAttention)
                assert block.attn.num_heads == heads
                assert block.attn.qkv.bias is not None
                assert type(block.mlp.act) is nn.GELU
                assert block.mlp.act.approximate == "none"
                assert block.mlp.fc1.out_features == 4 * block.mlp.fc1.in_features
                if place % 2:
                    assert block.attn.v2 == config["channel_attn_v2"]
                else:
                    assert (block.attn.window_size, block.attn.scale) == (config["window_size"], 32**-0.5)
        for stage in list(model.stages)[1:]:
            assert stage.get_submodule("downsample.conv").kernel_size == (config["down_kernel_size"],) * 2

    @pytest.mark.parametrize("data_set", ["coco", "ade20k"])
    def test_dense_models_have_output_norms(self, data_set: str):
        with torch.device("meta"):
            dense = FeatureMaps(model_entrypoint("davit_tiny")(dense=data_set))
            with pytest.raises(ValueError, match=r"no dense setting of davit_tiny 'cocoa'\. Did you mean 'coco'"):
                model_entrypoint("davit_tiny")(dense="cocoa")
        norms = [dense.get_submodule(f"norm{index}") for index in range(4)]
        assert [(norm.normalized_shape, norm.eps) for norm in norms] == [((d,), 1e-5) for d in (96, 192, 384, 768)]

    @torch.no_grad()
    def test_dense_models_norm_maps_that_go_on_without(self):
        model = FeatureMaps(tiny(output_norms=True)).eval()
        scattered(model)
        bare = FeatureMaps(tiny()).eval()
        load_weights(bare, model.body.state_dict())
        images = torch.randn(1, 3, 37, 50)
        for index, (own, plain) in enumerate(zip(model(images), bare(images), strict=True)):
            norm = model.get_submodule(f"norm{index}")
            torch.testing.assert_close(own, norm(plain.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class TestAgainstTimm:
    @pytest.mark.parametrize("florence2", [False, True])
    @pytest.mark.parametrize("shortcuts", [False, True])
    @pytest.mark.parametrize("size", [(64, 64), (53, 71), (33, 95)])
    def test_small_models_in_float64(self, florence2: bool, shortcuts: bool, size: tuple[int, int]):
        body: dict[str, Any] = FLORENCE2 if florence2 else {}
        kwargs: dict[str, Any] = {"depths": (1, 2), "embed_dims": (8, 16), "num_heads": (2, 4), "window_size": 3}
        theirs = scattered(TimmDaViT(**kwargs, **body, named_blocks=florence2, num_classes=5).double())
        model = tiny(**body).double().eval()
        load_weights(model, theirs.state_dict())
        images = torch.randn(2, 3, *size, dtype=torch.float64)
        expected = theirs.forward(images)
        with torch.set_grad_enabled(not shortcuts):
            torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("variant", [name for name in FAMILY if name != "davit_large_window12_384"])
    def test_names_of_every_size(self, variant: str):
        with torch.device("meta"):
            theirs = timm.create_model(variant, num_classes=1000)
        filtered = checkpoint_filter(on_meta(variant))(theirs.state_dict())
        own = {name: value.shape for name, value in on_meta(variant).state_dict().items()}
        assert {name: value.shape for name, value in filtered.items()} == own


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


class TestAttention:
    @pytest.mark.parametrize("shortcuts", [False, True])
    @pytest.mark.parametrize(("height", "width"), [(3, 6), (4, 5), (1, 2), (7, 3)])
    def test_windows_pad_with_the_bias_of_qkv(self, height: int, width: int, shortcuts: bool):
        torch.manual_seed(0)
        attn = WindowAttention(8, 2, window_size=3).double()
        nn.init.normal_(attn.qkv.bias)
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        rows, cols = -(-height // 3) * 3, -(-width // 3) * 3
        padded = torch.zeros(2, rows, cols, 8, dtype=torch.float64)
        padded[:, :height, :width] = x
        expected = torch.empty_like(padded)
        for top in range(0, rows, 3):
            for left in range(0, cols, 3):
                window = padded[:, top : top + 3, left : left + 3].reshape(2, 9, 8)
                query, key, value = (
                    part.reshape(2, 9, 2, 4).transpose(1, 2) for part in attn.qkv(window).chunk(3, dim=-1)
                )
                weights = (query @ key.mT * 4**-0.5).softmax(-1)
                expected[:, top : top + 3, left : left + 3] = (weights @ value).transpose(1, 2).reshape(2, 3, 3, 8)
        with torch.set_grad_enabled(not shortcuts):
            torch.testing.assert_close(attn(x), attn.proj(expected)[:, :height, :width])

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("v2", [False, True])
    def test_channels(self, v2: bool, batch: int):
        torch.manual_seed(0)
        attn = ChannelAttention(12, 3, v2=v2).double()
        nn.init.normal_(attn.qkv.weight)
        x = torch.randn(batch, 3, 5, 12, dtype=torch.float64)
        query, key, value = attn.qkv(x).flatten(1, 2).chunk(3, dim=-1)
        mixed = torch.empty(batch, 15, 12, dtype=torch.float64)
        for group in range(3):
            part = slice(4 * group, 4 * group + 4)
            q, k, v = query[..., part], key[..., part], value[..., part]
            logits = q.mT @ k * 15**-0.5 if v2 else k.mT @ v * 4**-0.5
            mixed[..., part] = (v if v2 else q) @ logits.softmax(-1).mT
        torch.testing.assert_close(attn(x), attn.proj(mixed.view_as(x)))

    @pytest.mark.parametrize("attention", [WindowAttention, ChannelAttention])
    def test_arguments(self, attention: Any):
        attn = attention(8, 2, qkv_bias=False)
        assert {name for name, _ in attn.named_parameters()} == {"qkv.weight", "proj.weight", "proj.bias"}
        assert attn(torch.randn(1, 4, 9, 8)).shape == (1, 4, 9, 8)
        dropped = attention(8, 2, proj_drop=0.9)(torch.randn(1, 4, 9, 8))
        assert (dropped == 0).float().mean() > 0.5
        with pytest.raises(ValueError, match="num_heads must divide dim, got dim=10 and num_heads=4"):
            attention(10, 4)
        with pytest.raises(ValueError, match="window_size must be an integer >= 1, got 0"):
            WindowAttention(8, 2, window_size=0)


class TestModel:
    def test_initial_values_are_the_published_ones(self):
        torch.manual_seed(0)
        model = DaViT(depths=(1, 1), embed_dims=(64, 128), num_heads=(2, 4))
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
                assert not module.bias.any(), name
            elif isinstance(module, nn.LayerNorm):
                assert torch.equal(module.weight, torch.ones_like(module.weight))
                assert not module.bias.any()
        bound = model.get_parameter("stages.1.downsample.conv.weight").abs().max().item()
        assert bound == pytest.approx((64 * 4) ** -0.5, rel=0.05)  # PyTorch's uniform distribution

    def test_drop_path_grows_linearly_over_all_blocks(self):
        model = tiny(drop_path_rate=0.5)
        rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in blocks_of(model) for block in stage]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])

    def test_the_norm_follows_the_pooling(self):
        model = scattered(tiny()).double()
        images = torch.randn(2, 3, 40, 24, dtype=torch.float64)
        pooled = model.forward_features(images).mean((2, 3))
        weight, bias = model.get_parameter("head.norm.weight"), model.get_parameter("head.norm.bias")
        normed = F.layer_norm(pooled, (16,), weight, bias, eps=1e-5)
        torch.testing.assert_close(model(images), model.head.fc(normed))
        torch.testing.assert_close(model.forward_head(model.forward_features(images), pre_logits=True), normed)

    @pytest.mark.parametrize("florence2", [False, True])
    def test_shortcuts_give_what_the_plain_steps_give(self, florence2: bool, monkeypatch: pytest.MonkeyPatch):
        model = scattered(tiny(**(FLORENCE2 if florence2 else {})))
        images = torch.randn(3, 3, 45, 38)
        exact = model.double()(images.double())
        model.float()
        with torch.no_grad():
            quick = model(images)
            for module in (davit_model, common_blocks):
                monkeypatch.setattr(module, "can_run_in_place", lambda *args: False)
            plain = model(images)
        assert not torch.equal(quick, plain)  # the shortcuts were taken
        for one in (quick, plain):
            assert ((one - exact).norm() / exact.norm()).item() < 2e-6

    @torch.no_grad()
    def test_shortcuts_leave_what_was_given_out_alone(self):
        model = scattered(tiny())
        images = torch.randn(2, 3, 40, 40)
        before = images.clone()
        maps = model.forward_intermediates(images, intermediates_only=True)
        kept = [one.clone() for one in maps]
        assert all(torch.equal(one, other) for one, other in zip(maps, kept, strict=True))
        again = model.forward_intermediates(images, intermediates_only=True)
        assert torch.equal(images, before)
        assert all(torch.equal(one, other) for one, other in zip(maps, again, strict=True))
        stage = model.stages[0]
        x = model.stem(images)
        given = x.clone()
        stage(x)
        assert torch.equal(x, given)

    @torch.no_grad()
    def test_hooks_see_whole_maps(self):
        model = scattered(tiny())
        images = torch.randn(2, 3, 40, 40)
        plain = model(images)
        shapes = []
        for part in ("norm1", "attn", "norm2", "mlp", "mlp.fc1"):
            module = model.get_submodule(f"stages.0.blocks.1.{part}")
            module.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape)))
        torch.testing.assert_close(model(images), plain)
        assert shapes == [(2, 10, 10, 8), (2, 10, 10, 8), (2, 10, 10, 8), (2, 10, 10, 32), (2, 10, 10, 8)]

    @torch.no_grad()
    def test_images_do_not_see_each_other(self):
        model = scattered(tiny())
        images = torch.randn(3, 3, 41, 36)
        torch.testing.assert_close(model(images), torch.cat([model(image[None]) for image in images]))

    def test_kinds_of_attention(self):
        for kinds in (["spatial"], ["channel"], ["channel", "spatial", "channel"]):
            model = tiny(attn_types=kinds)
            expected = {"spatial": WindowAttention, "channel": ChannelAttention}
            found = [[type(block.attn) for block in stage] for stage in blocks_of(model)]
            assert found == [[expected[kind] for kind in kinds], [expected[kind] for kind in kinds * 2]]
            assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)

    def test_bfloat16_autocast(self):
        model = tiny().eval()
        images = torch.randn(2, 3, 32, 32)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        torch.testing.assert_close(logits.float(), model(images), atol=0.05, rtol=0.05)

    @pytest.mark.parametrize("florence2", [False, True])
    def test_compiled_and_exported_models(self, florence2: bool):
        model = scattered(tiny(**(FLORENCE2 if florence2 else {})))
        images = torch.randn(2, 3, 40, 36)
        with torch.no_grad():
            expected = model(images)
            batch = torch.export.Dim("batch", min=1, max=16)
            exported = torch.export.export(model, (images,), dynamic_shapes=({0: batch},)).module()
            torch.testing.assert_close(exported(images[:1]), expected[:1], rtol=1e-4, atol=1e-5)
            compiled = torch.compile(model, backend="eager", fullgraph=True)
            torch.testing.assert_close(compiled(images), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            (
                {"depths": (2,)},
                "depths, embed_dims and num_heads must have one entry per stage, got 1, 2 and 2",
            ),
            ({"depths": (2, 0)}, r"depths\[1\] must be an integer >= 1, got 0"),
            ({"num_heads": (1, 3)}, r"num_heads\[1\] must divide embed_dims\[1\], got 3 heads and 16 channels"),
            ({"embed_dims": (0, 16)}, r"embed_dims\[0\] must be an integer >= 1"),
            ({"window_size": 0}, "window_size must be an integer >= 1, got 0"),
            ({"mlp_ratio": 0}, "mlp_ratio must leave at least one hidden channel, got 0"),
            ({"attn_types": ()}, "attn_types must be a list of at least one kind of attention"),
            ({"attn_types": "channel"}, "attn_types must be a list of at least one kind of attention"),
            ({"attn_types": ("spatial", "chanel")}, "no kind of attention 'chanel'. Did you mean 'channel'"),
            ({"down_kernel_size": 4}, "down_kernel_size must be 2 or 3, but is 4"),
            ({"num_classes": -1}, "num_classes must be an integer >= 0, got -1"),
            ({"in_chans": 0}, "in_chans must be an integer >= 1"),
            ({"global_pool": "mean"}, "no global_pool 'mean'"),
            ({"global_pool": ""}, "global_pool='' returns maps"),
            ({"drop_rate": 1.0}, "drop_rate must be >= 0 and < 1, got 1.0"),
            ({"proj_drop_rate": -0.1}, "proj_drop_rate must be >= 0"),
            ({"drop_path_rate": 1.5}, "drop_path_rate must be >= 0 and < 1, got 1.5"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)
