"""The NAT family against the official code's outputs, names and figures."""

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
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.common.head import PooledHead
from attnzoo.backbones.nat import NAT, GlobalAttention, NeighborhoodAttention
from attnzoo.backbones.nat import attention as nat_attention
from attnzoo.backbones.registry import checkpoint_filter
from support import parity
from support.weights import assert_same_weights

PACKS = ("nat_mini", "dinat_mini", "dinat_s_tiny", "dinat_isotropic_small")
CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("nat", name)[0]["cases"]]
FAMILY = {one["variant"]: one for one in json.loads((parity.ROOT / "nat" / "family.json").read_text())["variants"]}
HEADLESS_VARIANTS = {"dinat_large_21k": "dinat_large.in22k", "dinat_s_large_21k": "dinat_s_large.in22k"}


def tiny(**kwargs: Any) -> NAT:
    """A NAT of two stages whose attention pads at small sizes."""
    defaults: dict[str, Any] = {
        "depths": (2, 1),
        "embed_dims": (8, 16),
        "num_heads": (1, 2),
        "kernel_size": 3,
        "dilations": ((1, 3), (2,)),
        "num_classes": 5,
    }
    return NAT(**{**defaults, **kwargs})


def tiny_isotropic(**kwargs: Any) -> NAT:
    body: dict[str, Any] = {"stem": "patch", "stem_stride": 16, "downsample": "none", "dilations": None}
    return tiny(**{**body, "embed_dims": (8, 8), "num_heads": (2, 2), **kwargs})


def blocks_of(model: NAT) -> list[list[Any]]:
    stages: list[Any] = list(model.stages)
    return [list(stage.blocks) for stage in stages]


@functools.cache
def on_meta(variant: str) -> NAT:
    with torch.device("meta"):
        return model_entrypoint(model_name(variant))().eval()


def model_name(variant: str) -> str:
    return HEADLESS_VARIANTS.get(variant, variant)


@functools.cache
def official_weights(variant: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("nat", variant)[0])


@functools.cache
def classifier(variant: str) -> nn.Module:
    model = model_entrypoint(variant)().eval()
    load_weights(model, official_weights(variant))
    return model


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


