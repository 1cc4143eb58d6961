"""The HaloNet family against timm's outputs and names, the paper's numbers, and definitions of its attentions."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import bottleneck_attn, lambda_layer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.common.channel_attention import EfficientChannelAttention, SqueezeExcite
from attnzoo.backbones.common.conv import ConvNormAct
from attnzoo.backbones.common.features import FeatureMaps
from attnzoo.backbones.halonet import GlobalRelativeAttention, HaloAttention, HaloNet, LambdaLayer
from attnzoo.backbones.halonet import attention as halonet_attention
from attnzoo.backbones.halonet.model import AttentionBottleneck, Bottleneck, ConvBottleneck
from attnzoo.backbones.registry import checkpoint_filter
from support import parity

FACTS = json.loads((parity.ROOT / "halonet" / "family.json").read_text())
TIMM = {one["variant"]: one for one in FACTS["variants"]}
PAPER = {one["variant"]: one for one in FACTS["paper_models"]["table"]}
PACK, GOLDEN = parity.load_pack("halonet", "halonet26t")
QUICK = ("eca_halonext26ts", "haloregnetz_b")
HEAVY = tuple(name for name in TIMM if name not in QUICK)


def our_name(timm_name: str) -> str:
    return "halonet_h1_timm" if timm_name == "halonet_h1" else timm_name


@functools.cache
def on_meta(name: str) -> HaloNet:
    with torch.device("meta"):
        return model_entrypoint(name)().eval()


@functools.cache
def official_weights() -> dict[str, torch.Tensor]:
    return parity.filled_state_dict(PACK)


def filled(shapes: dict[str, Any], gain: float = 1.0) -> dict[str, torch.Tensor]:
    return {name: parity.fill(name, value.shape, gain) for name, value in shapes.items()}


def tiny(**kwargs: Any) -> HaloNet:
    """Two stages with convolutions and halo attention in small blocks."""
    defaults: dict[str, Any] = {
        "blocks": ("ch", "hc"),
        "embed_dims": (16, 24),
        "hidden_dims": (8, 16),
        "num_heads": (2, 4),
        "block_size": 4,
        "halo_size": 1,
        "num_classes": 5,
    }
    return HaloNet(**{**defaults, **kwargs})


def blocks_of(model: HaloNet) -> list[Any]:
    stages: list[Any] = list(model.stages)
    return [block for stage in stages for block in stage.blocks if isinstance(block, Bottleneck)]


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

    @pytest.mark.parametrize("timm_name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in HEAVY)])
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
    def test_published_facts(self, timm_name: str):
        facts = TIMM[timm_name]
        cfg = get_pretrained_cfg(our_name(timm_name))
        assert (cfg.params, cfg.macs) == (facts["params"], facts["macs_g"])
        assert cfg.input_size == (3, facts["input"], facts["input"])
        (published,) = facts["pretrained"]
        assert published["name"] == f"{timm_name}.{cfg.tag}"
        if "url" not in published:
            assert not cfg.has_weights
            return
        assert (cfg.url, cfg.hf_hub_id) == (published["url"], published["hub"])
        assert not cfg.verified
        assert cfg.top1 == facts["timm_results"]["top1"]
        for name in ("license", "crop_pct", "interpolation"):
            assert getattr(cfg, name) == published[name]
        for name in ("mean", "std", "input_size"):
            assert list(getattr(cfg, name)) == published[name]

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


class TestPaper:
    @pytest.mark.parametrize("name", PAPER)
    def test_published_table(self, name: str):
        facts = PAPER[name]
        model, cfg = on_meta(name), get_pretrained_cfg(name)
        assert sum(parameter.numel() for parameter in model.parameters()) == facts["params_computed"] == cfg.params
        assert round(facts["params_computed"] / 1e6, 1) == facts["params_published_M"]
        assert cfg.top1 == facts["top1_published"]
        assert cfg.input_size == (3, facts["s"], facts["s"])
        assert not cfg.has_weights
        depths = [len([one for one in stage.blocks if isinstance(one, Bottleneck)]) for stage in model.stages]  # type: ignore[union-attr]
        assert depths == facts["depths"]
        widths = [round(width * facts["rb"]) for width in facts["widths"]]
        last = facts["df"] or widths[-1]
        assert [level["num_chs"] for level in model.feature_info] == [64, *widths[:-1], last]
        for block in blocks_of(model):
            assert isinstance(block, AttentionBottleneck)
            assert isinstance(block.attn, HaloAttention)
            stage = facts["widths"].index(block.conv1.conv.out_channels)
            assert block.attn.num_heads == facts["heads"][stage]
            assert (block.attn.block_size, block.attn.halo_size) == (facts["b"], facts["h"])
            assert block.attn.qk_head_dim * block.attn.num_heads == facts["widths"][stage]
            assert block.attn.v_head_dim * block.attn.num_heads == facts["widths"][stage] * facts["rv"]
            assert type(block.norm) is nn.Identity
        stages: list[Any] = list(model.stages)
        for stage, first in enumerate(stage.blocks[0] for stage in stages):
            assert isinstance(first.shortcut, ConvNormAct)
            assert first.attn.query_stride == (2 if stage else 1)

    def test_all_models_are_there(self):
        assert set(list_models(family="halonet")) == {*map(our_name, TIMM), *PAPER}


class TestOperations:
    @pytest.mark.parametrize("name", [*map(our_name, TIMM), *PAPER])
    def test_multiply_accumulates(self, name: str, monkeypatch: pytest.MonkeyPatch):
        attention_macs = 0

        def counting(
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            block_size: int | tuple[int, int],
            halo_size: int,
            query_stride: int = 1,
            **kwargs: Any,
        ) -> torch.Tensor:
            nonlocal attention_macs
            sides = block_size if isinstance(block_size, tuple) else (block_size, block_size)
            rows, cols = (side + 2 * halo_size for side in sides)
            queries = query.numel() // query.shape[-1]
            relative = sum(len(kwargs[one]) for one in ("row_embedding", "col_embedding"))
            attention_macs += queries * (rows * cols * (query.shape[-1] + value.shape[-1]) + relative * query.shape[-1])
            return query.new_empty(*query.shape[:-1], value.shape[-1])

        monkeypatch.setattr(halonet_attention, "halo_attention_2d", counting)
        cfg = get_pretrained_cfg(name)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            on_meta(name)(torch.empty(1, *cfg.input_size, device="meta"))
        total = (counter.get_total_flops() / 2 + attention_macs) / 1e9
        assert total == pytest.approx(cfg.macs, abs=1e-4)
        if name in PAPER:
            # The estimate for H7, whose maps are no multiples of its stride, rounds their sides down.
            assert total == pytest.approx(
                PAPER[name]["macs_g_estimated_at_s"], rel=0.03 if name == "halonet_h7" else 3e-3
            )


def dense_attention(attn: HaloAttention, x: torch.Tensor) -> torch.Tensor:
    """The definition, position by position: (B, H, W, C) with its own loop over queries."""
    batch, height, width, _ = x.shape
    heads, block, halo, step = attn.num_heads, attn.block_size, attn.halo_size, attn.query_stride
    window = block + 2 * halo
    query = attn.q(x).reshape(batch, height, width, heads, -1)
    kv = attn.kv(x).reshape(batch, height, width, heads, -1)
    key, value = kv[..., : attn.qk_head_dim], kv[..., attn.qk_head_dim :]
    rows = range(0, height, step)
    cols = range(0, width, step)
    out = x.new_zeros(batch, len(rows), len(cols), heads, attn.v_head_dim)
    for y in rows:
        for x_at in cols:
            top, left = y // block * block, x_at // block * block
            last_y, last_x = min(top + block, height) + halo, min(left + block, width) + halo
            logits, values = [], []
            for ky in range(top - halo, last_y):
                for kx in range(left - halo, last_x):
                    inside = 0 <= ky < height and 0 <= kx < width
                    if not inside and attn.mask_halo:
                        continue
                    one = query[:, y, x_at]
                    dy = ky - (top - halo) - (y - top) // step + window - 1
                    dx = kx - (left - halo) - (x_at - left) // step + window - 1
                    logit = one @ attn.row_embedding[dy] + one @ attn.col_embedding[dx]
                    if inside:
                        logit = logit + attn.scale * (one * key[:, ky, kx]).sum(-1)
                    logits.append(logit)
                    values.append(value[:, ky, kx] if inside else torch.zeros_like(value[:, 0, 0]))
            weights = torch.stack(logits).softmax(dim=0)
            out[:, y // step, x_at // step] = (weights[..., None] * torch.stack(values)).sum(0)
    out = out.flatten(3)
    if attn.pools:
        padded = F.pad(out, (0, 0, 0, width % 2, 0, height % 2))
        there = F.pad(torch.ones_like(out), (0, 0, 0, width % 2, 0, height % 2))

        def quarters(one: torch.Tensor) -> torch.Tensor:
            return one[:, ::2, ::2] + one[:, 1::2, ::2] + one[:, ::2, 1::2] + one[:, 1::2, 1::2]

        out = quarters(padded) / quarters(there)
    return out


class TestHaloAttention:
    @pytest.mark.parametrize(
        ("size", "kwargs"),
        [
            ((8, 4), {}),
            ((7, 5), {}),
            ((1, 3), {}),
            ((8, 8), {"stride": 2}),
            ((7, 9), {"stride": 2}),
            ((6, 7), {"stride": 2, "block_size": 3}),
            ((7, 5), {"stride": 2, "block_size": 3}),
            ((5, 6), {"qk_head_dim": 3, "dim_out": 12}),
            ((5, 6), {"mask_halo": True}),
            ((5, 6), {"halo_size": 0}),
        ],
    )
    def test_equals_its_definition_at_any_size(self, size: tuple[int, int], kwargs: dict[str, Any]):
        torch.manual_seed(0)
        attn = HaloAttention(8, 2, **{"block_size": 4, "halo_size": 2, **kwargs}).double()
        x = torch.randn(2, *size, 8, dtype=torch.float64)
        torch.testing.assert_close(attn(x), dense_attention(attn, x))

    def test_first_embeddings_are_never_used(self):
        attn = HaloAttention(8, 2, block_size=4, halo_size=2)
        attn(torch.randn(1, 8, 8, 8)).square().sum().backward()
        for embedding in (attn.row_embedding, attn.col_embedding):
            assert embedding.grad is not None
            assert not embedding.grad[:4].any()
            assert embedding.grad[4:].any(dim=1).all()

    def test_arguments_for_other_bodies(self):
        attn = HaloAttention(8, 2, block_size=4, halo_size=1, qkv_bias=True, proj=True)
        assert isinstance(attn.proj, nn.Linear)
        assert attn.q.bias is not None
        x = torch.randn(1, 5, 6, 8)
        plain = HaloAttention(8, 2, block_size=4, halo_size=1, qkv_bias=True)
        plain.load_state_dict({name: value for name, value in attn.state_dict().items() if "proj" not in name})
        torch.testing.assert_close(attn(x), attn.proj(plain(x)))

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"num_heads": 3}, "num_heads must divide"),
            ({"block_size": 0}, "block_size must be an integer >= 1"),
            ({"halo_size": -1}, "halo_size must be an integer >= 0"),
            ({"stride": 3}, "stride must be 1 or 2, got 3"),
            ({"qk_head_dim": 0}, "qk_head_dim must be"),
        ],
    )
    def test_invalid_arguments_raise(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            HaloAttention(**{"dim": 8, "num_heads": 2, **kwargs})


class TestOtherMixers:
    def test_lambda_layer_equals_timms(self):
        torch.manual_seed(0)
        ours, theirs = LambdaLayer(8, 2, 5).eval(), lambda_layer.LambdaLayer(8, num_heads=2, r=5).eval()
        state_dict = filled(theirs.state_dict())
        theirs.load_state_dict(state_dict)
        ours.load_state_dict(
            {
                **state_dict,
                "qkv.weight": state_dict["qkv.weight"].flatten(1),
                "conv_lambda.weight": state_dict["conv_lambda.weight"].squeeze(-1),
            }
        )
        x = torch.randn(2, 6, 9, 8)
        torch.testing.assert_close(ours(x), theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    def test_global_attention_equals_timms(self):
        torch.manual_seed(0)
        ours = GlobalRelativeAttention(8, 2, 5)
        theirs = bottleneck_attn.BottleneckAttn(8, num_heads=2, feat_size=(5, 5))
        theirs.load_state_dict(
            {
                "qkv.weight": ours.qkv.weight[..., None, None],
                "pos_embed.height_rel": ours.row_embedding,
                "pos_embed.width_rel": ours.col_embedding,
            }
        )
        x = torch.randn(2, 5, 5, 8)
        torch.testing.assert_close(ours(x), theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    @pytest.mark.parametrize("size", [(4, 4), (2, 3), (6, 4), (5, 7)])
    def test_global_attention_sees_the_map_with_stretched_embeddings(self, size: tuple[int, int]):
        torch.manual_seed(0)
        attn = GlobalRelativeAttention(8, 2, table_size=4).double()
        height, width = size
        x = torch.randn(2, height, width, 8, dtype=torch.float64)

        def by_offset(embedding: torch.Tensor, length: int) -> torch.Tensor:
            """Embeddings (query, key, dim)."""
            if length > 4:
                grid = torch.linspace(0, 6, 2 * length - 1, dtype=torch.float64)
                low = grid.floor().long().clamp(max=5)
                share = (grid - low)[:, None]
                embedding = embedding[low] * (1 - share) + embedding[low + 1] * share
            places = torch.arange(length)
            return embedding[places[None] - places[:, None] + len(embedding) // 2]

        query, key, value = attn.qkv(x).unflatten(-1, (3, 2, 4)).unbind(3)
        logits = torch.einsum("byxhc,bvwhc->bhyxvw", query * attn.scale, key)
        logits = logits + torch.einsum("byxhc,yvc->bhyxv", query, by_offset(attn.row_embedding, height))[..., None]
        logits = logits + torch.einsum("byxhc,xwc->bhyxw", query, by_offset(attn.col_embedding, width))[..., None, :]
        weights = logits.flatten(4).softmax(dim=-1).unflatten(-1, size)
        out = torch.einsum("bhyxvw,bvwhc->byxhc", weights, value).flatten(3)
        torch.testing.assert_close(attn(x), out, rtol=1e-6, atol=1e-6)  # embeddings are stretched in float32

    def test_stride_averages(self):
        torch.manual_seed(0)
        for build in (
            functools.partial(GlobalRelativeAttention, 8, 2, 4),
            functools.partial(LambdaLayer, 8, 2, 3),
        ):
            whole, halved = build().eval(), build(stride=2).eval()
            halved.load_state_dict(whole.state_dict())
            x = torch.randn(1, 5, 4, 8)
            expected = F.avg_pool2d(whole(x).permute(0, 3, 1, 2), 2, ceil_mode=True, count_include_pad=False)
            torch.testing.assert_close(halved(x), expected.permute(0, 2, 3, 1))

    def test_invalid_arguments_raise(self):
        with pytest.raises(ValueError, match="must be odd, got 4"):
            LambdaLayer(8, 2, 4)
        with pytest.raises(ValueError, match="table_size must be"):
            GlobalRelativeAttention(8, 2, 0)
        with pytest.raises(ValueError, match="stride must be 1 or 2, got 4"):
            GlobalRelativeAttention(8, 2, 4, stride=4)


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

    def test_parts_of_the_features_take_published_names(self):
        with torch.device("meta"):
            timm_names = timm.create_model("sehalonet33ts").state_dict()
            for indices in ((0,), (0, 1), (2, 3), (4,)):
                features = FeatureMaps(model_entrypoint("sehalonet33ts")(), out_indices=indices)
                shapes = {name: value.shape for name, value in checkpoint_filter(features)(timm_names).items()}
                assert shapes == {name: value.shape for name, value in features.state_dict().items()}

    def test_own_names_and_prefixes(self):
        for model in (tiny(), tiny(stem_pool=False, final_dim=32), FeatureMaps(tiny())):
            own = model.state_dict()
            once = checkpoint_filter(model)(own)
            assert once.keys() == own.keys()
            assert all(torch.equal(once[name], own[name]) for name in own)
        own = tiny().state_dict()
        for prefix in ("module.", "backbone.", "_orig_mod.module."):
            assert checkpoint_filter(tiny())({prefix + name: value for name, value in own.items()}).keys() == own.keys()

    def test_unknown_and_missing_names_are_reported(self):
        model = tiny()
        own = model.state_dict()
        filtered = checkpoint_filter(model)
        with pytest.raises(RuntimeError, match=r"Unexpected key.*stages\.0\.blocks\.7\.conv1\.conv\.weight"):
            model.load_state_dict(filtered({**own, "stages.0.7.conv1_1x1.conv.weight": torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Unexpected key.*final_conv\.conv\.weight"):
            model.load_state_dict(filtered({**own, "final_conv.conv.weight": torch.zeros(1)}))
        with pytest.raises(RuntimeError, match=r"Missing key.*row_embedding"):
            model.load_state_dict(filtered({name: own[name] for name in own if "row_embedding" not in name}))

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
            ({"stem": "tierd"}, "no stem 'tierd'. Did you mean 'tiered'"),
            ({"act": "sily"}, "no act 'sily'. Did you mean 'silu'"),
            ({"gate": "ecs"}, "no gate 'ecs'. Did you mean 'eca'"),
            ({"shortcut": "frist"}, "no shortcut 'frist'. Did you mean 'first'"),
            ({"final_dim": 0}, "final_dim must be"),
            ({"group_width": 3}, "group_width must divide 8 channels, got 3"),
            ({"num_heads": (3, 4)}, "num_heads must divide dim"),
        ],
    )
    def test_invalid_arguments_raise(self, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            tiny(**kwargs)
