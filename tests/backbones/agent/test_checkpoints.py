"""The agent transformers' published checkpoints: their names and shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attnzoo import load_weights
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.registry import checkpoint_filter
from support.agents import BODIES, classifier, official, official_weights, tiny
from support.weights import assert_same_weights


class TestCheckpoints:
    @pytest.mark.parametrize("body", BODIES)
    def test_official_names(self, body: str):
        torch.manual_seed(0)
        model, other = tiny(body).eval(), tiny(body).eval()
        weights = official(model)
        assert not {name for name in weights if name.startswith(("stages.", "stem."))}
        weights["layers.1.blocks.0.attn.relative_position_index"] = torch.zeros(9, 9, dtype=torch.int64)
        weights["layers.1.blocks.1.attn_mask"] = torch.zeros(4, 9, 9)
        report = load_weights(other, {"model": weights, "epoch": 3})
        assert report.key == "model"
        assert_same_weights(model, other)
        images = torch.randn(1, 3, 37, 50)
        assert torch.equal(model(images), other(images))

    def test_averaged_weights_are_the_published_ones(self):
        model, averaged = tiny("cswin"), tiny("cswin")
        other = tiny("cswin")
        report = load_weights(other, {"model": official(model), "state_dict_ema": official(averaged)})
        assert report.is_ema
        assert_same_weights(other, averaged)

    @pytest.mark.parametrize("body", ["swin", "pvt"])
    def test_official_dense_names(self, body: str):
        torch.manual_seed(0)
        kwargs = {"output_norms": True} if body == "swin" else {}
        features = FeatureMaps(tiny(body, **kwargs)).eval()
        source = tiny(body).eval()
        weights = {name: value for name, value in official(source).items() if not name.startswith(("norm.", "head."))}
        norms = {}
        for index, channels in enumerate((8, 16) if body == "swin" else ()):
            for kind in ("weight", "bias"):
                norms[f"norm{index}.{kind}"] = torch.randn(channels)
        given = {f"backbone.{name}": value for name, value in (weights | norms).items()}
        load_weights(features, {"state_dict": {**given, "neck.lateral_convs.0.conv.weight": torch.zeros(1)}})
        images = torch.randn(1, 3, 37, 50)
        bare = source.forward_intermediates(images, intermediates_only=True, output_fmt="NHWC")
        for index, (own, plain) in enumerate(zip(features(images), bare, strict=True)):
            expected = plain
            if body == "swin":
                weight, bias = norms[f"norm{index}.weight"], norms[f"norm{index}.bias"]
                expected = F.layer_norm(plain, (len(weight),), weight, bias, eps=1e-5)
            torch.testing.assert_close(own.permute(0, 2, 3, 1), expected)

    @pytest.mark.parametrize("body", BODIES)
    def test_own_names_pass_unchanged(self, body: str):
        for model in (tiny(body), FeatureMaps(tiny(body))):
            own = model.state_dict()
            once = checkpoint_filter(model)(own)
            assert once.keys() == own.keys()
            assert all(torch.equal(once[name], own[name]) for name in own)
            for prefix in ("module.", "model.", "backbone.", "_orig_mod.module."):
                assert (
                    checkpoint_filter(model)({prefix + name: value for name, value in own.items()}).keys() == own.keys()
                )

    @pytest.mark.parametrize("body", BODIES)
    def test_weights_for_another_image_size_are_resized(self, body: str):
        torch.manual_seed(0)
        small, large = (
            tiny(body, img_size=48),
            tiny(body, img_size=(64, 96), **({"window_size": 5} if body == "swin" else {})),
        )
        load_weights(large, official(small))
        given, found = small.state_dict(), large.state_dict()
        changed = {name for name in given if given[name].shape != found[name].shape}
        kinds = {name.rpartition(".")[2] for name in changed}
        assert (
            kinds
            == {"ah_bias", "aw_bias", "ha_bias", "wa_bias"}
            | {"deit": {"pos_embed"}, "pvt": {"pos_embed"}, "swin": {"rpb"}, "cswin": set()}[body]
        )
        for name in changed:
            old, new = given[name], found[name]
            if name.endswith(("ah_bias", "aw_bias")):
                expected = F.interpolate(old[0], new.shape[3:], mode="bilinear")[None]
            elif name.endswith(("ha_bias", "wa_bias")):
                maps = F.interpolate(old[0].permute(0, 3, 1, 2), new.shape[2:4], mode="bilinear")
                expected = maps.permute(0, 2, 3, 1)[None]
            elif name.endswith("rpb"):
                expected = F.interpolate(old[None], new.shape[1:], mode="bicubic")[0]
            else:
                prefix = int(body == "deit")
                stride = 8 if prefix or name.startswith("stages.") else 4
                maps = old[:, prefix:].unflatten(1, (48 // stride, 48 // stride)).permute(0, 3, 1, 2)
                maps = F.interpolate(maps, (64 // stride, 96 // stride), mode="bicubic")
                expected = torch.cat([old[:, :prefix], maps.flatten(2).transpose(1, 2)], dim=1)
            torch.testing.assert_close(new, expected, msg=name)
        assert all(torch.equal(given[name], found[name]) for name in given.keys() - changed)

    def test_unknown_and_missing_names_are_reported(self):
        model = tiny("swin")
        own = model.state_dict()
        filtered = checkpoint_filter(model)
        with pytest.raises(RuntimeError, match=r"Unexpected key.*stages\.0\.blocks\.0\.attn\.extra"):
            model.load_state_dict(filtered({**own, "layers.0.blocks.0.attn.extra": torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Missing key.*stages\.1\.downsample\.reduction\.weight"):
            model.load_state_dict(filtered({name: own[name] for name in own if "downsample" not in name}))
        with pytest.raises(RuntimeError, match=r"size mismatch.*an_bias"):
            model.load_state_dict(filtered(official(tiny("swin", num_agents=(9, 9)))))
        model = tiny("deit")
        with pytest.raises(RuntimeError, match=r"Unexpected key.*blocks\.7\.norm1"):
            model.load_state_dict(
                checkpoint_filter(model)({**official(model), "blocks.7.norm1.weight": torch.zeros(8)})
            )
        with pytest.raises(RuntimeError, match=r"size mismatch.*pos_embed"):  # 4 x 6 places are no square
            tiny("deit", img_size=64).load_state_dict(checkpoint_filter(tiny("deit", img_size=64))(official(model)))
        model = tiny("pvt")
        weights = {name: value for name, value in official(model).items() if ".attn.kv." not in name}
        with pytest.raises(RuntimeError, match=r"Unexpected key.*attn\.q\.weight"):
            model.load_state_dict(checkpoint_filter(model)(weights))

    def test_the_argument_is_left_alone(self):
        weights = dict(official_weights("agent_cswin_tiny"))
        checkpoint_filter(classifier("agent_cswin_tiny"))(weights)
        assert weights.keys() == official_weights("agent_cswin_tiny").keys()