class TestParity:
    @pytest.mark.parametrize(("variant", "case_name"), CASES)
    def test_official_outputs(self, variant: str, case_name: str):
        pack, golden = parity.load_pack("nat", variant)
        (case,) = (one for one in pack["cases"] if one["name"] == case_name)
        call, _, data_set = case["call"].partition(":")
        images = parity.image(case["shape"], case["seed"])
        with torch.no_grad():
            if call == "logits":
                outputs = {"logits": classifier(variant)(images)}
            else:
                kwargs = {"dense": data_set, "output_norms": False} if data_set else {}
                features = FeatureMaps(model_entrypoint(variant)(**kwargs)).eval()
                load_weights(features, official_weights(variant))
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, golden[f"{case_name}/{name}"])
            assert error <= parity.tolerance(pack), (name, error)

    @pytest.mark.parametrize("variant", PACKS)
    def test_names_and_shapes_are_the_official_ones(self, variant: str):
        model = classifier(variant)
        assert isinstance(model, NAT)
        names = official_names(model, "levels" if model.is_isotropic or hasattr(model.stem, "convs") else "layers")
        shapes = {names[name]: list(value.shape) for name, value in model.state_dict().items()}
        assert shapes == parity.load_pack("nat", variant)[0]["state_dict"]

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_parameters_and_operations(self, variant: str, monkeypatch: pytest.MonkeyPatch):
        facts = FAMILY[variant]
        attention_macs = 0

        def counting(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kernel_size: Any, **kwargs: Any):
            nonlocal attention_macs
            rows, cols = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
            attention_macs += 2 * query.numel() * rows * cols
            return value

        monkeypatch.setattr(nat_attention, "neighborhood_attention_2d", counting)
        model = on_meta(variant)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, facts["input"], facts["input"], device="meta"))
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
        total = (counter.get_total_flops() / 2 + attention_macs) / 1e9
        assert total == pytest.approx(facts["macs_g"], abs=1e-4)

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_facts(self, variant: str):
        facts = FAMILY[variant]
        cfg = get_pretrained_cfg(model_name(variant))
        assert cfg.url == facts["pretrained"][0]["url"]
        assert (cfg.top1, cfg.params, cfg.macs) == (facts["paper"]["imagenet1k_top1"], facts["params"], facts["macs_g"])
        assert cfg.input_size == (3, facts["input"], facts["input"])
        assert cfg.num_classes == (facts["pretrained"][0]["num_classes"] or 21841)
        assert cfg.license == "mit"
        assert not cfg.verified
        hub = [one["hub"] for one in facts["pretrained"] if "hub" in one]
        assert hub in ([], [cfg.hf_hub_id])

    def test_every_model_and_every_published_file_is_there(self):
        names = {model_name(variant).partition(".")[0] for variant in FAMILY}
        assert names == set(list_models(family="nat"))
        urls = {one["url"] for facts in FAMILY.values() for one in facts["pretrained"] if "url" in one}
        assert urls == {get_pretrained_cfg(name).url for name in list_models(family="nat", pretrained=True)}

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_architecture(self, variant: str):
        config = FAMILY[variant]["config"]
        model = on_meta(variant)
        blocks = [block for stage in blocks_of(model) for block in stage]
        for norm in (module for module in model.modules() if isinstance(module, nn.LayerNorm)):
            assert norm.eps == 1e-5
        for block in blocks:
            assert block.attn.scale == 32**-0.5
            assert type(block.mlp.act) is nn.GELU
            assert block.mlp.act.approximate == "none"
            assert block.mlp.fc1.out_features == int(block.mlp.fc1.in_features * config["mlp_ratio"])
            assert hasattr(block.ls1, "gamma") == bool(config.get("layer_scale"))
        if config["class"] == "NATIsotropic":
            expected = [1, config["dilation"]] * (len(blocks) // 2)
            assert len(blocks) == config["depth"]
        else:
            dilations = config["dilations"] or [[1] * depth for depth in config["depths"]]
            expected = [value for stage in dilations for value in stage]
            assert model.depths == tuple(config["depths"])
        if config["kernel_size"] is None:
            assert all(block.attn.table_size == 14 for block in blocks)
        else:
            assert [block.attn.dilation for block in blocks] == expected
            assert {block.attn.kernel_size for block in blocks} == {config["kernel_size"]}

    @pytest.mark.parametrize("data_set", ["coco", "ade20k"])
    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_dense_dilations(self, variant: str, data_set: str):
        facts = FAMILY[variant]
        build = model_entrypoint(model_name(variant))
        with torch.device("meta"):
            if not facts["dense_dilations"] and facts["config"]["class"] != "NAT":
                with pytest.raises(ValueError, match="No setting for dense prediction was published"):
                    build(dense=data_set)
                return
            model = build(dense=data_set)
        published = [
            setting["dilations"]
            for name, setting in (facts["dense_dilations"] or {}).items()
            if name.endswith(data_set)
        ] or [[[1] * depth for depth in model.depths]]
        own = [[block.attn.dilation for block in stage] for stage in blocks_of(model)]
        assert all(own == one for one in published)
        features = FeatureMaps(model)
        assert [features.get_submodule(f"norm{index}").eps for index in range(4)] == [1e-5] * 4


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


class TestAttention:
    @pytest.mark.parametrize(("height", "width", "dilation"), [(2, 9, 1), (5, 4, 2), (6, 7, 2), (3, 3, 3)])
    def test_padded_positions_are_neighbors_with_the_bias_of_qkv(self, height: int, width: int, dilation: int):
        torch.manual_seed(0)
        attn = NeighborhoodAttention(8, 2, kernel_size=3, dilation=dilation).double()
        nn.init.normal_(attn.qkv.bias)
        assert attn.rpb is not None
        nn.init.normal_(attn.rpb)
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        rows, cols = max(height, 3 * dilation), max(width, 3 * dilation)
        padded = torch.zeros(2, rows, cols, 8, dtype=torch.float64)
        padded[:, :height, :width] = x
        query, key, value = (
            part.reshape(2, rows * cols, 2, 4).transpose(1, 2) for part in attn.qkv(padded).chunk(3, dim=-1)
        )
        bias = torch.full((2, rows, cols, rows, cols), -torch.inf, dtype=torch.float64)
        for y in range(rows):
            for x_at in range(cols):
                for ky in window(y, rows, 3, dilation):
                    for kx in window(x_at, cols, 3, dilation):
                        dy, dx = (ky - y) // dilation, (kx - x_at) // dilation
                        bias[:, y, x_at, ky, kx] = attn.rpb[:, dy + 2, dx + 2]
        bias = bias.reshape(1, 2, rows * cols, rows * cols)
        out = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).reshape(2, rows, cols, 8)
        torch.testing.assert_close(attn(x), attn.proj(out)[:, :height, :width])

    @pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 3), (4, 7), (6, 5)])
    def test_global_attention(self, height: int, width: int):
        torch.manual_seed(0)
        attn = GlobalAttention(8, 2, table_size=4).double()
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        rows, cols = max(height, 4), max(width, 4)
        table = attn.rpb[None].detach()
        if (rows, cols) != (4, 4):
            table = F.interpolate(table, size=(2 * rows - 1, 2 * cols - 1), mode="bicubic", align_corners=False)
        positions = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1).flatten(
            0, 1
        )
        offset = positions[None, :] - positions[:, None]  # key minus query
        bias = table[:, :, offset[..., 0] + rows - 1, offset[..., 1] + cols - 1]
        query, key, value = (
            part.reshape(2, height * width, 2, 4).transpose(1, 2) for part in attn.qkv(x).chunk(3, dim=-1)
        )
        out = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).reshape(2, height, width, 8)
        torch.testing.assert_close(attn(x), attn.proj(out), rtol=1e-6, atol=1e-6)  # the table is stretched in float32
        attn(x).sum().backward()
        assert attn.rpb.grad is not None
        assert attn.rpb.grad.abs().sum() > 0

    def test_without_biases(self):
        attn = NeighborhoodAttention(8, 2, kernel_size=3, qkv_bias=False, rel_pos_bias=False)
        assert attn.qkv.bias is None
        assert {name for name, _ in attn.named_parameters()} == {"qkv.weight", "proj.weight", "proj.bias"}
        assert attn(torch.randn(1, 4, 5, 8)).shape == (1, 4, 5, 8)


