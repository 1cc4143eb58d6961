"""The ECA family against the official code's outputs, timm's models, names and figures."""

from __future__ import annotations

import functools
import json
import math
from typing import Any, cast

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg as timm_cfg  # pyright: ignore[reportPrivateImportUsage]  # it is public
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.common.conv import ConvNormAct
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.eca import ECAMobileNetV2, ECAResNet, EfficientChannelAttentionMixer
from attnzoo.backbones.registry import checkpoint_filter
from support import parity

PACKS = ("eca_resnet18", "eca_mobilenet_v2", "ecaresnet26t")
CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("ecanet", name)[0]["cases"]]
_FACTS = json.loads((parity.ROOT / "ecanet" / "family.json").read_text())
OFFICIAL = {one["variant"]: one for one in _FACTS["variants"]}
OF_TIMM = {one["variant"]: one for one in _FACTS["timm_variants"]}
FAMILY = {**OFFICIAL, **OF_TIMM}


@functools.cache
def on_meta(name: str) -> Any:
    with torch.device("meta"):
        return model_entrypoint(name)().eval()


@functools.cache
def official_weights(name: str) -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(parity.load_pack("ecanet", name)[0])


@functools.cache
def classifier(name: str) -> nn.Module:
    model = model_entrypoint(name)().eval()
    load_weights(model, official_weights(name))
    return model


def gates(model: nn.Module) -> list[list[int]]:
    """Kernel sizes of the blocks of each stage."""
    return [[block.attn.conv.kernel_size[0] for block in stage.blocks] for stage in cast(Any, model).stages]


def macs(model: nn.Module, size: int) -> float:
    """Multiply-accumulates of one image, in billions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2e9


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def shaken(model: nn.Module) -> nn.Module:
    """Gives batch norms something to do, gently, so that deep bodies do not grow without bound."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    assert tensor is not None
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
                if name.endswith("bn3"):
                    module.weight.mul_(0.3)
                for tensor in (module.bias, module.running_mean):
                    assert tensor is not None
                    tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model.eval()


