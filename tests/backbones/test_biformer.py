"""The BiFormer family against the official code's outputs, names and figures."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.biformer import BiFormer, BiLevelRoutingAttention, FullAttention
from attnzoo.backbones.biformer.model import Block, PatchMerging, PatchStem
from attnzoo.backbones.layers import FeatureMaps
from attnzoo.backbones.registry import checkpoint_filter
from support import parity

PACKS = ("biformer_tiny", "biformer_tiny_nwin8")
CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("biformer", name)[0]["cases"]]
FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "biformer" / "family.json").read_text())}


def tiny(**kwargs: Any) -> BiFormer:
    """A BiFormer of three stages: two that route, on maps that they pad at most sizes, and a full one."""
    defaults: dict[str, Any] = {
        "depths": (2, 1, 1),
        "embed_dims": (8, 16, 16),
        "num_heads": (1, 2, 2),
        "topks": (1, 3, -2),
        "num_regions": (3, 2, 2),
        "num_classes": 5,
    }
    return BiFormer(**{**defaults, **kwargs})


def tiny_stl(**kwargs: Any) -> BiFormer:
    return tiny(**{"patches": "patch", "pos_embed": False, **kwargs})


def blocks_of(model: BiFormer) -> list[list[Block]]:
    return [list(cast("Any", stage).blocks) for stage in model.stages]


@functools.cache
def on_meta(name: str) -> BiFormer:
    with torch.device("meta"):
        return model_entrypoint(name)().eval()


@functools.cache
def official_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("biformer", variant)[0])


@functools.cache
def classifier() -> BiFormer:
    model = model_entrypoint("biformer_tiny")().eval()
    load_weights(model, official_weights("biformer_tiny"))
    return model


def official_names(model: BiFormer, nchw: bool = False) -> dict[str, str]:
    """Gives the official name of each entry of a model's state dict; `nchw` for the refactored STL's."""
    is_stl = isinstance(model.stem, PatchStem)
    full = {f"stages.{index}." for index, topk in enumerate(topks_of(model)) if topk < 0}
    places = {"conv": 0, "bn": 1} if is_stl else {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}
    downsample = {"conv": 1, "bn": 0} if is_stl else {"conv": 0, "bn": 1}

    def rename(name: str) -> str:
        name = re.sub(r"^stem\.(\w+)\.", lambda match: f"downsample_layers.0.{places[match[1]]}.", name)
        name = re.sub(
            r"^stages\.(\d+)\.downsample\.(\w+)\.",
            lambda match: f"downsample_layers.{match[1]}.{downsample[match[2]]}.",
            name,
        )
        if not any(name.startswith(start) for start in full):
            name = name.replace("attn.qkv.", "attn.qkv_linear." if nchw else "attn.qkv.qkv.")
            name = name.replace("attn.proj.", "attn.output_linear." if nchw else "attn.wo.")
        name = name.replace("mlp.fc1.", "mlp.0.").replace("mlp.fc2.", "mlp.2." if is_stl else "mlp.3.")
        name = name if is_stl else name.replace(".blocks.", ".")
        return name.replace("head.fc.", "head.")

    return {name: rename(name) for name in model.state_dict()}


def topks_of(model: BiFormer) -> list[int]:
    return [getattr(blocks[0].attn, "topk", -2) for blocks in blocks_of(model)]


def official_state_dict(model: BiFormer, nchw: bool = False) -> dict[str, torch.Tensor]:
    """Makes a checkpoint for a model under the official names; linear layers are 1x1 convolutions with `nchw`."""
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    out = {}
    for own, name in official_names(model, nchw).items():
        shape = list(shapes[own])
        if nchw and len(shape) == 2 and not name.startswith("head."):
            shape += [1, 1]
        out[name] = parity.fill(name, shape)
    return out


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    assert model.state_dict().keys() == other.state_dict().keys()
    for (name, own), value in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(own, value), name


def set_statistics(model: nn.Module) -> None:
    """Gives batch norms statistics and layers biases that show."""
    torch.manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)


class TestParity:
    @pytest.mark.parametrize(("variant", "case_name"), CASES)
    def test_official_outputs(self, variant: str, case_name: str):
        pack, golden = parity.load_pack("biformer", variant)
        (case,) = (one for one in pack["cases"] if one["name"] == case_name)
        images = parity.image(case["shape"], case["seed"])
        kwargs = {} if variant == "biformer_tiny" else {"dense": "ade20k", "output_norms": False}
        with torch.no_grad():
            if case["call"] == "logits":
                outputs = {"logits": classifier()(images)}
            else:
                features = FeatureMaps(model_entrypoint("biformer_tiny")(**kwargs)).eval()
                load_weights(features, official_weights(variant))
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, golden[f"{case_name}/{name}"])
            assert error <= parity.tolerance(pack), (name, error)

    def test_names_and_shapes_are_the_official_ones(self):
        model = classifier()
        names = official_names(model)
        shapes = {names[name]: list(value.shape) for name, value in model.state_dict().items()}
        assert shapes == parity.load_pack("biformer", "biformer_tiny")[0]["state_dict"]

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_parameters_and_operations(self, variant: str):
        facts = FAMILY[variant]
        model = on_meta(variant)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, 224, 224, device="meta"))
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
        assert counter.get_total_flops() / 2e9 == pytest.approx(facts["macs_g_224"], abs=1e-4)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_facts(self, variant: str):
        facts = FAMILY[variant]
        cfg = get_pretrained_cfg(variant)
        assert cfg.url == facts["pretrained"][0]["url"]
        assert (cfg.top1, cfg.params, cfg.macs) == (facts["paper"]["in1k_top1"], facts["params"], facts["macs_g_224"])
        assert (cfg.input_size, cfg.crop_pct, cfg.interpolation) == ((3, 224, 224), 0.875, "bicubic")
        assert (cfg.mean, cfg.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert cfg.license == "mit"
        assert not cfg.verified
        assert cfg.note is not None
        assert "broken" in cfg.note
        assert facts["pretrained"][0]["reachable"].rpartition("?e=")[2] in cfg.note

    def test_every_published_model_is_there(self):
        assert set(FAMILY) == set(list_models(family="biformer"))
        assert len(list_models(family="biformer", pretrained=True)) == len(FAMILY)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_architecture(self, variant: str):
        config = FAMILY[variant]["config"]
        model = on_meta(variant)
        is_stl = "stl" in variant
        assert model.depths == tuple(config["depths"])
        assert [stage["num_chs"] for stage in model.feature_info] == config["embed_dims"]
        for norm in (module for module in model.modules() if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)):
            assert norm.eps == (1e-6 if isinstance(norm, nn.LayerNorm) else 1e-5)
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert all(one.bias is not None and one.padding_mode == "zeros" for one in convolutions)
        assert (type(model.norm), type(model.stem).__name__) == (nn.BatchNorm2d, "PatchStem" if is_stl else "ConvStem")
        numerator, _, power = config["attn_scale"][0].partition("**")
        assert (float(numerator), power) == (config["embed_dims"][0], "-0.5")
        for index, blocks in enumerate(blocks_of(model)):
            dim, heads, topk = config["embed_dims"][index], config["num_heads"][index], config["topks"][index]
            width = float(config["attn_scale"][index].removesuffix("**-0.5"))
            for block in blocks:
                attn: Any = block.attn
                assert (attn.num_heads, attn.scale) == (heads, width**-0.5)
                assert (attn.qkv.bias is not None) == config["qkv_bias"][index]
                assert attn.proj.bias is not None
                assert attn.lepe.kernel_size == (config["side_dwconv"],) * 2
                assert (attn.lepe.padding, attn.lepe.groups) == ((config["side_dwconv"] // 2,) * 2, dim)
                if topk > 0:
                    windows = config["n_wins"][index] if is_stl else config["n_win"]
                    assert isinstance(attn, BiLevelRoutingAttention)
                    assert (attn.topk, attn.num_regions) == (topk, (windows, windows))
                else:
                    assert isinstance(attn, FullAttention)
                    assert attn.lepe_of == ("value" if variant == "biformer_stl_nchw" else "input")
                assert (type(block.mlp.act), block.mlp.act.approximate) == (nn.GELU, "none")
                assert block.mlp.fc1.out_features == dim * config["mlp_ratios"][index]
                assert (block.pos_embed is None) == is_stl
                if block.pos_embed is not None:
                    assert (block.pos_embed.kernel_size, block.pos_embed.padding) == ((3, 3), (1, 1))

    @pytest.mark.parametrize(("data_set", "regions"), [("coco", 16), ("ade20k", 8)])
    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_dense_settings(self, variant: str, data_set: str, regions: int):
        build = model_entrypoint(variant)
        with torch.device("meta"):
            if "stl" in variant:
                with pytest.raises(ValueError, match="No setting for dense prediction was published"):
                    build(dense=data_set)
                return
            model, other = build(dense=data_set), build(dense=data_set, num_regions=5)
        assert regions_of(model) == [(regions, regions)] * 3
        assert regions_of(other) == [(5, 5)] * 3
        features = FeatureMaps(model)
        norms: list[Any] = [features.get_submodule(f"norm{index}") for index in range(4)]
        assert all(isinstance(norm, nn.LayerNorm) and norm.eps == 1e-6 for norm in norms)

    def test_the_official_name_of_the_regions(self):
        with torch.device("meta"):
            assert regions_of(model_entrypoint("biformer_tiny")(n_win=8)) == [(8, 8)] * 3
            assert regions_of(model_entrypoint("biformer_tiny")(dense="coco", n_win=8)) == [(8, 8)] * 3
            assert regions_of(model_entrypoint("biformer_stl")(n_win=(9, 8, 7, 7))) == [(9, 9), (8, 8), (7, 7)]
            with pytest.raises(ValueError, match="num_regions=7 and n_win=8 name the same thing"):
                model_entrypoint("biformer_tiny")(num_regions=7, n_win=8)
            with pytest.raises(ValueError, match=r"no dense setting of biformer_tiny 'ade'\. Did you mean 'ade20k'"):
                model_entrypoint("biformer_tiny")(dense="ade")


def regions_of(model: BiFormer) -> list[tuple[int, int]]:
    found = [getattr(blocks[0].attn, "num_regions", None) for blocks in blocks_of(model)]
    return [one for one in found if one is not None]


class TestCheckpoints:
    @pytest.mark.parametrize("nchw", [False, True])
    def test_both_forms_of_stl_compute_what_was_published(self, nchw: bool):
        """Against plain functions that read the official names."""
        model = tiny_stl(full_lepe="value" if nchw else "input", num_regions=2).double().eval()
        official = {
            name: value.double() if value.is_floating_point() else value
            for name, value in official_state_dict(model, nchw).items()
        }
        assert any(name.endswith("attn.output_linear.weight" if nchw else "attn.wo.weight") for name in official)
        load_weights(model, official)
        images = torch.randn(2, 3, 48, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        expected = official_stl(official, images, topks=(1, 3, -2), heads=(1, 2, 2), windows=2, nchw=nchw)
        torch.testing.assert_close(model(images), expected)

    @pytest.mark.parametrize("name", ["biformer_stl", "biformer_stl_nchw"])
    def test_published_stl_names_load(self, name: str):
        with torch.device("meta"):
            model = model_entrypoint(name)()
            official = {
                key: torch.empty([*value.shape, *([1, 1] if is_1x1(key, name) else [])])
                for key, value in (
                    (official_names(model, "nchw" in name)[key], value) for key, value in model.state_dict().items()
                )
            }
        assert ("stages.2.blocks.5.attn.qkv_linear.weight" in official) == ("nchw" in name)
        assert {
            "stages.3.blocks.1.attn.qkv.weight",
            "downsample_layers.3.1.weight",
            "stages.0.blocks.0.mlp.2.bias",
        } <= set(official)
        model.load_state_dict(checkpoint_filter(model)(official), strict=True)

    def test_stl_and_its_refactoring_are_not_mistaken_for_each_other(self):
        legacy, refactored = tiny_stl(), tiny_stl(full_lepe="value")
        with pytest.raises(ValueError, match=r"is of biformer_stl_nchw.*Build biformer_stl_nchw to load it"):
            load_weights(legacy, official_state_dict(refactored, nchw=True))
        with pytest.raises(ValueError, match=r"is of biformer_stl: its names have 'attn\.wo'.*from the value"):
            load_weights(refactored, official_state_dict(legacy))

    def test_only_the_raw_model_of_a_training_state_is_read(self):
        model, other = tiny(), tiny()
        official = official_state_dict(model)
        average = {name: torch.zeros_like(value) for name, value in official.items()}
        load_weights(model, official)
        load_weights(other, {"model_ema": average, "model": official, "epoch": 299})
        assert_same_weights(model, other)

    def test_official_dense_names(self):
        features = FeatureMaps(tiny(output_norms=True)).eval()
        plain = FeatureMaps(tiny()).eval()
        official = official_state_dict(tiny())
        dense = {name: value for name, value in official.items() if not name.startswith(("norm.", "head."))}
        for index, channels in enumerate((8, 16, 16)):
            for kind in ("weight", "bias"):
                dense[f"extra_norms.{index}.{kind}"] = parity.fill(f"extra_norms.{index}.{kind}", (channels,))
        given = {f"backbone.{key}": value for key, value in dense.items()}
        given["neck.lateral_convs.0.conv.weight"] = torch.zeros(1)
        load_weights(features, given)
        load_weights(plain, official)
        images = torch.randn(1, 3, 37, 50)
        for index, (own, bare) in enumerate(zip(features(images), plain(images), strict=True)):
            weight, bias = dense[f"extra_norms.{index}.weight"], dense[f"extra_norms.{index}.bias"]
            mean, variance = bare.mean(1, keepdim=True), bare.var(1, correction=0, keepdim=True)
            expected = (bare - mean) / (variance + 1e-6).sqrt() * weight[:, None, None] + bias[:, None, None]
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)

    def test_classification_weights_load_into_a_dense_backbone(self):
        features = FeatureMaps(tiny(output_norms=True), out_indices=(0,))
        with torch.no_grad():
            features.get_parameter("norm0.weight").fill_(3.0)
        official = official_state_dict(tiny())
        load_weights(features, official)
        assert torch.equal(features.get_parameter("norm0.weight"), torch.full((8,), 3.0))
        assert torch.equal(features.get_parameter("body.stem.conv1.weight"), official["downsample_layers.0.0.weight"])

    def test_own_names_pass_unchanged(self):
        for model in (tiny(), tiny_stl(), tiny_stl(full_lepe="value"), FeatureMaps(tiny(output_norms=True))):
            own = model.state_dict()
            once = checkpoint_filter(model)(own)
            assert once.keys() == own.keys()
            assert all(torch.equal(once[name], own[name]) for name in own)

    def test_prefixes_are_taken_off(self):
        model = tiny()
        official = official_state_dict(model)
        for prefix in ("module.", "model.", "backbone.", "module.backbone.", "_orig_mod.module."):
            renamed = checkpoint_filter(model)({prefix + name: value for name, value in official.items()})
            assert renamed.keys() == model.state_dict().keys()

    def test_the_argument_is_left_alone(self):
        official = official_state_dict(tiny_stl(full_lepe="value"), nchw=True)
        before = {name: value.shape for name, value in official.items()}
        checkpoint_filter(tiny_stl(full_lepe="value"))(official)
        assert {name: value.shape for name, value in official.items()} == before

    def test_unknown_and_missing_names_are_reported(self):
        model = tiny()
        own = model.state_dict()
        filtered = checkpoint_filter(model)
        for extra, reported in (
            ("stages.0.blocks.0.attn.extra", r"stages\.0\.blocks\.0\.attn\.extra"),
            ("stages.0.1.attn.router.emb.weight", r"stages\.0\.blocks\.1\.attn\.router\.emb\.weight"),
            ("downsample_layers.0.2.weight", r"downsample_layers\.0\.2\.weight"),
        ):
            with pytest.raises(RuntimeError, match=rf"Unexpected key.*{reported}"):
                model.load_state_dict(filtered({**own, extra: torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Missing key.*stages\.1\.downsample\.conv\.weight"):
            model.load_state_dict(filtered({name: own[name] for name in own if "downsample" not in name}))


def is_1x1(name: str, variant: str) -> bool:
    return "nchw" in variant and re.search(r"(qkv|qkv_linear|output_linear|proj|mlp\.\d)\.weight$", name) is not None


def official_stl(
    weights: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    topks: tuple[int, ...],
    heads: tuple[int, ...],
    windows: int,
    nchw: bool,
) -> torch.Tensor:
    """Computes STL's logits from weights under the official names, plainly, for sizes that divide; eval mode."""

    def batch_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance, weight, bias = (
            weights[f"{name}.{kind}"][:, None, None] for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def conv(x: torch.Tensor, name: str, **kwargs: Any) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **kwargs)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"].flatten(1), weights.get(f"{name}.bias"))

    def layer_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)

    for index, topk in enumerate(topks):
        if index:
            x = conv(batch_norm(x, f"downsample_layers.{index}.0"), f"downsample_layers.{index}.1", stride=2)
        else:
            x = batch_norm(conv(x, "downsample_layers.0.0", stride=4), "downsample_layers.0.1")
        place = 0
        while f"stages.{index}.blocks.{place}.norm1.weight" in weights:
            block = f"stages.{index}.blocks.{place}"
            x = x.permute(0, 2, 3, 1)
            seen = layer_norm(x, f"{block}.norm1")
            routed = topk > 0
            names = ("qkv_linear", "output_linear") if nchw else ("qkv.qkv", "wo")
            qkv_name, proj_name = names if routed else ("qkv", "proj")
            query, key, value = linear(seen, f"{block}.attn.{qkv_name}").chunk(3, dim=-1)
            dim = query.shape[-1]
            out = gathered_attention(
                query,
                key,
                value,
                heads[index],
                windows if routed else 1,
                topk if routed else 1,
                (dim if routed else dim // heads[index]) ** -0.5,
            )
            lepe_of = value if routed or nchw else seen
            out = out + conv(lepe_of.permute(0, 3, 1, 2), f"{block}.attn.lepe", padding=2, groups=dim).permute(
                0, 2, 3, 1
            )
            x = x + linear(out, f"{block}.attn.{proj_name}")
            x = x + linear(F.gelu(linear(layer_norm(x, f"{block}.norm2"), f"{block}.mlp.0")), f"{block}.mlp.2")
            x = x.permute(0, 3, 1, 2)
            place += 1
    return linear(batch_norm(x, "norm").mean((2, 3)), "head")


def gathered_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    windows: int,
    topk: int,
    scale: float,
) -> torch.Tensor:
    """Bi-level routing attention of maps (B, H, W, C), one region of one image after the other."""
    out = torch.empty_like(value)
    batch, height, width, _ = query.shape
    rows, cols = height // windows, width // windows
    places = [
        (slice(row * rows, (row + 1) * rows), slice(col * cols, (col + 1) * cols))
        for row in range(windows)
        for col in range(windows)
    ]
    for image in range(batch):
        key_means = torch.stack([key[image][place].mean((0, 1)) for place in places])
        for place in places:
            likeness = key_means @ query[image][place].mean((0, 1))
            chosen = [places[index] for index in likeness.sort(descending=True).indices[:topk].tolist()]
            keys, values = (
                torch.cat([one[image][other].flatten(0, 1) for other in chosen]).unflatten(1, (heads, -1))
                for one in (key, value)
            )
            queries = query[image][place].unflatten(2, (heads, -1))
            logits = torch.einsum("hwnd,knd->nhwk", queries, keys) * scale
            out[image][place] = torch.einsum("nhwk,knd->hwnd", logits.softmax(-1), values).flatten(2)
    return out


