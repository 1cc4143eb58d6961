"""The agent transformers against the official code's outputs, names and figures."""

from __future__ import annotations

import copy
import functools
import json
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.agent import (
    AgentAttention,
    AgentCSWin,
    AgentDeiT,
    AgentPVT,
    AgentSwin,
    ClassTokenAgentAttention,
    ShiftedWindowAttention,
    StripeAttention,
    TokenAttention,
    WholeMapAttention,
    cswin,
    swin,
)
from attnzoo.backbones.layers import Backbone, FeatureMaps
from attnzoo.backbones.registry import checkpoint_filter
from support import parity

PACKS = ("agent_deit_tiny", "agent_swin_tiny", "agent_cswin_tiny")
CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("agent_attention", name)[0]["cases"]]
FAMILY = {
    one["variant"]: one for one in json.loads((parity.ROOT / "agent_attention" / "family.json").read_text())["variants"]
}
DENSE_AGENTS = {
    "swin": [(9, 9), (12, 12), (14, 14), (7, 7)],
    "pvt": [(12, 12), (16, 16), (28, 28), (28, 28)],
}


def tiny(body: str, **kwargs: Any) -> Any:
    """A model of two stages, one agent a side less than the published ones, for 32x48 images."""
    shared: dict[str, Any] = {"num_agents": (4, 9), "img_size": (32, 48), "num_classes": 5}
    if body == "deit":
        settings = {"embed_dim": 8, "num_heads": 2, "depths": (2, 2), "agent_blocks": (2, 1), "patch_size": 8}
        return AgentDeiT(**{**shared, **settings, **kwargs})
    settings = {"depths": (2, 2), "num_heads": (2, 2)}
    if body == "pvt":
        return AgentPVT(**{**shared, **settings, "embed_dims": (8, 16), "mlp_ratios": (2, 1.5), **kwargs})
    settings |= {"embed_dim": 8, "agent_blocks": (1, 0)}
    if body == "swin":
        return AgentSwin(**{**shared, **settings, "window_size": 3, **kwargs})
    return AgentCSWin(**{**shared, **settings, "stripe_sizes": (3, 3), **kwargs})


BODIES = ("deit", "pvt", "swin", "cswin")


def blocks_of(model: Any) -> list[list[Any]]:
    return [list(stage.blocks) for stage in model.stages]


@functools.cache
def on_meta(variant: str) -> Any:
    with torch.device("meta"):
        return model_entrypoint(variant)().eval()


@functools.cache
def official_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("agent_attention", variant)[0])


@functools.cache
def classifier(variant: str) -> Any:
    model = model_entrypoint(variant)().eval()
    load_weights(model, official_weights(variant))
    return model


def official(model: Backbone) -> dict[str, torch.Tensor]:
    """Gives a model's weights under the official names."""
    rename = {"AgentDeiT": _deit_name, "AgentPVT": _pvt_name, "AgentSwin": _swin_name, "AgentCSWin": _cswin_name}
    out: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        new = rename[type(model).__name__](model, name).replace("head.fc.", "head.")
        if isinstance(model, AgentPVT) and ".qkv." in new:
            dim = len(tensor) // 3
            out[new.replace(".qkv.", ".q.")], out[new.replace(".qkv.", ".kv.")] = tensor[:dim], tensor[dim:]
        else:
            out[new] = tensor.flatten(1).t() if new.endswith("bias_table") else tensor
    return out


def _deit_name(model: Any, name: str) -> str:
    starts = [sum(model.depths[:index]) for index in range(len(model.depths))]
    name = re.sub(r"^stem\.proj", "patch_embed.proj", name).replace("stem.", "")
    return re.sub(
        r"^stages\.(\d)\.blocks\.(\d+)", lambda match: f"blocks.{starts[int(match[1])] + int(match[2])}", name
    )


