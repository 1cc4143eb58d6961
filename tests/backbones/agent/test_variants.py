"""The agent transformers against the official code's outputs, names and figures."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attnzoo import load_weights
from attnzoo.backbones import get_pretrained_cfg, list_models, model_entrypoint
from attnzoo.backbones.agent import (
    AgentAttention,
    ClassTokenAgentAttention,
    GlobalAttention,
    ShiftedWindowAttention,
    StripeAttention,
    TokenAttention,
    cswin,
    swin,
)
from attnzoo.backbones.common.features import FeatureMaps
from support import parity
from support.agents import blocks_of, classifier, official, official_weights
from support.slow import slow_except

PACKS = ("agent_deit_tiny", "agent_swin_tiny", "agent_cswin_tiny")
CASES = [(name, case["name"]) for name in PACKS for case in parity.load_pack("agent_attention", name)[0]["cases"]]
FAMILY = {
    one["variant"]: one for one in json.loads((parity.ROOT / "agent_attention" / "family.json").read_text())["variants"]
}
DENSE_AGENTS = {
    "swin": [(9, 9), (12, 12), (14, 14), (7, 7)],
    "pvt": [(12, 12), (16, 16), (28, 28), (28, 28)],
}


@functools.cache
def on_meta(variant: str) -> Any:
    with torch.device("meta"):
        return model_entrypoint(variant)().eval()


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

    @pytest.mark.parametrize("variant", slow_except(FAMILY, list(FAMILY)[:3]))
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
        assert "was not checked" in (cfg.note or "")
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
            expected[3] = GlobalAttention
            assert [set(stage) for stage in kinds] == [{kind} for kind in expected]
            assert {block.attn.stripe_size for block in blocks_of(model)[2]} == {config["split_size_of_B"][2]}

    @pytest.mark.parametrize("variant", list(FAMILY))
    def test_published_dense_settings(self, variant: str):
        build, body = model_entrypoint(variant), variant.split("_")[1]
        for data_set in ("coco", "ade20k"):
            with torch.device("meta"):
                if body not in DENSE_AGENTS or variant.endswith(("_256", "_288", "_384")):
                    with pytest.raises(ValueError, match=f"dense must be None for {variant}, got"):
                        build(dense=data_set)
                    continue
                model: Any = build(dense=data_set)
                with pytest.raises(ValueError, match=f"{variant} has no dense setting 'cocco'. Did you mean 'coco'"):
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
