"""DaViT: outputs of the reference implementation and of timm, and the options of the model."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models.davit import DaVit as TimmDaViT
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common import blocks as common_blocks
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.davit import ChannelAttention, DaViT, WindowAttention
from attnzoo.backbones.davit import model as davit_model
from support import parity
from support.davits import FLORENCE2, blocks_of, classifier, pack_weights, scattered, tiny

PACKS = ("davit_tiny", "davit_tiny_timm")


CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("davit", name)[0]["cases"]]


@functools.cache
def features(variant: str) -> FeatureMaps:
    model = FeatureMaps(model_entrypoint("davit_tiny")()).eval()
    load_weights(model, pack_weights(variant))
    return model


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

    @pytest.mark.slow
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
            ({"attn_types": ("spatial", "chanel")}, "attention has no kind 'chanel'. Did you mean 'channel'"),
            ({"down_kernel_size": 4}, "down_kernel_size must be 2 or 3, got 4"),
            ({"num_classes": -1}, "num_classes must be an integer >= 0, got -1"),
            ({"in_chans": 0}, "in_chans must be an integer >= 1"),
            ({"global_pool": "mean"}, "Unknown global_pool 'mean'"),
            ({"global_pool": ""}, "global_pool='' returns maps"),
            ({"drop_rate": 1.0}, "drop_rate must be >= 0 and < 1, got 1.0"),
            ({"proj_drop_rate": -0.1}, "proj_drop_rate must be >= 0"),
            ({"drop_path_rate": 1.5}, "drop_path_rate must be >= 0 and < 1, got 1.5"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)