class TestAttention:
    @pytest.mark.parametrize(
        ("height", "width", "num_regions", "topk"),
        [(6, 9, 3, 2), (5, 7, 3, 2), (2, 4, 3, 5), (7, 5, (2, 3), 4), (8, 6, (4, 1), 1), (5, 5, 2, 4), (4, 4, 1, 1)],
    )
    def test_routing_and_padding(self, height: int, width: int, num_regions: Any, topk: int):
        torch.manual_seed(0)
        attn = BiLevelRoutingAttention(8, 2, num_regions, topk).double()
        nn.init.normal_(attn.qkv.bias)
        nn.init.normal_(attn.qkv.weight)
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        rows, cols = num_regions if isinstance(num_regions, tuple) else (num_regions, num_regions)
        padded = F.pad(x, (0, 0, 0, -width % cols, 0, -height % rows))
        query, key, value = attn.qkv(padded).chunk(3, dim=-1)
        if rows == cols:
            out = gathered_attention(query, key, value, 2, rows, topk, 8**-0.5)
        else:
            out = masked_attention(query, key, value, attn.routes(x), (rows, cols), 2, 8**-0.5)
        assert attn.lepe is not None
        out = out + F.conv2d(value.permute(0, 3, 1, 2), attn.lepe.weight, attn.lepe.bias, padding=2, groups=8).permute(
            0, 2, 3, 1
        )
        torch.testing.assert_close(attn(x), attn.proj(out)[:, :height, :width])

    def test_routes(self):
        torch.manual_seed(0)
        attn = BiLevelRoutingAttention(8, 2, (2, 3), topk=4)
        x = torch.randn(2, 5, 7, 8)
        routes = attn.routes(x)
        assert (routes.shape, routes.dtype, routes.requires_grad) == ((2, 6, 4), torch.int64, False)
        query, key, _ = attn.qkv(F.pad(x, (0, 0, 0, 2, 0, 1))).chunk(3, dim=-1)
        means = [one.unflatten(2, (3, 3)).unflatten(1, (2, 3)).mean((2, 4)).flatten(1, 2) for one in (query, key)]
        likeness = means[0] @ means[1].mT
        assert torch.equal(routes, likeness.argsort(dim=-1, descending=True)[..., :4])

    def test_all_regions_are_full_attention(self):
        torch.manual_seed(0)
        attn = BiLevelRoutingAttention(8, 2, 2, topk=4, lepe_kernel_size=0)
        assert attn.lepe is None
        x = torch.randn(1, 4, 6, 8)
        query, key, value = (part.reshape(1, 24, 2, 4).transpose(1, 2) for part in attn.qkv(x).chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(query, key, value, scale=8**-0.5).transpose(1, 2).reshape(1, 4, 6, 8)
        torch.testing.assert_close(attn(x), attn.proj(out))

    def test_queries_and_keys_learn_from_attention_alone(self):
        """With one position a region and one region each, the softmax is 1 whatever queries and keys are."""
        attn = BiLevelRoutingAttention(8, 2, 3, topk=1)
        attn(torch.randn(1, 3, 3, 8)).square().sum().backward()
        assert attn.qkv.weight.grad is not None
        assert attn.qkv.weight.grad[:16].abs().max() < 1e-7
        assert attn.qkv.weight.grad[16:].abs().max() > 1e-3

    @pytest.mark.parametrize("lepe", ["input", "value", None])
    def test_full_attention(self, lepe: Any):
        torch.manual_seed(0)
        attn = FullAttention(8, 2, lepe=lepe).double()
        assert attn.qkv.bias is None
        x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
        query, key, value = attn.qkv(x).chunk(3, dim=-1)
        out = gathered_attention(query, key, value, 2, 1, 1, 4**-0.5)
        if attn.lepe is not None:
            seen = x if lepe == "input" else value
            out = out + F.conv2d(
                seen.permute(0, 3, 1, 2), attn.lepe.weight, attn.lepe.bias, padding=2, groups=8
            ).permute(0, 2, 3, 1)
        torch.testing.assert_close(attn(x), attn.proj(out))
        assert (attn.lepe is None) == (lepe is None)

    def test_options(self):
        attn = BiLevelRoutingAttention(8, 2, qkv_bias=False, scale=0.5, lepe_kernel_size=3)
        assert (attn.num_regions, attn.topk, attn.scale) == ((7, 7), 4, 0.5)
        names = {"qkv.weight", "lepe.weight", "lepe.bias", "proj.weight", "proj.bias"}
        assert {name for name, _ in attn.named_parameters()} == names
        assert attn(torch.randn(1, 4, 5, 8)).shape == (1, 4, 5, 8)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"num_heads": 3}, "num_heads must divide the channels, but 8 channels have 3 heads"),
            ({"num_regions": 0}, "num_regions must be an integer of at least 1, but is 0"),
            ({"num_regions": (2, 2, 2)}, r"num_regions must be one number, or one for the rows.*\(2, 2, 2\)"),
            ({"topk": 0}, "topk must be an integer of at least 1, but is 0"),
            ({"topk": -2}, "topk must be an integer of at least 1, but is -2"),
            ({"num_regions": (2, 3), "topk": 7}, "at most the number of regions, but is 7 of 2 x 3 = 6 regions"),
            ({"lepe_kernel_size": 4}, "lepe_kernel_size must be odd, or 0 for no convolution, but is 4"),
            ({"lepe_kernel_size": -1}, "lepe_kernel_size must be an integer of at least 1"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            BiLevelRoutingAttention(**{"dim": 8, "num_heads": 2, **kwargs})

    def test_wrong_arguments_of_full_attention_are_named(self):
        with pytest.raises(ValueError, match="num_heads must divide the channels, but 12 channels have 8 heads"):
            FullAttention(12)
        with pytest.raises(ValueError, match=r"no lepe 'values'\. Did you mean 'value'"):
            FullAttention(8, lepe=cast("Any", "values"))


def masked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    routes: torch.Tensor,
    num_regions: tuple[int, int],
    heads: int,
    scale: float,
) -> torch.Tensor:
    """Attention over the whole map, with all but the routed regions masked."""
    batch, height, width, dim = query.shape
    rows, cols = num_regions
    region = (torch.arange(height) // (height // rows))[:, None] * cols + torch.arange(width) // (width // cols)
    region = region.flatten()
    seen = torch.zeros(batch, rows * cols, rows * cols, dtype=torch.bool)
    seen.scatter_(2, routes, torch.ones_like(routes, dtype=torch.bool))
    mask = seen[:, region][:, :, region][:, None]
    parts = [one.reshape(batch, height * width, heads, -1).transpose(1, 2) for one in (query, key, value)]
    out = F.scaled_dot_product_attention(*parts, attn_mask=mask, scale=scale)
    return out.transpose(1, 2).reshape(batch, height, width, dim)


class TestModel:
    @pytest.mark.parametrize("body", [{}, {"patches": "patch", "pos_embed": False}])
    def test_initial_values_are_the_published_ones(self, body: dict[str, Any]):
        torch.manual_seed(0)
        wide: dict[str, Any] = {"depths": (1, 1), "embed_dims": (64, 128), "num_heads": (2, 4), "topks": (1, -2)}
        model = BiFormer(**wide, **body)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
                assert module.bias is None or not module.bias.any(), name
            elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                assert torch.equal(module.weight, torch.ones_like(module.weight))
                assert not module.bias.any()
            elif isinstance(module, nn.Conv2d):
                bound = module.weight[0].numel() ** -0.5  # PyTorch's uniform distribution
                assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.05), name
                assert module.bias is not None
                assert module.bias.any()

    def test_the_refactored_stl_keeps_pytorchs_initial_values(self):
        torch.manual_seed(0)
        model = model_entrypoint("biformer_stl_nchw")(embed_dims=(32, 64, 64, 64), num_heads=(2, 2, 2, 8))
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name != "head.fc":
                bound = module.in_features**-0.5
                assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.05), name
                assert module.bias is None or module.bias.any(), name
        assert model.get_parameter("head.fc.weight").std().item() == pytest.approx(0.02, rel=0.1)

    def test_drop_path_grows_linearly_over_all_blocks(self):
        model = tiny(depths=(2, 2, 1), drop_path_rate=0.4)
        rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in blocks_of(model) for block in stage]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])

    def test_full_attention_without_lepe(self):
        model = tiny(topks=(1, 3, -1))
        assert cast("Any", blocks_of(model)[2][0].attn).lepe is None
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)

    @pytest.mark.parametrize("num_regions", [(3, (2, 4), 1), 5])
    def test_regions(self, num_regions: Any):
        model = tiny(num_regions=num_regions)
        expected = [(5, 5), (5, 5)] if num_regions == 5 else [(3, 3), (2, 4)]
        assert regions_of(model) == expected

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            (
                {"depths": (2,)},
                "depths, embed_dims, num_heads and topks need one number a stage, but have 1, 3, 3 and 3",
            ),
            ({"topks": (1, 2)}, "num_heads and topks need one number a stage"),
            ({"depths": (2, 0, 1)}, r"depths\[1\] must be an integer of at least 1, but is 0"),
            ({"num_heads": (1, 3, 2)}, r"num_heads\[1\] = 3 must divide embed_dims\[1\] = 16"),
            ({"embed_dims": (1, 16, 16)}, r"embed_dims\[0\] must be an integer of at least 2"),
            ({"topks": (10, 3, -2)}, r"topks\[0\]: .*10 of 3 x 3 = 9 regions.*full attention choose -2 \(with LePE\)"),
            ({"topks": (0, 3, -2)}, r"topks\[0\]: topk must be an integer of at least 1, but is 0"),
            ({"topks": (-3, 3, -2)}, r"topks\[0\]: .*but is -3"),
            ({"num_regions": (3, 2)}, "num_regions must be one number or one a stage, but has 2 entries for 3 stages"),
            ({"num_regions": (3, (2, 0), 2)}, r"num_regions\[1\] must be an integer of at least 1, but is 0"),
            ({"mlp_ratio": 0}, "mlp_ratio must leave at least one hidden channel, but is 0"),
            ({"patches": "convs"}, "no patches 'convs'. Did you mean 'conv'"),
            ({"full_lepe": "v"}, "no full_lepe 'v'"),
            ({"linear_init": "normal"}, "no linear_init 'normal'"),
            ({"num_classes": -1}, "num_classes must be an integer of at least 0, but is -1"),
            ({"in_chans": 0}, "in_chans must be an integer of at least 1"),
            ({"proj_drop_rate": -0.1}, "proj_drop_rate must be at least 0"),
            ({"drop_path_rate": 1.5}, "drop_path_rate must be at least 0 and below 1, but is 1.5"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)

    @pytest.mark.parametrize("size", [(16, 16), (33, 50), (64, 17)])
    def test_any_size_with_plain_patches(self, size: tuple[int, int]):
        """Zeros below and on the right, behind the batch norm, complete the last patches."""
        model = tiny_stl().eval()
        set_statistics(model)
        images = torch.randn(1, 3, *size)
        maps = FeatureMaps(copy.deepcopy(model))(images)
        for stride, one in zip((4, 8, 16), maps, strict=True):
            assert one.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
        merging = cast("Any", model.stages[1]).downsample
        assert isinstance(merging, PatchMerging)
        x = torch.randn(1, 8, 5, 7)
        padded = F.pad(merging.bn(x), (0, 1, 0, 1))
        torch.testing.assert_close(merging(x), merging.conv(padded))

    def test_images_below_the_minimum_are_refused(self):
        assert tiny().min_input_size == 16
        with pytest.raises(ValueError, match=r"at least 16 pixels high and wide.*but are 15 high"):
            tiny()(torch.randn(1, 3, 15, 64))
        with pytest.raises(ValueError, match="at least 16 pixels"):
            tiny().routes(torch.randn(1, 3, 64, 15))

    def test_a_map_of_one_position_still_routes(self):
        model = tiny(num_regions=7).eval()
        assert model(torch.randn(2, 3, 16, 16)).isfinite().all()

    @torch.no_grad()
    def test_routes_of_images(self):
        torch.manual_seed(0)
        model = tiny().eval()
        set_statistics(model)
        images = torch.randn(2, 3, 48, 64)
        seen: dict[str, torch.Tensor] = {}

        def keep(name: str, attn: BiLevelRoutingAttention) -> None:
            attn.register_forward_pre_hook(lambda _, args: seen.update({name: attn.routes(args[0])}))

        for name, module in model.named_modules():
            if isinstance(module, BiLevelRoutingAttention):
                keep(name.removesuffix(".attn"), module)
        model(images)
        routes = model.routes(images)
        assert list(routes) == ["stages.0.blocks.0", "stages.0.blocks.1", "stages.1.blocks.0"]
        assert all(torch.equal(one.indices, seen[name]) for name, one in routes.items())
        first, last = routes["stages.0.blocks.0"], routes["stages.1.blocks.0"]
        # Maps of 12 x 16 and 6 x 8 positions, strides 4 and 8: 16 columns in 3 regions are padded to 18.
        assert (first.indices.shape, first.num_regions, first.region_size) == ((2, 9, 1), (3, 3), (16, 24))
        assert (last.indices.shape, last.num_regions, last.region_size) == ((2, 4, 3), (2, 2), (24, 32))

    @pytest.mark.parametrize("make", [tiny, tiny_stl])
    def test_shortcuts_of_inference_change_nothing(self, make: Callable[..., BiFormer]):
        model = make().eval()
        set_statistics(model)
        images = torch.randn(2, 3, 64, 48)
        expected = model(images)
        with torch.no_grad():
            torch.testing.assert_close(model(images), expected.detach())
            block = blocks_of(model)[0][0]
            x = torch.randn(2, 8, 5, 7).contiguous(memory_format=torch.channels_last)
            before = x.clone()
            block(x)
            assert torch.equal(x, before)

    def test_batch_norms_convert_to_synchronised_ones(self):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(tiny()).eval()
        assert isinstance(model.norm, nn.SyncBatchNorm)
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)

    def test_maps_are_channels_last_in_memory(self):
        for model in (tiny().eval(), tiny_stl().eval()):
            for one in FeatureMaps(model)(torch.randn(2, 3, 64, 48)):
                assert one.is_contiguous(memory_format=torch.channels_last)

    def test_bfloat16_autocast(self):
        model = tiny().eval()
        images = torch.randn(2, 3, 32, 32)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        torch.testing.assert_close(logits.float(), model(images), atol=0.05, rtol=0.05)

    def test_compiled_model_equals_the_eager_one(self):
        model = tiny(depths=(1, 1, 1)).train()
        compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
        images = torch.randn(2, 3, 32, 40)
        for one in (model, compiled):
            one(images).square().sum().backward()
        for parameter, other in zip(model.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-4)

    def test_exported_model_equals_the_eager_one(self):
        model = tiny().eval()
        images = torch.randn(2, 3, 32, 40)
        exported = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(exported(images), model(images))