class TestParity:
    @pytest.mark.parametrize(("variant", "case_name"), CASES)
    def test_published_outputs(self, variant: str, case_name: str):
        pack, golden = parity.load_pack("ecanet", variant)
        (case,) = (one for one in pack["cases"] if one["name"] == case_name)
        images = parity.image(case["shape"], case["seed"])
        with torch.no_grad():
            if case["call"] == "logits":
                outputs = {"logits": classifier(variant)(images)}
            else:
                features = FeatureMaps(model_entrypoint(variant)(), out_indices=4).eval()
                load_weights(features, official_weights(variant))
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, golden[f"{case_name}/{name}"])
            assert error <= parity.tolerance(pack), (name, error)

    @pytest.mark.parametrize("variant", PACKS)
    def test_inference_equals_the_plain_operations(self, variant: str):
        images = torch.randn(2, 3, 50, 37)
        model = classifier(variant)
        with torch.no_grad():
            fast = model(images)
        torch.testing.assert_close(fast, model(images).detach(), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", list(FAMILY))
    def test_parameters_and_operations(self, name: str):
        facts, model, cfg = FAMILY[name], on_meta(name), get_pretrained_cfg(name)
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"] == cfg.params
        assert macs(model, 224) == pytest.approx(facts["macs_g_224"], abs=5.1e-5)

    @pytest.mark.parametrize("name", list_models(family="eca", pretrained=True))
    def test_operations_at_the_size_of_the_checkpoint(self, name: str):
        cfg = get_pretrained_cfg(name)
        assert macs(on_meta(name.partition(".")[0]), cfg.input_size[1]) == pytest.approx(cfg.macs, abs=5.1e-5)

    def test_every_model_is_there(self):
        assert set(FAMILY) == set(list_models(family="eca"))
        assert set(OF_TIMM) == set(timm.list_models("ecaresne*"))

    @pytest.mark.parametrize("name", list(OFFICIAL))
    def test_published_facts(self, name: str):
        facts, cfg = OFFICIAL[name], get_pretrained_cfg(name)
        (file,) = facts["pretrained"]
        assert (cfg.url, cfg.top1, cfg.license) == (file["google_drive"], file["top1"], "mit")
        assert (cfg.tag, cfg.verified) == ("in1k", False)

    @pytest.mark.parametrize(
        ("name", "file"), [(name, file) for name, facts in OF_TIMM.items() for file in facts["pretrained"]]
    )
    def test_published_facts_of_timm(self, name: str, file: dict[str, Any]):
        cfg = get_pretrained_cfg(file["name"])
        if "hub" in file:
            assert (cfg.url, cfg.hf_hub_id, cfg.license) == (file["url"], file["hub"], file["license"])
            assert (list(cfg.input_size), cfg.crop_pct) == (file["input_size"], file["crop_pct"])
            assert (list(cfg.test_input_size or ()), cfg.test_crop_pct, cfg.top1) == (
                file["test_input_size"],
                file["results"][0]["crop_pct"],
                file["results"][0]["top1"],
            )
            assert file["results"][0]["input"] == file["test_input_size"][1]
            assert not cfg.verified
        else:
            assert not cfg.has_weights
        theirs = timm_cfg(file["name"])
        assert theirs is not None
        for key in ("input_size", "test_input_size", "crop_pct", "test_crop_pct", "interpolation", "mean", "std"):
            if key != "test_crop_pct" or cfg.test_input_size:
                assert getattr(cfg, key) == getattr(theirs, key), key
        assert cfg.pool_size == theirs.pool_size

    @pytest.mark.parametrize("name", list(FAMILY))
    def test_published_kernel_sizes(self, name: str):
        config, found = FAMILY[name]["config"], gates(on_meta(name))
        if name in OF_TIMM:
            published = list(config["eca_kernel_by_stage"].values())
            assert [sorted(set(stage)) for stage in found] == published
            assert [len(stage) for stage in found] == config["layers"]
        elif name == "eca_mobilenet_v2":
            assert found == [[1] * 3, [1] * 3, [1] * 4 + [3] * 3, [3] * 4]
        else:
            assert found == [[k] * d for k, d in zip(config["k_size"], config["depths"], strict=True)]

    @pytest.mark.parametrize("name", list(FAMILY))
    def test_published_layers(self, name: str):
        model = on_meta(name)
        norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
        acts = {type(one) for one in model.modules() if isinstance(one, (nn.ReLU, nn.ReLU6))}
        assert acts == {nn.ReLU6 if name == "eca_mobilenet_v2" else nn.ReLU}
        assert all(conv.bias is None for conv in model.modules() if isinstance(conv, (nn.Conv1d, nn.Conv2d)))
        reductions = [stage["reduction"] for stage in model.feature_info]
        assert reductions == ([4, 8, 16, 32] if name == "eca_mobilenet_v2" else [2, 4, 8, 16, 32])

    def test_the_formula_is_an_option(self):
        assert gates(ECAResNet((1,) * 4, k_size=None)) == [[5], [5], [5], [7]]
        assert gates(ECAResNet((1,) * 4, block="basic")) == [[3], [5], [5], [5]]
        assert gates(ECAResNet((1, 2), (64, 128), block="basic", k_size=9)) == [[9], [9, 9]]
        assert gates(ECAMobileNetV2(k_size=None, width_mult=0.25))[0] == [3, 3, 3]


class TestAgainstTimm:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[] if name in ("ecaresnet26t", "ecaresnet50d_pruned") else pytest.mark.slow)
            for name in OF_TIMM
        ],
    )
    def test_equal_outputs_at_equal_weights(self, name: str):
        torch.manual_seed(0)
        theirs = shaken(timm.create_model(name, num_classes=10))
        own = model_entrypoint(name)(num_classes=10).eval()
        load_weights(own, theirs.state_dict())
        images = torch.randn(1, 3, 65, 96)
        with torch.no_grad():
            for found, expected in zip(
                [own(images), *own.forward_intermediates(images, intermediates_only=True)],
                [theirs(images), *cast(Any, theirs).forward_intermediates(images, intermediates_only=True)],
                strict=True,
            ):
                assert found.shape == expected.shape
                assert relative_error(found, expected) < 1e-5

    @pytest.mark.parametrize("name", ["ecaresnet26t", "ecaresnet50d_pruned"])
    def test_gradients(self, name: str):
        torch.manual_seed(0)
        theirs = shaken(timm.create_model(name, num_classes=10)).double()
        own = model_entrypoint(name)(num_classes=10).double()
        load_weights(own, theirs.state_dict())
        images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
        for model in (own, theirs):
            model.train()(images).square().sum().backward()
        expected = checkpoint_filter(own)({key: one.grad for key, one in theirs.named_parameters()})
        found = {key: one.grad for key, one in own.named_parameters()}
        assert found.keys() == expected.keys()
        for key, gradient in found.items():
            assert gradient is not None
            torch.testing.assert_close(gradient, expected[key], msg=key)
        buffers = checkpoint_filter(own)(theirs.state_dict())
        for key, buffer in own.named_buffers():
            torch.testing.assert_close(buffer, buffers[key], msg=key)


