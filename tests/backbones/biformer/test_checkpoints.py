"""BiFormer's published checkpoints: their names, forms and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.biformer import BiFormer
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.registry import checkpoint_filter
from support import parity
from support.biformers import gathered_attention, official_names, tiny, tiny_stl
from support.weights import assert_same_weights


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
        with pytest.raises(ValueError, match=r"is one of biformer_stl_nchw.*Build biformer_stl_nchw to load it"):
            load_weights(legacy, official_state_dict(refactored, nchw=True))
        with pytest.raises(ValueError, match=r"is one of biformer_stl: its names contain 'attn\.wo'.*from the value"):
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