def _pvt_name(model: Any, name: str) -> str:
    name = re.sub(r"^stem\.", "stages.0.downsample.", name)
    name = re.sub(r"^stages\.(\d)\.", lambda match: f"stages.{int(match[1]) + 1}.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.pos_embed", r"pos_embed\1", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"patch_embed\1.", name)
    return re.sub(r"^stages\.(\d)\.blocks\.", r"block\1.", name)


def _swin_name(model: Any, name: str) -> str:
    name = re.sub(r"^stem\.", "patch_embed.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", lambda match: f"layers.{int(match[1]) - 1}.downsample.", name)
    return re.sub(r"^stages\.", "layers.", name).replace(".rpb", ".relative_position_bias_table")


def _cswin_name(model: Any, name: str) -> str:
    name = name.replace("stem.proj.", "stage1_conv_embed.0.").replace("stem.norm.", "stage1_conv_embed.2.")
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"merge\1.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.(\d+)", lambda match: f"stage{int(match[1]) + 1}.{match[2]}", name)
    name = re.sub(r"\.attn\.(qkv|proj)\.", r".\1.", name)
    name = re.sub(r"\.attn\.dwc\.([01])\.", r".attns.\1.get_v.", name)
    return name.replace(".attn.dwc.", ".attns.0.get_v.").replace(".attn.", ".attns.0.")


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    assert model.state_dict().keys() == other.state_dict().keys()
    for (name, own), value in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(own, value), name


