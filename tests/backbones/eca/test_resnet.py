"""ResNets with efficient channel attention: outputs of the reference implementations, and the options of the model."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import timm
import torch
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.eca import ECAMobileNetV2, ECAResNet
from attnzoo.backbones.registry import checkpoint_filter
from support import parity
from support.ecas import OF_TIMM, PACKS, classifier, official_weights

CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("ecanet", name)[0]["cases"]]


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
