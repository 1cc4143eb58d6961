"""HaloNet: outputs of timm's models, and the options of the model."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm
import torch
from torch import nn

from attnzoo import load_weights
from attnzoo.backbones import model_entrypoint
from attnzoo.backbones.common.channel_attention import EfficientChannelAttention, SqueezeExcite
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.halonet import GlobalRelativeAttention, HaloAttention, HaloNet, LambdaLayer
from attnzoo.backbones.halonet.model import AttentionBottleneck, ConvBottleneck
from attnzoo.backbones.registry import checkpoint_filter
from support import parity
from support.halonets import TIMM, blocks_of, filled, on_meta, our_name, tiny
from support.slow import slow_except

PACK, GOLDEN = parity.load_pack("halonet", "halonet26t")


QUICK = ("eca_halonext26ts", "haloregnetz_b")


HEAVY = tuple(name for name in TIMM if name not in QUICK)


@functools.cache
def official_weights() -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(PACK)


def attentions_of(model: HaloNet) -> dict[str, HaloAttention]:
    """Halo attentions under timm's names."""
    return {
        name.replace(".blocks.", ".").replace(".attn", ".self_attn"): module
        for name, module in model.named_modules()
        if isinstance(module, HaloAttention)
    }


class TestPack:
    @pytest.mark.parametrize("case", PACK["cases"], ids=lambda case: case["name"])
    def test_official_outputs(self, case: dict[str, Any]):
        images = parity.image(case["shape"], case["seed"])
        model = model_entrypoint("halonet26t")().eval()
        with torch.no_grad():
            if case["call"] == "logits":
                load_weights(model, official_weights())
                outputs = {"logits": model(images)}
            else:
                features = FeatureMaps(model, out_indices=4).eval()
                load_weights(features, official_weights())
                outputs = {f"stage{index + 1}": one for index, one in enumerate(features(images))}
        assert {name: list(one.shape) for name, one in outputs.items()} == case["outputs"]
        for name, output in outputs.items():
            error = parity.relative_error(output, GOLDEN[f"{case['name']}/{name}"])
            assert error <= parity.tolerance(PACK), (name, error)

    def test_every_official_weight_is_used_as_it_is(self):
        model = on_meta("halonet26t")
        loaded = checkpoint_filter(model)(official_weights())
        own = model.state_dict()
        assert {name: value.shape for name, value in loaded.items()} == {name: one.shape for name, one in own.items()}
        total = sum(value.sum().item() for value in official_weights().values())
        assert sum(value.sum().item() for value in loaded.values()) == pytest.approx(total)