class TestCheckpoints:
    @pytest.mark.parametrize("variant", PACKS)
    def test_names_and_shapes(self, variant: str):
        shapes = parity.load_pack("ecanet", variant)[0]["state_dict"]
        model = on_meta(variant)
        renamed = checkpoint_filter(model)({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
        assert {name: value.shape for name, value in renamed.items()} == {
            name: value.shape for name, value in model.state_dict().items()
        }

    @pytest.mark.parametrize("variant", ["eca_resnet18", "eca_mobilenet_v2"])
    def test_the_authors_files_are_of_training_runs(self, variant: str):
        weights = {f"module.{name}": value for name, value in official_weights(variant).items()}
        model = model_entrypoint(variant)().eval()
        load_weights(model, {"epoch": 100, "arch": variant, "state_dict": weights, "best_prec1": 70.0, "optimizer": {}})
        for name, value in model.state_dict().items():
            assert torch.equal(value, classifier(variant).state_dict()[name]), name

    @pytest.mark.parametrize("variant", PACKS)
    def test_own_names_pass_unchanged(self, variant: str):
        for model in (on_meta(variant), FeatureMaps(model_entrypoint(variant)(), out_indices=(1, 2))):
            own = model.state_dict()
            assert checkpoint_filter(model)(own).keys() == own.keys()
            assert (
                checkpoint_filter(model)({f"module.{name}": value for name, value in own.items()}).keys() == own.keys()
            )

    def test_the_wrong_kernel_sizes_do_not_load(self):
        model = model_entrypoint("eca_resnet18")(k_size=(3, 3, 3, 3))
        with pytest.raises(ValueError, match=r"stages\.1\.blocks\.0\.attn\.conv\.weight"):
            load_weights(model, official_weights("eca_resnet18"))

    def test_names_of_no_known_form_are_reported(self):
        model = model_entrypoint("eca_resnet18")()
        with pytest.raises(ValueError, match="layer9"):
            load_weights(model, {**official_weights("eca_resnet18"), "layer9.weight": torch.zeros(1)})


class TestModels:
    def test_initial_values_of_residual_networks(self):
        torch.manual_seed(0)
        model = model_entrypoint("eca_resnet18")()
        for conv in (one for one in model.modules() if isinstance(one, nn.Conv2d) and one.weight.numel() > 20000):
            expected = math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels))
            assert conv.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert model.head.fc.weight.std().item() == pytest.approx(512**-0.5 / math.sqrt(3), rel=0.03)
        assert all(bool(block.last_norm.weight.all()) for stage in model.stages for block in stage.blocks)
        model.reset_classifier(300)
        assert model.head.fc.weight.std().item() == pytest.approx(512**-0.5 / math.sqrt(3), rel=0.03)

    def test_timms_blocks_begin_as_their_shortcuts(self):
        model = model_entrypoint("ecaresnet26t")()
        assert not any(bool(block.last_norm.weight.any()) for stage in model.stages for block in stage.blocks)
        assert bool(model.stages[0].blocks[0].conv2.bn.weight.all())

    def test_initial_values_of_mobilenet(self):
        torch.manual_seed(0)
        model = model_entrypoint("eca_mobilenet_v2")()
        assert model.norm.conv.weight.std().item() == pytest.approx(math.sqrt(2 / 1280), rel=0.03)
        assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert not model.head.fc.bias.any()
        model.reset_classifier(300)
        assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.03)

    def test_maps_of_mobilenet_end_before_the_last_convolution(self):
        model = model_entrypoint("eca_mobilenet_v2")(num_classes=3).eval()
        images = torch.randn(1, 3, 65, 40)
        last, maps = model.forward_intermediates(images)
        assert [one.shape[1] for one in maps] == [24, 32, 96, 320]
        assert last.shape == (1, 1280, 3, 2)
        torch.testing.assert_close(model.norm(maps[-1]), last)
        assert not any(name.startswith("body.norm") for name in FeatureMaps(model).state_dict())

    def test_width_of_mobilenet_is_rounded_down(self):
        model = ECAMobileNetV2(width_mult=0.35)
        assert [stage["num_chs"] for stage in model.feature_info] == [8, 11, 33, 112]
        assert model.num_features == 1280
        assert gates(model) == [[1] * 3, [1] * 3, [1] * 4 + [3] * 3, [3] * 4]
        assert ECAMobileNetV2(width_mult=1.5).num_features == 1920

    @pytest.mark.parametrize("block", ["basic", "bottleneck"])
    @pytest.mark.parametrize("pooled_shortcut", [False, True])
    def test_maps_at_odd_sizes(self, block: Any, pooled_shortcut: bool):
        model = ECAResNet((1, 1, 1), (4, 8, 8), block, stem="deep", pooled_shortcut=pooled_shortcut).eval()
        maps = model.forward_intermediates(torch.randn(1, 3, 37, 50), intermediates_only=True)
        assert [tuple(one.shape[2:]) for one in maps] == [(19, 25), (10, 13), (5, 7), (3, 4)]
        assert [one.shape[1] for one in maps] == [stage["num_chs"] for stage in model.feature_info]

    def test_stochastic_depth_leaves_shortcuts_alone(self):
        model = ECAResNet((2,), (8,), "basic", drop_path_rate=0.999).train()
        block = cast(Any, model.stages)[0].blocks[1]
        x = torch.randn(2, 8, 5, 5)
        assert torch.equal(block(x), x.relu())
        mobile = ECAMobileNetV2(width_mult=0.25, drop_path_rate=0.999).train()
        block = cast(Any, mobile.stages)[3].blocks[1]
        x = torch.randn(2, 40, 5, 5)
        assert torch.equal(block(x), x)

    def test_maps_that_are_kept_are_not_written_over(self):
        model = shaken(model_entrypoint("eca_resnet18")())
        images = torch.randn(1, 3, 64, 64)
        given = images.clone()
        with torch.no_grad():
            _, maps = cast(Any, model).forward_intermediates(images)
        expected = cast(Any, model).forward_intermediates(images, intermediates_only=True)
        for found, one in zip(maps, expected, strict=True):
            torch.testing.assert_close(found, one.detach(), rtol=1e-4, atol=1e-4)
        assert torch.equal(images, given)

    def test_exports_with_any_batch(self):
        model = ECAResNet((1, 1), (8, 8), "basic", num_classes=3).eval()
        with torch.no_grad():
            exported = torch.export.export(
                model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
            )
            images = torch.randn(5, 3, 32, 32)
            torch.testing.assert_close(exported.module()(images), model(images))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"block": "bottlneck"}, "Did you mean 'bottleneck'"),
            ({"stem": "deeep"}, "Did you mean 'deep'"),
            ({"depths": (1, 2)}, "got 2 and 4 entries"),
            ({"depths": ()}, "one entry per stage"),
            ({"depths": (1, 0, 1, 1)}, r"depths\[1\] must be"),
            ({"planes": (1, 0.5, 1, 1)}, r"planes\[1\] must be"),
            ({"k_size": (3, 5, 7)}, "k_size must have one entry per stage, got 3 for 4 stages"),
            ({"k_size": 4}, "kernel_size must be odd"),
            ({"groups": 0}, "groups must be"),
            ({"block": "basic", "groups": 2}, "have no groups"),
            ({"depths": (1,), "planes": (64,), "widths": (((1, 2),),)}, r"widths\[0\] must have 3 numbers per block"),
            ({"depths": (2,), "planes": (64,), "widths": (((1, 2, 3),),)}, "one entry per block"),
            ({"depths": (2,), "planes": (64,), "widths": (((1, 2, 3), (1, 2, 4)),)}, "the last one equal in all"),
            ({"depths": (1,), "planes": (64,), "widths": (((1, 0, 3),),)}, r"widths\[0\]\[0\] must be"),
        ],
    )
    def test_invalid_arguments_raise(self, arguments: dict[str, Any], message: str):
        with torch.device("meta"), pytest.raises(ValueError, match=message):
            ECAResNet(**arguments)

    def test_invalid_mobilenet_arguments_raise(self):
        with pytest.raises(ValueError, match=r"width_mult must be >= 1/16, got 0\.01"):
            ECAMobileNetV2(width_mult=0.01)
        with pytest.raises(ValueError, match="k_size must have one entry per row, got 2 for 7 rows"):
            ECAMobileNetV2(k_size=(1, 3))


