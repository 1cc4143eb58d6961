"""Published forms of NAT's checkpoints load strictly."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.nat import NAT
from attnzoo.backbones.registry import checkpoint_filter
from support import parity
from support.nats import PACKS, classifier, official_weights, tiny, tiny_isotropic
from support.weights import assert_same_weights


def official_names(model: NAT, kind: str) -> dict[str, str]:
    """Gives the official name of each entry of a model's state dict; `kind` is "levels" or "layers"."""
    starts = [sum(model.depths[:index]) for index in range(len(model.depths))]

    def rename(name: str) -> str:
        name = re.sub(r"^stem\.convs\.", "patch_embed.proj.", name)
        name = re.sub(r"^stem\.", "patch_embed.", name)
        name = re.sub(r"^stages\.(\d+)\.downsample", lambda match: f"{kind}.{int(match[1]) - 1}.downsample", name)
        if model.is_isotropic:
            name = re.sub(
                r"^stages\.(\d+)\.blocks\.(\d+)", lambda match: f"layers.{starts[int(match[1])] + int(match[2])}", name
            )
        name = re.sub(r"^stages\.", f"{kind}.", name)
        name = re.sub(r"\.ls([12])\.gamma$", r".gamma\1", name)
        return name.replace("head.fc.", "head.")

    return {name: rename(name) for name in model.state_dict()}