class TestTimm:
    """timm's own models, in float64, where rounding hides nothing."""

    @pytest.mark.parametrize("timm_name", slow_except([*QUICK, *HEAVY], QUICK))
    def test_outputs_maps_and_names(self, timm_name: str):
        theirs = timm.create_model(timm_name).eval()
        state_dict = filled(theirs.state_dict())
        theirs.load_state_dict(state_dict)
        ours = model_entrypoint(our_name(timm_name))().eval()
        load_weights(ours, state_dict)
        size = TIMM[timm_name]["input"]
        images = parity.image((1, 3, size, size), 3).double()
        with torch.no_grad():
            expected, logits = theirs.double()(images), ours.double()(images)
            maps = ours.forward_intermediates(images, intermediates_only=True)
            expected_maps = theirs.forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
        for one, other in zip(maps, expected_maps, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("timm_name", TIMM)
    def test_features_are_timms(self, timm_name: str):
        info = on_meta(our_name(timm_name)).feature_info
        assert [level["num_chs"] for level in info] == TIMM[timm_name]["features_only"]["channels"]
        assert [level["reduction"] for level in info] == [2, 4, 8, 16, 32]

    @pytest.mark.parametrize("timm_name", TIMM)
    def test_attentions_are_as_published(self, timm_name: str):
        own = {
            name: {
                "stride": 2 if attn.pools else attn.query_stride,
                "heads": attn.num_heads,
                "dim": attn.q.in_features,
                "dim_head_qk": attn.qk_head_dim,
                "dim_head_v": attn.v_head_dim,
                "block": attn.block_size,
                "halo": attn.halo_size,
                "win": (len(attn.row_embedding) + 1) // 2,
                "pool_after": attn.pools,
            }
            for name, attn in attentions_of(on_meta(our_name(timm_name))).items()
        }
        assert own == TIMM[timm_name]["config"]["halo_layers"]

    @pytest.mark.parametrize("timm_name", TIMM)
    def test_eps_scales_activations_and_gates(self, timm_name: str):
        model = on_meta(our_name(timm_name))
        config = TIMM[timm_name]["config"]["byo"]
        act = {"relu": nn.ReLU, "silu": nn.SiLU}[config["act_layer"]]
        gate = {"se": SqueezeExcite, "eca": EfficientChannelAttention, None: nn.Identity}[config["attn_layer"]]
        for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
            assert (norm.eps, norm.momentum) == (1e-5, 0.1)
        linear = config["block_kwargs"].get("linear_out", False)
        for block in blocks_of(model):
            assert type(block.conv1.act) is act
            assert type(block.conv3.act) is nn.Identity
            assert type(block.act) is (nn.Identity if linear else act)
            if isinstance(block, ConvBottleneck):
                assert type(block.conv2.act) is act
                assert type(block.gate) is gate
                assert block.conv2.conv.groups == (
                    block.conv2.conv.in_channels // 16 if config["blocks"][0]["gs"] else 1
                )
            else:
                assert type(block.norm) is nn.BatchNorm2d
                assert type(block.norm_act) is act
        for attn in attentions_of(model).values():
            assert attn.scale == attn.qk_head_dim**-0.5
            assert not attn.mask_halo


class TestModel:
    @pytest.mark.parametrize("kwargs", [{}, {"stem_pool": False}, {"stem_pool": False, "stem": "3x3"}])
    def test_features_at_odd_sizes(self, kwargs: dict[str, Any]):
        features = FeatureMaps(tiny(**kwargs)).eval()
        with torch.no_grad():
            maps = features(torch.randn(1, 3, 37, 53))
        assert features.feature_info.reduction() == [2, 4, 8]
        assert [tuple(one.shape[1:]) for one in maps] == [
            (features.feature_info.channels()[0], 19, 27),
            (16, 10, 14),
            (24, 5, 7),
        ]
        assert all(one.is_contiguous(memory_format=torch.channels_last) for one in maps)

    @pytest.mark.parametrize(
        "kwargs",
        [
            {},
            {"shortcut": "first", "act": "silu", "attn_norms": False, "value_ratio": 2.0},
            {"shortcut": "none", "acts_last": False, "stem_pool": False, "stem": "3x3"},
            {"embed_dims": (64, 64), "gate": "se", "final_dim": 12},
        ],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_writing_in_place_changes_no_map(self, kwargs: dict[str, Any], dtype: torch.dtype):
        torch.manual_seed(0)
        model = tiny(**{"blocks": ("cchh", "hcc"), **kwargs}).eval().to(dtype)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
        images = torch.randn(2, 3, 61, 45, dtype=dtype)
        given = images.clone()
        expected = [one.detach() for one in model.forward_intermediates(images, intermediates_only=True)]
        with torch.no_grad():
            found = model.forward_intermediates(images, intermediates_only=True)
            for one, other in zip(found, expected, strict=True):
                assert (one - other).norm() < (1e-3 if dtype == torch.float32 else 1e-11) * other.norm()
            kept = expected[0].contiguous(memory_format=torch.channels_last)
            again = [model.stages[0](kept), model.stages[0](kept)]
            assert torch.equal(*again)
            block = blocks_of(model)[1]
            before = again[0].clone()
            block(again[0])
            assert torch.equal(again[0], before)
            seen: list[torch.Tensor] = []
            handle = blocks_of(model)[0].register_forward_hook(lambda _, __, out: seen.append(out))
            copied: list[torch.Tensor] = []
            other = blocks_of(model)[0].register_forward_hook(lambda _, __, out: copied.append(out.clone()))
            model(images)
            handle.remove()
            other.remove()
        assert torch.equal(seen[0], copied[0])
        assert torch.equal(images, given)

    def test_kinds_mix_in_one_model(self):
        model = tiny(blocks=("clg", "hlgc"), value_ratio=2.0, table_size=3, lambda_kernel_size=3).eval()
        kinds = [type(block.attn) for block in blocks_of(model) if isinstance(block, AttentionBottleneck)]
        assert kinds == [LambdaLayer, GlobalRelativeAttention, HaloAttention, LambdaLayer, GlobalRelativeAttention]
        assert model(torch.randn(1, 3, 33, 47)).shape == (1, 5)

    def test_initial_values_are_timms(self):
        torch.manual_seed(0)
        model = model_entrypoint("haloregnetz_b")()
        theirs = timm.create_model("haloregnetz_b")
        translated = checkpoint_filter(model)(theirs.state_dict())
        for name, value in model.named_parameters():
            other = translated[name]
            if value.numel() >= 2000:
                assert value.std().item() == pytest.approx(other.std().item(), rel=0.15), name
            if value.ndim == 1:
                assert torch.equal(value, other), name

    def test_a_block_without_shortcut_is_never_dropped(self):
        model = model_entrypoint("haloregnetz_b")(drop_path_rate=0.5)
        blocks = blocks_of(model)
        without_shortcut = [block for block in blocks if not block.has_shortcut]
        assert len(without_shortcut) == 4
        assert all(type(block.drop_path) is nn.Identity for block in without_shortcut)
        rates = [block.drop_path.drop_prob for block in blocks if block.has_shortcut]
        assert rates == sorted(rates)
        assert rates[-1] == 0.5

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"blocks": ("cx", "h")}, "the letters 'c' .*got 'cx'"),
            ({"blocks": ("cc", "")}, "must consist of the letters"),
            ({"blocks": ()}, "must have one entry per stage, got 2, 0, 2 and 2"),
            (
                {"embed_dims": (16,)},
                "num_heads and hidden_dims must have one entry per stage, got 1, 2, 2 and 2",
            ),
            (
                {"num_heads": (2, 4, 8)},
                "num_heads and hidden_dims must have one entry per stage, got 2, 2, 3 and 2",
            ),
            ({"hidden_dims": None}, "Exactly one of hidden_dims and expansion"),
            ({"expansion": 2}, "Exactly one of hidden_dims and expansion"),
            ({"stem": "tierd"}, "Unknown stem 'tierd'. Did you mean 'tiered'"),
            ({"act": "sily"}, "Unknown act 'sily'. Did you mean 'silu'"),
            ({"gate": "ecs"}, "Unknown gate 'ecs'. Did you mean 'eca'"),
            ({"shortcut": "frist"}, "Unknown shortcut 'frist'. Did you mean 'first'"),
            ({"final_dim": 0}, "final_dim must be"),
            ({"group_width": 3}, "group_width must divide 8 channels, got 3"),
            ({"num_heads": (3, 4)}, "num_heads must divide dim"),
        ],
    )
    def test_invalid_arguments_raise(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)