class TestMixer:
    @pytest.mark.parametrize("mixing", ["conv", "pool"])
    def test_any_map_keeps_its_shape(self, mixing: Any):
        mixer = EfficientChannelAttentionMixer(12, 3, mixing=mixing)
        for shape in ((2, 5, 7, 12), (1, 1, 1, 12), (2, 8, 2, 12)):
            x = torch.randn(shape)
            kept = x.clone()
            with torch.no_grad():
                fast = mixer(x)
            assert fast.shape == shape
            assert fast.is_contiguous()
            assert torch.equal(x, kept)
            torch.testing.assert_close(fast, mixer(x))

    def test_convolution_and_gate(self):
        mixer = EfficientChannelAttentionMixer(6, window_size=5, kernel_size=3).double()
        assert mixer.conv is not None
        assert mixer.conv.weight.std().item() == pytest.approx(0.02, rel=0.3)
        nn.init.normal_(mixer.conv.weight)
        x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
        mixed = mixer.conv(x.permute(0, 3, 1, 2))
        means = nn.functional.pad(mixed.mean((2, 3)), (1, 1))
        gate = sum(mixer.attn.conv.weight[0, 0, i] * means[:, i : i + 6] for i in range(3))
        expected = mixed * torch.as_tensor(gate).sigmoid()[..., None, None]
        torch.testing.assert_close(mixer(x), expected.permute(0, 2, 3, 1))

    def test_pooling_leaves_out_what_lies_outside(self):
        mixer = EfficientChannelAttentionMixer(4, mixing="pool").double()
        nn.init.zeros_(mixer.attn.conv.weight)
        x = torch.randn(1, 3, 3, 4, dtype=torch.float64)
        out = 2 * mixer(x)
        torch.testing.assert_close(out[0, 0, 0], x[0, :2, :2].mean((0, 1)) - x[0, 0, 0])
        torch.testing.assert_close(out[0, 1, 1], x[0].mean((0, 1)) - x[0, 1, 1])
        assert not mixer(torch.ones(1, 4, 5, 4, dtype=torch.float64)).any()

    def test_gradients(self):
        mixer = EfficientChannelAttentionMixer(4).double()
        x = torch.randn(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(mixer, (x,))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mixing": "cnov"}, "Did you mean 'conv'"),
            ({"window_size": 4}, "window_size must be odd"),
            ({"num_heads": 0}, "num_heads must be"),
            ({"kernel_size": 2}, "kernel_size must be odd"),
        ],
    )
    def test_invalid_arguments_raise(self, arguments: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            EfficientChannelAttentionMixer(8, **arguments)


def test_every_convolution_before_a_norm_is_of_the_shared_kind():
    for name in PACKS:
        kinds = [one for one in on_meta(name).modules() if isinstance(one, ConvNormAct)]
        assert 2 * len(kinds) == sum(isinstance(one, (nn.Conv2d, nn.BatchNorm2d)) for one in on_meta(name).modules())