def window(position: int, length: int, kernel_size: int, dilation: int) -> list[int]:
    """The keys of a query along one axis, as the papers define them: the nearest ones of its dilation group."""
    group = list(range(position % dilation, length, dilation))
    place = position // dilation
    start = min(max(place - kernel_size // 2, 0), len(group) - kernel_size)
    return group[start : start + kernel_size]


class TestModel:
    @pytest.mark.parametrize("body", [{}, {"downsample": "merge"}, {"attention": "global"}])
    def test_initial_values_are_the_published_ones(self, body: dict[str, Any]):
        torch.manual_seed(0)
        model = NAT(depths=(1, 1), embed_dims=(64, 128), num_heads=(2, 4), layer_scale=1e-5, drop_path_rate=0.1, **body)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
                assert module.bias is None or not module.bias.any(), name
            elif isinstance(module, nn.LayerNorm):
                assert torch.equal(module.weight, torch.ones_like(module.weight))
                assert not module.bias.any()
            elif isinstance(module, NeighborhoodAttention | GlobalAttention):
                assert module.rpb is not None
                assert module.rpb.std().item() == pytest.approx(0.02, rel=0.2), name
        assert torch.equal(model.get_parameter("stages.0.blocks.0.ls1.gamma"), torch.full((64,), 1e-5))
        bound = model.get_parameter("stem.convs.1.weight").abs().max().item()
        assert bound == pytest.approx((32 * 9) ** -0.5, rel=0.05)  # PyTorch's uniform distribution

    def test_drop_path_grows_linearly_over_all_blocks(self):
        model = tiny(depths=(2, 3), dilations=None, drop_path_rate=0.4)
        rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in blocks_of(model) for block in stage]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])

    @pytest.mark.parametrize(
        ("dilations", "expected"),
        [
            (None, [[1, 1], [1]]),
            (2, [[2, 2], [2]]),
            ((2, 1), [[2, 2], [1]]),
            ([[1, 2], [3]], [[1, 2], [3]]),
            (([1, 2], 3), [[1, 2], [3]]),
        ],
    )
    def test_dilations(self, dilations: Any, expected: list[list[int]]):
        model = tiny(dilations=dilations)
        assert [[block.attn.dilation for block in stage] for stage in blocks_of(model)] == expected

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            (
                {"depths": (2,)},
                "depths, embed_dims and num_heads must have one entry per stage, got 1, 2 and 2",
            ),
            ({"depths": (2, 0)}, r"depths\[1\] must be an integer >= 1, got 0"),
            ({"depths": (2, 1.0)}, r"depths\[1\] must be an integer"),
            ({"num_heads": (1, 3)}, r"num_heads\[1\] must divide embed_dims\[1\], got 3 heads and 16 channels"),
            ({"embed_dims": (1, 16)}, r"embed_dims\[0\] must be an integer >= 2"),
            ({"kernel_size": 1}, "kernel_size must be an integer >= 2, got 1"),
            ({"dilations": (1,)}, "dilations must have one entry per stage, got 1 for 2 stages"),
            ({"dilations": ((1,), 1)}, r"dilations\[0\] has 1 entries, but depths\[0\] is 2"),
            ({"dilations": ((1, 0), 1)}, r"dilations\[0\]\[1\] must be an integer >= 1, got 0"),
            ({"mlp_ratio": 0}, "mlp_ratio must leave at least one hidden channel, got 0"),
            ({"stem": "convs"}, "no stem 'convs'. Did you mean 'conv'"),
            ({"stem_stride": 3}, "stem_stride of a convolutional stem must be 1, 2 or 4, but is 3"),
            ({"stem": "patch", "stem_stride": 0}, "stem_stride must be an integer >= 1"),
            ({"downsample": "pool"}, "no downsample 'pool'"),
            ({"downsample": "none"}, "embed_dims must be equal where downsample is 'none'"),
            ({"attention": "local"}, "no attention 'local'"),
            ({"attention": "global", "table_size": 1}, "table_size must be an integer >= 2"),
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

    def test_attention_modules_check_their_own_arguments(self):
        for module in (NeighborhoodAttention, GlobalAttention):
            with pytest.raises(ValueError, match="num_heads must divide dim, got dim=10 and num_heads=4"):
                module(10, 4)

    @pytest.mark.parametrize("stem_stride", [1, 2, 4])
    def test_stem_stride(self, stem_stride: int):
        features = FeatureMaps(tiny(stem_stride=stem_stride))
        strides = [stem_stride, 2 * stem_stride]
        assert features.feature_info.reduction() == strides
        for stride, one in zip(strides, features(torch.randn(1, 3, 19, 26)), strict=True):
            assert one.shape[2:] == (-(-19 // stride), -(-26 // stride))

    def test_images_below_the_minimum_are_refused(self):
        for model, least in ((tiny(), 8), (tiny_isotropic(), 16), (tiny_isotropic(attention="global"), 32)):
            assert model.min_input_size == least
            assert model(torch.randn(1, 3, least, least + 3)).shape == (1, 5)
            with pytest.raises(ValueError, match=f"at least {least} pixels high and wide.*got height {least - 1}"):
                model(torch.randn(1, 3, least - 1, 64))
            with pytest.raises(ValueError, match=f"at least {least} pixels"):
                FeatureMaps(model)(torch.randn(1, 3, 64, least - 1))

    def test_pruned_features_equal_the_full_ones(self):
        torch.manual_seed(0)
        model = tiny(output_norms=True).eval()
        full = FeatureMaps(copy.deepcopy(model))
        first = FeatureMaps(copy.deepcopy(model), out_indices=(0,))
        assert not any("stages.1" in name for name in first.state_dict())
        images = torch.randn(1, 3, 32, 32)
        assert torch.equal(first(images)[0], full(images)[0])
        assert first.out_indices == [0]
        assert FeatureMaps(copy.deepcopy(model), out_indices=1).out_indices == [1]
        assert FeatureMaps(copy.deepcopy(model), out_indices=(-1, 0)).out_indices == [0, 1]
        for wrong in ((2,), (0, 0), (), 3, 0, (0, -2)):
            with pytest.raises(ValueError, match="stage"):
                FeatureMaps(copy.deepcopy(model), out_indices=wrong)

    def test_intermediates_with_norm(self):
        images = torch.randn(1, 3, 32, 32)
        for model, normed in ((tiny(), {1}), (tiny_isotropic(), {0, 1})):
            plain = model.forward_intermediates(images, intermediates_only=True, output_fmt="NHWC")
            maps = model.forward_intermediates(images, intermediates_only=True, output_fmt="NHWC", norm=True)
            for index, (bare, one) in enumerate(zip(plain, maps, strict=True)):
                torch.testing.assert_close(one, model.norm(bare) if index in normed else bare)
        with pytest.raises(ValueError, match="no output_fmt 'NLC'"):
            tiny().forward_intermediates(images, output_fmt="NLC")

    def test_bfloat16_autocast(self):
        model = tiny().eval()
        images = torch.randn(2, 3, 32, 32)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        torch.testing.assert_close(logits.float(), model(images), atol=0.05, rtol=0.05)

    def test_compiled_model_equals_the_eager_one(self):
        model = tiny().train()
        compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
        images = torch.randn(2, 3, 32, 40)
        for one in (model, compiled):
            one(images).square().sum().backward()
        for parameter, other in zip(model.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad)

    def test_heads(self):
        x = torch.randn(2, 4, 3, 5)
        assert torch.equal(PooledHead(4, 0)(x), x.mean(dim=(2, 3)))
        assert torch.equal(PooledHead(4, 0, "max")(x), x.amax(dim=(2, 3)))
        assert torch.equal(PooledHead(4, 0, "")(x), x)
        head = PooledHead(4, 3).double()
        head.reset(7)
        assert isinstance(head.fc, nn.Linear)
        assert head.fc.weight.dtype == torch.float64
        assert head.fc.out_features == 7