def as_transformers(official: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Renames an official NAT or DiNAT state dict as transformers' port does."""
    out = {}
    for name, tensor in official.items():
        block = re.match(r"^levels\.(\d+)\.blocks\.(\d+)\.(.*)$", name)
        if name.startswith("head."):
            out[name.replace("head.", "classifier.")] = tensor
            continue
        if block is None:
            name = name.replace("patch_embed.proj.", "embeddings.patch_embeddings.projection.")
            name = name.replace("patch_embed.norm.", "embeddings.norm.").replace("levels.", "encoder.levels.")
            name = re.sub(r"^norm\.", "layernorm.", name)
            name = re.sub(r"^norm(\d)\.", lambda match: f"hidden_states_norms.stage{int(match[1]) + 1}.", name)
            out[prefix + name] = tensor
            continue
        layer = f"{prefix}encoder.levels.{block[1]}.layers.{block[2]}."
        rest = block[3]
        if rest.startswith("attn.qkv."):
            kind = rest.rpartition(".")[2]
            for part, values in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                out[f"{layer}attention.self.{part}.{kind}"] = values
        elif rest == "gamma1":
            gamma2 = official[name.replace("gamma1", "gamma2")]
            out[f"{layer}layer_scale_parameters"] = torch.stack([tensor, gamma2])
        elif rest != "gamma2":
            for ours, theirs in (
                ("norm1.", "layernorm_before."),
                ("norm2.", "layernorm_after."),
                ("attn.rpb", "attention.self.rpb"),
                ("attn.proj.", "attention.output.dense."),
                ("mlp.fc1.", "intermediate.dense."),
                ("mlp.fc2.", "output.dense."),
            ):
                rest = rest.replace(ours, theirs)
            out[layer + rest] = tensor
    return out


class TestCheckpoints:
    @pytest.mark.parametrize("prefix", ["nat.", "dinat.", ""])
    def test_transformers_names(self, prefix: str):
        official = official_weights("nat_mini")
        renamed = as_transformers(official, prefix)
        assert not renamed.keys() & {name for name in official if not name.startswith("levels.9")}
        model = model_entrypoint("nat_mini")()
        load_weights(model, renamed)
        assert_same_weights(model, classifier("nat_mini"))

    def test_transformers_names_with_layer_scale(self):
        model, other = tiny(layer_scale=1e-5), tiny(layer_scale=0.5)
        official = {
            name: torch.randn_like(model.state_dict()[own]) for own, name in official_names(model, "levels").items()
        }
        assert "levels.0.blocks.1.gamma2" in official
        load_weights(model, official)
        load_weights(other, as_transformers(official, "dinat."))
        assert_same_weights(model, other)
        assert torch.equal(model.get_parameter("stages.0.blocks.1.ls2.gamma"), official["levels.0.blocks.1.gamma2"])

    @pytest.mark.parametrize("transformers", [False, True])
    def test_official_dense_names(self, transformers: bool):
        features = FeatureMaps(tiny(output_norms=True), out_indices=(0, 1)).eval()
        plain = FeatureMaps(tiny(), out_indices=(0, 1)).eval()
        names = official_names(tiny(), "levels")
        official = {name: parity.fill(name, tiny().state_dict()[own].shape) for own, name in names.items()}
        dense = {name: value for name, value in official.items() if not name.startswith(("norm.", "head."))}
        for index, channels in enumerate((8, 16)):
            for kind in ("weight", "bias"):
                dense[f"norm{index}.{kind}"] = parity.fill(f"norm{index}.{kind}", (channels,))
        given = (
            as_transformers(dense, "") if transformers else {f"backbone.{key}": value for key, value in dense.items()}
        )
        if not transformers:
            given["neck.lateral_convs.0.weight"] = torch.zeros(1)
        load_weights(features, given)
        load_weights(plain, official)
        images = torch.randn(1, 3, 37, 50)
        for index, (own, bare) in enumerate(zip(features(images), plain(images), strict=True)):
            weight, bias = dense[f"norm{index}.weight"], dense[f"norm{index}.bias"]
            expected = F.layer_norm(bare.permute(0, 2, 3, 1), (len(weight),), weight, bias, eps=1e-5)
            torch.testing.assert_close(own.permute(0, 2, 3, 1), expected)

    def test_isotropic_names(self):
        model, other = (
            tiny_isotropic(attention="global", table_size=4),
            tiny_isotropic(attention="global", table_size=4),
        )
        names = official_names(model, "layers")
        official = {names[name]: value for name, value in model.state_dict().items()}
        assert {name for name in official if name.endswith(".rpb")} == {
            f"layers.{index}.attn.rpb" for index in range(3)
        }
        official["layers.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
        load_weights(other, official)
        assert_same_weights(model, other)

    def test_own_names_pass_unchanged(self):
        for model in (tiny(layer_scale=0.1), tiny_isotropic(), FeatureMaps(tiny(output_norms=True))):
            own = model.state_dict()
            once = checkpoint_filter(model)(own)
            assert once.keys() == own.keys()
            assert all(torch.equal(once[name], own[name]) for name in own)

    def test_prefixes_are_taken_off(self):
        model = tiny()
        own = model.state_dict()
        for prefix in ("module.", "model.", "backbone.", "module.backbone.", "_orig_mod.module."):
            assert checkpoint_filter(model)({prefix + name: value for name, value in own.items()}).keys() == own.keys()

    def test_the_argument_is_left_alone(self):
        official = dict(official_weights("nat_mini"))
        checkpoint_filter(classifier("nat_mini"))(official)
        assert official.keys() == official_weights("nat_mini").keys()

    def test_another_kernel_size_resizes_the_biases(self):
        small, large = tiny(kernel_size=3), tiny(kernel_size=5)
        load_weights(large, small.state_dict())
        for stage, block in ((0, 0), (0, 1), (1, 0)):
            name = f"stages.{stage}.blocks.{block}.attn.rpb"
            expected = F.interpolate(small.get_parameter(name)[None], size=(9, 9), mode="bicubic", align_corners=False)[
                0
            ]
            torch.testing.assert_close(large.get_parameter(name), expected)

    def test_classification_weights_load_into_a_dense_backbone(self):
        features = FeatureMaps(tiny(output_norms=True), out_indices=(0,))
        with torch.no_grad():
            features.get_parameter("norm0.weight").fill_(3.0)
        source = tiny()
        load_weights(features, source.state_dict())
        assert torch.equal(features.get_parameter("norm0.weight"), torch.full((8,), 3.0))
        assert torch.equal(
            features.get_parameter("body.stem.convs.0.weight"), source.get_parameter("stem.convs.0.weight")
        )

    def test_unknown_and_missing_names_are_reported(self):
        model = tiny()
        own = model.state_dict()
        filtered = checkpoint_filter(model)
        with pytest.raises(RuntimeError, match=r"Unexpected key.*stages\.0\.blocks\.0\.attn\.extra"):
            model.load_state_dict(filtered({**own, "stages.0.blocks.0.attn.extra": torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Unexpected key.*layers\.7\.norm1\.weight"):
            model.load_state_dict(filtered({**own, "layers.7.norm1.weight": torch.zeros(8)}))
        with pytest.raises(RuntimeError, match=r"Missing key.*stages\.1\.downsample\.reduction\.weight"):
            model.load_state_dict(filtered({name: own[name] for name in own if "downsample" not in name}))
        query = "nat.encoder.levels.0.layers.0.attention.self.query.bias"
        with pytest.raises(RuntimeError, match=r"Unexpected key.*attn\.query\.bias"):
            model.load_state_dict(filtered({**own, query: torch.zeros(8)}))
        features = FeatureMaps(tiny())
        with pytest.raises(RuntimeError, match=r"Unexpected key.*norm0\.weight"):
            features.load_state_dict(checkpoint_filter(features)({**own, "norm0.weight": torch.zeros(8)}))


class TestParity:
    @pytest.mark.parametrize("variant", PACKS)
    def test_names_and_shapes_are_the_official_ones(self, variant: str):
        model = classifier(variant)
        assert isinstance(model, NAT)
        names = official_names(model, "levels" if model.is_isotropic or hasattr(model.stem, "convs") else "layers")
        shapes = {names[name]: list(value.shape) for name, value in model.state_dict().items()}
        assert shapes == parity.load_pack("nat", variant)[0]["state_dict"]
