"""One body for all token mixers: every mixer is its family's module, and nothing but the mixer differs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo import create_model, get_pretrained_cfg
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.agent import AgentAttention
from attnzoo.backbones.biformer import BiLevelRoutingAttention, FullAttention
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.davit import ChannelAttention, WindowAttention
from attnzoo.backbones.eca import EfficientChannelAttentionMixer
from attnzoo.backbones.halonet import HaloAttention
from attnzoo.backbones.metaformer import MIXERS, IdentityMixer, MetaFormer, Place, PoolMixer
from attnzoo.backbones.nat import NeighborhoodAttention
from attnzoo.backbones.van import LargeKernelAttention
from attnzoo.zoo.analysis.summary import count_macs

MODULES: dict[str, tuple[type[nn.Module], ...]] = {
    "pool": (PoolMixer,),
    "identity": (IdentityMixer,),
    "full": (FullAttention,),
    "neighborhood": (NeighborhoodAttention,),
    "dilated_neighborhood": (NeighborhoodAttention,),
    "window": (WindowAttention,),
    "dual": (WindowAttention, ChannelAttention),
    "halo": (HaloAttention,),
    "agent": (AgentAttention,),
    "biformer": (BiLevelRoutingAttention,),
    "lka": (LargeKernelAttention,),
    "eca": (EfficientChannelAttentionMixer,),
}


def tiny(mixer: Any = "pool", **kwargs: Any) -> MetaFormer:
    """A body of two stages, with maps of 16 and 8 positions for the images that it is made for."""
    defaults: dict[str, Any] = {
        "depths": (1, 2),
        "embed_dims": (8, 16),
        "head_dim": 8,
        "img_size": 32,
        "stem_stride": 2,
        "num_classes": 5,
        "layer_scale": None,
    }
    return MetaFormer(mixer=mixer, **{**defaults, **kwargs})


def blocks_of(model: MetaFormer) -> list[Any]:
    stages: list[Any] = list(model.stages)
    return [block for stage in stages for block in stage.blocks]


def test_every_mixer_is_named_here():
    assert MODULES.keys() == MIXERS.keys()


@pytest.mark.parametrize("mixer", list(MIXERS))
class TestEveryMixer:
    def test_blocks_have_the_modules_in_turn(self, mixer: str):
        kinds = MODULES[mixer]
        with torch.device("meta"):
            model = create_model("metaformer_s12", mixer=mixer)
        assert isinstance(model, MetaFormer)
        blocks = blocks_of(model)
        assert [type(block.attn) for block in blocks] == [kinds[index % len(kinds)] for index in range(len(blocks))]

    def test_nothing_but_the_mixer_differs(self, mixer: str):
        def outside(model: nn.Module) -> dict[str, torch.Size]:
            return {key: value.shape for key, value in model.state_dict().items() if ".attn." not in key}

        with torch.device("meta"):
            assert outside(tiny(mixer)) == outside(tiny("identity"))

    def test_heads_are_of_one_width(self, mixer: str):
        for block in blocks_of(tiny(mixer)):
            if hasattr(block.attn, "num_heads"):
                assert block.attn.num_heads == block.norm1.normalized_shape[0] // 8

    @pytest.mark.parametrize("size", [(32, 32), (37, 50), (4, 4), (6, 29)])
    def test_any_size_of_image(self, mixer: str, size: tuple[int, int]):
        torch.manual_seed(0)
        maps = FeatureMaps(tiny(mixer).eval())(torch.randn(1, 3, *size))
        assert [one.shape[2:] for one in maps] == [
            (-(-size[0] // 2), -(-size[1] // 2)),
            (-(-size[0] // 4), -(-size[1] // 4)),
        ]
        assert all(one.isfinite().all() for one in maps)

    def test_published_sizes_take_any_size_from_32_up(self, mixer: str):
        with torch.device("meta"):
            model = create_model("metaformer_s12", mixer=mixer, depths=(1, 1, 1, 1)).eval()
            assert model(torch.empty(1, 3, 32, 39)).shape == (1, 1000)
        assert count_macs(model, (224, 224)) > count_macs(model, (64, 64)) > 0

    def test_gradients_reach_every_parameter(self, mixer: str):
        torch.manual_seed(0)
        model = tiny(mixer, drop_path_rate=0.1).train()
        model(torch.randn(2, 3, 21, 32)).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    def test_positions_are_mixed(self, mixer: str):
        torch.manual_seed(0)
        model = tiny(mixer)
        x = torch.randn(1, 8, 8, 16)
        other = x.clone()
        other[0, 4, 5] += 1
        changed = sum(
            (block.attn(other) - block.attn(x)).abs().amax(-1)[0].gt(1e-6).sum().item()
            for block in blocks_of(model)[1:]
        )
        assert (changed == 2) == (mixer == "identity")

    @pytest.mark.slow
    def test_compiled_model_equals_the_eager_one(self, mixer: str):
        torch.manual_seed(0)
        torch.compiler.reset()  # the bodies share their code, which is compiled a limited number of times
        model = tiny(mixer).train()
        other = copy.deepcopy(model)
        compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
        x = torch.randn(2, 3, 32, 24)
        for run in (model, compiled):
            run(x).square().sum().backward()
        for parameter, given in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, given.grad)


class TestPlace:
    @pytest.mark.parametrize(
        ("side", "window", "kernel_size", "topk", "agents_side"),
        [
            # 224x224: the published windows of NAT, DaViT and BiFormer
            (56, 7, 7, 1, 7),
            (28, 7, 7, 4, 7),
            (14, 7, 7, 16, 7),
            (7, 7, 7, 49, 3),
            # 32x32
            (16, 8, 7, 16, 7),
            (8, 4, 3, 5, 4),
            (4, 4, 4, 16, 2),
            (2, 2, 2, 4, 1),
            (1, 1, 2, 1, 1),
            # others
            (24, 8, 7, 7, 7),
            (12, 6, 5, 12, 6),
            (9, 7, 3, 16, 4),
        ],
    )
    def test_sizes(self, side: int, window: int, kernel_size: int, topk: int, agents_side: int):
        place = Place(64, 2, side)
        assert (place.window, place.kernel_size, place.topk, place.agents_side) == (
            window,
            kernel_size,
            topk,
            agents_side,
        )

    def test_modules_have_these_sizes(self):
        def at_224(mixer: str) -> list[Any]:
            with torch.device("meta"):
                model = create_model("metaformer_s12", mixer=mixer)
            assert isinstance(model, MetaFormer)
            return [block.attn for block in blocks_of(model)]

        assert [one.dilation for one in at_224("dilated_neighborhood")] == [1, 8, 1, 4, *(1, 2) * 3, 1, 1]
        assert [one.topk for one in at_224("biformer")] == [1] * 2 + [4] * 2 + [16] * 6 + [49] * 2
        assert [(one.block_size, one.halo_size) for one in at_224("halo")] == [(7, 3)] * 10 + [(7, 0)] * 2
        assert {one.window_size for one in at_224("window")} == {7}
        assert [one.grid_size[0] for one in at_224("agent")] == [56] * 2 + [28] * 2 + [14] * 6 + [7] * 2
        assert [one.num_agents for one in at_224("agent")] == [49] * 10 + [9] * 2
        kernels = [one.conv_spatial.kernel_size[0] for one in at_224("lka")]
        assert kernels == [7] * 10 + [5] * 2


class TestBody:
    @pytest.mark.parametrize("name", ["s12", "s24", "s36"])
    def test_sizes_are_poolformers(self, name: str):
        with torch.device("meta"):
            own, other = model_entrypoint(f"metaformer_{name}")(), timm.create_model(f"poolformer_{name}")
        count = sum(parameter.numel() for parameter in other.parameters())
        assert sum(parameter.numel() for parameter in own.parameters()) == count
        assert get_pretrained_cfg(f"metaformer_{name}").params == count

    @pytest.mark.parametrize("name", ["micro", "s12", "s24", "s36"])
    def test_multiply_accumulates(self, name: str):
        cfg = get_pretrained_cfg(f"metaformer_{name}")
        with torch.device("meta"):
            model = model_entrypoint(f"metaformer_{name}")()
        assert count_macs(model, cfg.input_size[1:]) / 1e9 == pytest.approx(cfg.macs, abs=5e-5)
        assert cfg.tag == "untrained"

    def test_one_mixer_a_stage(self):
        model = tiny(("lka", "full"))
        assert [type(block.attn) for block in blocks_of(model)] == [LargeKernelAttention] + [FullAttention] * 2
        assert model.mixers == ("lka", "full")

    def test_arguments_of_mixers(self):
        model = tiny("neighborhood", mixer_kwargs={"kernel_size": 5, "rel_pos_bias": False})
        assert [(block.attn.kernel_size, block.attn.rpb) for block in blocks_of(model)] == [(5, None)] * 3
        model = tiny(("window", "neighborhood"), mixer_kwargs=(None, {"kernel_size": 5}))
        assert [getattr(block.attn, "kernel_size", None) for block in blocks_of(model)] == [None, 5, 5]
        # Of two modules in turn each gets what it knows.
        model = tiny("dual", mixer_kwargs={"window_size": 2, "v2": True})
        assert [getattr(block.attn, "window_size", block.attn) for block in blocks_of(model)][::2] == [2, 2]
        assert blocks_of(model)[1].attn.v2

    def test_weight_decay_leaves_biases_by_position_alone(self):
        assert tiny("neighborhood").no_weight_decay() == {
            f"stages.{stage}.blocks.{block}.attn.rpb" for stage, block in ((0, 0), (1, 0), (1, 1))
        }
        assert len(tiny("agent").no_weight_decay()) == 3 * 6
        assert len(tiny("halo").no_weight_decay()) == 3 * 2
        assert not tiny("lka").no_weight_decay()

    def test_layer_scale(self):
        with torch.device("meta"):
            assert not any("ls1" in name for name in tiny("full").state_dict())
        model = tiny("full", layer_scale=0.5)
        assert torch.equal(model.get_parameter("stages.1.blocks.1.ls2.gamma"), torch.full((16,), 0.5))

    def test_drop_path_grows_linearly_over_all_blocks(self):
        model = tiny(depths=(2, 3), drop_path_rate=0.4)
        rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks_of(model)]
        assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"mixer": "bifomer"}, "Unknown mixer 'bifomer'. Did you mean 'biformer'"),
            ({"mixer": ("pool", "halos")}, "Unknown mixer 'halos'. Did you mean 'halo'"),
            ({"mixer": ("pool",)}, "mixer must have one entry per stage, got 1 for 2 stages"),
            ({"mixer_kwargs": ({}, {}, {})}, "mixer_kwargs must have one entry per stage, got 3 for 2 stages"),
            (
                {"mixer_kwargs": {"pol_size": 3}},
                "The mixer 'pool' has no argument 'pol_size'. Did you mean 'pool_size'",
            ),
            ({"mixer_kwargs": {"num_heads": 3}}, "The mixer 'pool' has no argument 'num_heads'"),
            ({"mixer_kwargs": {"pool_size": 4}}, "pool_size must be odd, got 4"),
            ({"depths": (1,)}, "depths and embed_dims must have one entry per stage, got 1 and 2"),
            ({"depths": (1, 0)}, r"depths\[1\] must be an integer >= 1"),
            ({"head_dim": 5}, r"head_dim must divide embed_dims\[0\], got 5 and 8 channels"),
            ({"img_size": 0}, "img_size must be an integer >= 1"),
            ({"mlp_ratio": 0}, "mlp_ratio must leave at least one hidden channel"),
            ({"stem_stride": 3}, "stem_stride must be 1, 2 or 4, got 3"),
            ({"proj_drop_rate": 1.0}, "proj_drop_rate must be >= 0 and < 1"),
        ],
    )
    def test_wrong_arguments_are_named(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)

    @pytest.mark.parametrize("stem_stride", [1, 2, 4])
    def test_stem_stride(self, stem_stride: int):
        features = FeatureMaps(tiny(stem_stride=stem_stride))
        strides = [stem_stride, 2 * stem_stride]
        assert features.feature_info.reduction() == strides
        for stride, one in zip(strides, features(torch.randn(1, 3, 19, 26)), strict=True):
            assert one.shape[2:] == (-(-19 // stride), -(-26 // stride))

    def test_pooling_is_poolformers(self):
        torch.manual_seed(0)
        x = torch.randn(2, 4, 7, 8)
        maps = x.permute(0, 3, 1, 2)
        ones = torch.ones_like(maps[:, :1])
        kernel = torch.ones(8, 1, 3, 3)
        mean = F.conv2d(maps, kernel, padding=1, groups=8) / F.conv2d(ones, kernel[:1], padding=1)
        torch.testing.assert_close(PoolMixer(8)(x), (mean - maps).permute(0, 2, 3, 1))