class TestParity:
    @pytest.mark.parametrize(("variant", "case_name"), CASES)
    def test_official_outputs(self, variant: str, case_name: str):
        pack, golden = parity.load_pack("agent_attention", variant)
        (case,) = (one for one in pack["cases"] if one["name"] == case_name)
        images = parity.image(case["shape"], case["seed"])
        kwargs: dict[str, dict[str, Any]] = {
            "features": {},
            "features:dense": {"always_shift": True},
            "features:dense_coco": {"dense": "coco", "output_norms": False},
        }
        with torch.no_grad():
            if case["call"] == "logits":
                outputs = {"logits": classifier(variant)(images)}
            else:
                features = FeatureMaps(model_entrypoint(variant)(**kwargs[case["call"]])).eval()
                load_weights(features, official_weights(variant))
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, golden[f"{case_name}/{name}"])
            assert error <= parity.tolerance(pack), (name, error)

    @pytest.mark.parametrize("variant", PACKS)
    def test_names_and_shapes_are_the_official_ones(self, variant: str):
        pack, _ = parity.load_pack("agent_attention", variant)
        weights = official(classifier(variant))
        assert {name: list(value.shape) for name, value in weights.items()} == pack["state_dict"]
        assert all(torch.equal(value, official_weights(variant)[name]) for name, value in weights.items())

    @torch.no_grad()
    def test_the_shifting_rule_matters_in_the_last_stage_at_224(self):
        pack, golden = parity.load_pack("agent_attention", "agent_swin_tiny")
        images = parity.image((1, 3, 224, 224), 1)
        maps = classifier("agent_swin_tiny").forward_intermediates(images, intermediates_only=True)
        errors = [parity.relative_error(one, golden[f"features_dense_224/stage{i + 1}"]) for i, one in enumerate(maps)]
        assert max(errors[:3]) <= parity.tolerance(pack)
        assert errors[3] > 0.1

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_parameters_and_operations(self, variant: str, monkeypatch: pytest.MonkeyPatch):
        facts = FAMILY[variant]
        model = on_meta(variant)
        window_macs = 0

        def counting(
            query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: Any, *args: Any, **kwargs: Any
        ):
            nonlocal window_macs  # the official count is of whole windows, where those at the border are cut, too
            rows, cols = window if isinstance(window, tuple) else (window, window)
            window_macs += 2 * query.numel() * rows * cols
            return value

        def without_interpolation(attn: AgentAttention, height: int, width: int):
            tokens = height * width + isinstance(attn, ClassTokenAgentAttention)
            shape = (attn.num_heads, attn.num_agents, tokens)
            return torch.empty(shape, device="meta"), torch.empty(shape, device="meta").transpose(1, 2)

        for module in (swin, cswin):
            monkeypatch.setattr(module, "window_attention_2d", counting)
        for module in (AgentAttention, ClassTokenAgentAttention):
            monkeypatch.setattr(module, "make_biases", without_interpolation)
        images = torch.empty(1, 3, facts["input"], facts["input"], device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            model(images)
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
        total = (counter.get_total_flops() / 2 + window_macs) / 1e9
        assert total == pytest.approx(facts["macs_g"], abs=1e-4)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_facts(self, variant: str):
        facts, cfg = FAMILY[variant], get_pretrained_cfg(variant)
        assert cfg.url == facts["pretrained"][0]["url"]
        assert (cfg.top1, cfg.params, cfg.macs) == (facts["paper"]["imagenet1k_top1"], facts["params"], facts["macs_g"])
        assert cfg.input_size == (3, facts["input"], facts["input"])
        assert cfg.license is not None
        assert cfg.license.startswith("none stated")
        assert "was not opened" in (cfg.note or "")
        assert not cfg.verified

    def test_every_model_and_every_published_file_is_there(self):
        assert set(FAMILY) == set(list_models(family="agent"))
        urls = {one["url"] for facts in FAMILY.values() for one in facts["pretrained"]}
        assert urls == {get_pretrained_cfg(name).url for name in list_models(family="agent", pretrained=True)}

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_architecture(self, variant: str):
        facts = FAMILY[variant]
        config, model = facts["config"], on_meta(variant)
        body = variant.split("_")[1]
        eps = {"deit": 1e-6, "pvt": 1e-6, "swin": 1e-5, "cswin": 1e-5}[body]
        for name, module in model.named_modules():
            if isinstance(module, nn.LayerNorm):
                of_patches = body == "pvt" and "blocks" not in name
                assert module.eps == (1e-5 if of_patches else eps), name
        heads = config.get("num_heads") or config["swin"]["NUM_HEADS"]
        depths = config.get("depths") or config.get("swin", {}).get("DEPTHS") or [config["depth"] // 4] * 4
        ratios = config.get("mlp_ratios") or [config["mlp_ratio"]] * 4
        assert model.depths == tuple(depths)
        assert isinstance(model.norm, nn.Identity) == (body == "pvt")
        for index, stage in enumerate(blocks_of(model)):
            for block in stage:
                attn = block.attn
                assert attn.num_heads == (heads if body == "deit" else heads[index])
                assert attn.scale == (model.feature_info[index]["num_chs"] // attn.num_heads) ** -0.5
                assert attn.qkv.bias is not None
                assert type(block.mlp.act) is nn.GELU
                assert block.mlp.act.approximate == "none"
                assert block.mlp.fc1.out_features == int(ratios[index] * block.mlp.fc1.in_features)
                if isinstance(attn, AgentAttention):
                    side = facts["input"] // model.feature_info[index]["reduction"]
                    assert attn.num_agents == config["agent_num"][index]
                    assert attn.agent_shape == attn.trained_shape
                    assert attn.grid_size == (side, side)
        self.check_attention_of_blocks(body, config, model)

    @staticmethod
    def check_attention_of_blocks(body: str, config: dict[str, Any], model: Any) -> None:
        kinds = [[type(block.attn) for block in stage] for stage in blocks_of(model)]
        if body == "deit":
            count = config.get("agent_layer", 12)
            assert [kind for stage in kinds for kind in stage] == [ClassTokenAgentAttention] * count + [
                TokenAttention
            ] * (12 - count)
        elif body == "pvt":
            assert {kind for stage in kinds for kind in stage} == {AgentAttention}
        elif body == "swin":
            for index, (stage, blocks) in enumerate(zip(blocks_of(model), config["blocks"], strict=True)):
                for block, facts in zip(stage, blocks, strict=True):
                    if facts["type"] == "A":
                        assert block.attn.grid_size == (facts["window"], facts["window"])
                    else:
                        assert isinstance(block.attn, ShiftedWindowAttention)
                        assert block.attn.window_size == facts["window"]
                        side = config["img_size"] // model.feature_info[index]["reduction"]
                        assert block.attn.shift_of(side, side) == facts["shift"]
        else:
            by_letter = {"A": AgentAttention, "B": StripeAttention}
            expected = [by_letter[letter] for letter in config["attn_type"]]
            expected[3] = WholeMapAttention
            assert [set(stage) for stage in kinds] == [{kind} for kind in expected]
            assert {block.attn.stripe_size for block in blocks_of(model)[2]} == {config["split_size_of_B"][2]}

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_dense_settings(self, variant: str):
        build, body = model_entrypoint(variant), variant.split("_")[1]
        for data_set in ("coco", "ade20k"):
            with torch.device("meta"):
                if body not in DENSE_AGENTS or variant.endswith(("_256", "_288", "_384")):
                    with pytest.raises(
                        ValueError, match=f"No setting for dense prediction was published for {variant}"
                    ):
                        build(dense=data_set)
                    continue
                model: Any = build(dense=data_set)
                with pytest.raises(ValueError, match=f"no dense setting of {variant} 'cocco'. Did you mean 'coco'"):
                    build(dense="cocco")
            for stage, shape in zip(blocks_of(model), DENSE_AGENTS[body], strict=True):
                for block in stage:
                    if isinstance(block.attn, AgentAttention):
                        assert block.attn.agent_shape == shape
                    else:
                        assert block.attn.always_shift
            features = FeatureMaps(model)
            assert features.norm_names == ([f"norm{index}" for index in range(4)] if body == "swin" else [])
            assert all(features.get_submodule(name).eps == 1e-5 for name in features.norm_names)

    def test_published_agents_for_dense_prediction(self):
        facts = json.loads((parity.ROOT / "agent_attention" / "family.json").read_text())["dense_configs"]
        published = {body: one["downstream_agent_shapes"] for body, one in facts.items()}
        assert published == {body: [list(shape) for shape in shapes] for body, shapes in DENSE_AGENTS.items()}


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


class TestModels:
    @pytest.mark.parametrize("body", BODIES)
    def test_initial_values_are_the_published_ones(self, body: str):
        torch.manual_seed(0)
        wide = {"embed_dims": (64, 64)} if body == "pvt" else {"embed_dim": 64}
        model = tiny(body, num_agents=(49, 49), img_size=224, **wide)
        biases = 0
        for name, parameter in model.named_parameters():
            kind = name.rpartition(".")[2]
            if re.fullmatch(r"[a-z]{2}_bias|pos_embed|cls_token|rpb", kind):
                biases += 1
                assert parameter.std().item() == pytest.approx(0.02, rel=0.3), name
        assert biases
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
                assert module.bias is None or not module.bias.any(), name
            elif isinstance(module, nn.Conv2d):
                bound = module.weight[0].numel() ** -0.5
                assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.05), name

    @pytest.mark.parametrize("body", BODIES)
    def test_drop_path_grows_linearly_over_all_blocks(self, body: str):
        rates = [
            getattr(block.drop_path, "drop_prob", 0.0)
            for stage in blocks_of(tiny(body, drop_path_rate=0.3))
            for block in stage
        ]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])

    @torch.no_grad()
    @pytest.mark.parametrize(("height", "width"), [(32, 48), (37, 50), (32, 32), (71, 33)])
    def test_agent_pvt_follows_its_definition(self, height: int, width: int):
        torch.manual_seed(0)
        model = tiny("pvt").double().eval()
        weights = {name: nn.init.normal_(value, std=0.5) for name, value in official(model).items()}
        load_weights(model, weights)
        images = torch.randn(2, 3, height, width, dtype=torch.float64)
        torch.testing.assert_close(model(images), pvt_by_definition(weights, images, (2, 2), (2, 2), ((8, 12), (4, 6))))

    @torch.no_grad()
    def test_agent_pvt_resizes_each_embedding_from_its_own_grid(self):
        model: Any = model_entrypoint("agent_pvt_tiny")(img_size=64, depths=(1, 1, 1, 1))
        for size in (
            (128, 128),
            (56, 80),
            (64, 96),
        ):  # at 128x128 stage 2 has as many positions as stage 1 was made for
            maps = model.forward_intermediates(torch.zeros(1, 3, *size), intermediates_only=True)
            assert [tuple(one.shape[2:]) for one in maps] == [(size[0] // s, size[1] // s) for s in (4, 8, 16, 32)]
        second = model.stages[1].downsample
        assert torch.equal(second.embedding(8, 8), second.pos_embed.unflatten(1, (8, 8)))
        expected = F.interpolate(second.pos_embed.unflatten(1, (8, 8)).permute(0, 3, 1, 2), (16, 16), mode="bilinear")
        assert torch.equal(second.embedding(16, 16), expected.permute(0, 2, 3, 1))

    @torch.no_grad()
    def test_agent_deit_resizes_the_embedding_of_places(self):
        model = tiny("deit").eval()
        tokens, grid_size = model.stem(torch.zeros(1, 3, 41, 40))
        assert grid_size == (6, 5)
        model.stem.proj.bias.zero_()
        tokens = model.stem(torch.zeros(1, 3, 41, 40))[0]
        maps = model.stem.pos_embed[:, 1:].unflatten(1, (4, 6)).permute(0, 3, 1, 2)
        expected = F.interpolate(maps, (6, 5), mode="bicubic").flatten(2).transpose(1, 2)
        torch.testing.assert_close(tokens[:, 1:], expected)
        assert torch.equal(tokens[:, :1], model.stem.cls_token + model.stem.pos_embed[:, :1])

    @torch.no_grad()
    def test_agent_deit_pools_what_it_is_told(self):
        model = tiny("deit").eval()
        images = torch.randn(2, 3, 32, 48)
        tokens = model.forward_features(images)
        assert tokens.shape == (2, 1 + 4 * 6, 8)
        for global_pool, expected in (
            ("token", tokens[:, 0]),
            ("avg", tokens[:, 1:].mean(1)),
            ("max", tokens[:, 1:].amax(1)),
            ("", tokens),
        ):
            model.reset_classifier(0, global_pool)
            assert torch.equal(model(images), expected), global_pool
        with pytest.raises(ValueError, match=r"no global_pool 'tokens'\. Did you mean 'token'"):
            model.reset_classifier(0, "tokens")

    @torch.no_grad()
    def test_agent_deit_gives_class_tokens_with_the_maps(self):
        model = tiny("deit").eval()
        images = torch.randn(2, 3, 33, 48)
        pairs = model.forward_intermediates(images, intermediates_only=True, return_prefix_tokens=True, norm=True)
        maps = model.forward_intermediates(images, intermediates_only=True, norm=True)
        tokens = model.forward_features(images)
        assert [one.shape for one, _ in pairs] == [(2, 8, 5, 6)] * 2
        assert all(torch.equal(one, other) for (one, _), other in zip(pairs, maps, strict=True))
        assert torch.equal(pairs[-1][1], tokens[:, :1])
        assert torch.equal(pairs[-1][0].flatten(2).transpose(1, 2), tokens[:, 1:])
        with pytest.raises(ValueError, match="no output_fmt 'NLC'"):
            model.forward_intermediates(images, output_fmt="NLC")

    @pytest.mark.parametrize("body", BODIES)
    def test_no_weight_decay(self, body: str):
        model = tiny(body)
        expected = {
            "deit": {"stem.cls_token", "stem.pos_embed"},
            "swin": {f"stages.{place}.attn.rpb" for place in ("0.blocks.1", "1.blocks.0", "1.blocks.1")},
        }.get(body, set())
        assert model.no_weight_decay() == expected

    @torch.no_grad()
    @pytest.mark.parametrize("body", BODIES)
    def test_small_and_odd_images(self, body: str):
        model = tiny(body).eval()
        least = model.min_input_size
        for size in ((least, least), (least, 3 * least + 1), (65, 40)):
            if min(size) < least:
                continue
            maps = FeatureMaps(copy.deepcopy(model))(torch.randn(1, 3, *size))
            for one, stride in zip(maps, [stage["reduction"] for stage in model.feature_info], strict=True):
                fill = 0 if model.cuts_edges else stride - 1
                assert one.shape[2:] == ((size[0] + fill) // stride, (size[1] + fill) // stride)
                assert one.isfinite().all()

    @torch.no_grad()
    @pytest.mark.parametrize("body", BODIES)
    def test_bfloat16_autocast(self, body: str):
        torch.manual_seed(0)
        model = tiny(body).eval()
        images = torch.randn(2, 3, 37, 50)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        torch.testing.assert_close(logits.float(), model(images), atol=0.05, rtol=0.05)

    @torch.no_grad()
    @pytest.mark.parametrize("body", BODIES)
    def test_exported_models_equal_the_eager_one(self, body: str):
        torch.manual_seed(0)
        blocks = {"agent_blocks": (1, 0)} if body in ("deit", "swin", "cswin") else {}
        model = tiny(body, depths=(1, 1), **blocks).eval()
        images = torch.randn(2, 3, 37, 48)
        exported: Any = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(exported(images), model(images))

    @pytest.mark.parametrize(
        ("body", "kwargs", "message"),
        [
            ("deit", {"depths": ()}, "depths needs one number a stage"),
            ("deit", {"num_heads": 3}, "num_heads must divide the channels, but 8 channels have 3 heads"),
            ("deit", {"patch_size": 0}, "patch_size must be an integer of at least 1"),
            ("deit", {"global_pool": ""}, "global_pool='' returns maps"),
            ("deit", {"agent_blocks": (3, 1)}, r"agent_blocks\[0\] = 3 must be at most depths\[0\] = 2"),
            ("pvt", {"num_heads": (1,)}, r"num_heads needs one number a stage, as depths has \(2\), but has 1"),
            ("pvt", {"mlp_ratios": (1,)}, "mlp_ratios needs one number a stage, as depths has, but has 1"),
            ("pvt", {"mlp_ratios": (1, 0)}, "mlp_ratio must leave at least one hidden channel, but is 0"),
            ("pvt", {"img_size": 7}, "img_size must be at least 8 for 2 stages, but is 7"),
            ("pvt", {"img_size": (32, 0)}, "img_size must be a positive integer or a pair"),
            ("swin", {"num_agents": (9, 10)}, None),
            ("swin", {"num_agents": (10, 9)}, "num_agents must be a square number, but is 10"),
            ("swin", {"agent_blocks": (1,)}, "agent_blocks needs one number a stage, but has 1 for 2"),
            ("swin", {"agent_blocks": (-1, 0)}, r"agent_blocks\[0\] must be an integer of at least 0"),
            ("swin", {"agent_shapes": ((3, 3),)}, r"agent_shapes needs one entry a stage \(2\), but has 1"),
            ("swin", {"agent_shapes": ((3, 0), 3)}, r"agent_shapes\[0\] must be a positive integer or a pair"),
            ("swin", {"window_size": 0}, "window_size must be an integer of at least 1"),
            ("swin", {"mlp_ratio": 0.1}, "mlp_ratio must leave at least one hidden channel"),
            ("swin", {"drop_path_rate": 1.0}, "drop_path_rate must be at least 0 and below 1"),
            ("cswin", {"stripe_sizes": (0, 1)}, r"stripe_sizes\[0\] must be an integer of at least 1"),
            ("cswin", {"num_heads": (1, 2)}, "even numbers of heads and channels, but there are 1 and 8"),
            ("cswin", {"embed_dim": 0}, "embed_dim must be an integer of at least 1"),
            ("cswin", {"proj_drop_rate": -0.1}, "proj_drop_rate must be at least 0"),
        ],
    )
    def test_wrong_arguments_are_named(self, body: str, kwargs: dict[str, Any], message: str | None):
        if message is None:  # a stage without agents does not care
            tiny(body, **kwargs)
            return
        with pytest.raises(ValueError, match=message):
            tiny(body, **kwargs)


def pvt_by_definition(
    weights: dict[str, torch.Tensor],
    x: torch.Tensor,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    grids: tuple[tuple[int, int], ...],
) -> torch.Tensor:
    """Agent-PVT from its official weights, as plainly as can be."""
    for stage, (depth, num_heads, grid) in enumerate(zip(depths, heads, grids, strict=True), start=1):
        stem = {
            name.partition(".")[2]: value for name, value in weights.items() if name.startswith(f"patch_embed{stage}.")
        }
        x = F.conv2d(x, stem["proj.weight"], stem["proj.bias"], stride=4 if stage == 1 else 2)
        height, width = x.shape[2:]
        dim = x.shape[1]
        x = F.layer_norm(x.flatten(2).transpose(1, 2), (dim,), stem["norm.weight"], stem["norm.bias"], eps=1e-5)
        embedding = weights[f"pos_embed{stage}"].transpose(1, 2).unflatten(2, grid)
        x = x + F.interpolate(embedding, (height, width), mode="bilinear").flatten(2).transpose(1, 2)
        for index in range(depth):
            start = f"block{stage}.{index}."
            block = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
            y = F.layer_norm(x, (dim,), block["norm1.weight"], block["norm1.bias"], eps=1e-6)
            query = F.linear(y, block["attn.q.weight"], block["attn.q.bias"])
            key, value = F.linear(y, block["attn.kv.weight"], block["attn.kv.bias"]).chunk(2, dim=-1)
            side = int(block["attn.an_bias"].shape[1] ** 0.5)
            maps = query.transpose(1, 2).unflatten(2, (height, width))
            agents = F.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2)
            q, k, v, a = (one.unflatten(2, (num_heads, -1)).transpose(1, 2) for one in (query, key, value, agents))
            lines = block["attn.ah_bias"][0] + block["attn.aw_bias"][0]
            bias = F.interpolate(block["attn.an_bias"], (height, width), mode="bilinear")
            bias = (bias + F.interpolate(lines, (height, width), mode="bilinear")).flatten(2)
            scale = (dim // num_heads) ** -0.5
            gathered = (scale * a @ k.transpose(2, 3) + bias).softmax(-1) @ v
            lines = (block["attn.ha_bias"][0] + block["attn.wa_bias"][0]).permute(0, 3, 1, 2)
            bias = F.interpolate(block["attn.na_bias"], (height, width), mode="bilinear")
            bias = (bias + F.interpolate(lines, (height, width), mode="bilinear")).flatten(2).transpose(1, 2)
            out = ((scale * q @ a.transpose(2, 3) + bias).softmax(-1) @ gathered).transpose(1, 2).flatten(2)
            maps = value.transpose(1, 2).unflatten(2, (height, width))
            maps = F.conv2d(maps, block["attn.dwc.weight"], block["attn.dwc.bias"], padding=1, groups=dim)
            out = out + maps.flatten(2).transpose(1, 2)
            x = x + F.linear(out, block["attn.proj.weight"], block["attn.proj.bias"])
            y = F.layer_norm(x, (dim,), block["norm2.weight"], block["norm2.bias"], eps=1e-6)
            y = F.gelu(F.linear(y, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
            x = x + F.linear(y, block["mlp.fc2.weight"], block["mlp.fc2.bias"])
        x = x.transpose(1, 2).unflatten(2, (height, width))
    return F.linear(x.mean((2, 3)), weights["head.weight"], weights["head.bias"])
