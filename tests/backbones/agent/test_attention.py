"""Agent attention."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnzoo.backbones.agent import (
    AgentAttention,
    ClassTokenAgentAttention,
    attention,
)
from support.agent_attention import randomised, split_heads


def resize_agents(bias: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(heads, agents, positions) from a square grid of agents to one of another shape."""
    side = int(bias.shape[1] ** 0.5)
    maps = bias.transpose(1, 2).reshape(len(bias), bias.shape[2], side, side)
    return F.interpolate(maps, shape, mode="bilinear").flatten(2).transpose(1, 2)


def agent_attention(
    attn: AgentAttention, x: torch.Tensor, size: tuple[int, int], shape: tuple[int, int]
) -> torch.Tensor:
    """What `AgentAttention` computes, for tokens (B, prefix + H * W, C) with or without a class token as prefix."""
    prefix = x.shape[1] - size[0] * size[1]
    query, key, value = attn.qkv(x).chunk(3, dim=-1)
    maps = query[:, prefix:].transpose(1, 2).unflatten(2, size)
    agents = F.adaptive_avg_pool2d(maps, shape).flatten(2).transpose(1, 2)

    lines = F.interpolate(attn.ah_bias[0] + attn.aw_bias[0], size, mode="bilinear")
    bias = resize_agents((F.interpolate(attn.an_bias, size, mode="bilinear") + lines).flatten(2), shape)
    if isinstance(attn, ClassTokenAgentAttention):
        bias = torch.cat([resize_agents(attn.ac_bias[0], shape), bias], dim=2)
    q, k, v, a = (split_heads(one, attn.num_heads) for one in (query, key, value, agents))
    scale = q.shape[-1] ** -0.5
    gathered = (scale * a @ k.transpose(2, 3) + bias).softmax(-1) @ v

    lines = F.interpolate((attn.ha_bias[0] + attn.wa_bias[0]).permute(0, 3, 1, 2), size, mode="bilinear")
    bias = resize_agents((F.interpolate(attn.na_bias, size, mode="bilinear") + lines).flatten(2), shape)
    if isinstance(attn, ClassTokenAgentAttention):
        bias = torch.cat([resize_agents(attn.ca_bias[0].transpose(1, 2), shape), bias], dim=2)
    out = (scale * q @ a.transpose(2, 3) + bias.transpose(1, 2)).softmax(-1) @ gathered
    out = out.transpose(1, 2).flatten(2)
    maps = value[:, prefix:].transpose(1, 2).unflatten(2, size)
    maps = F.conv2d(maps, attn.dwc.weight, attn.dwc.bias, padding=1, groups=maps.shape[1])
    return attn.proj(torch.cat([out[:, :prefix], out[:, prefix:] + maps.flatten(2).transpose(1, 2)], dim=1))


SIZES = [
    ((6, 8), None),
    ((5, 7), None),
    ((12, 16), None),
    ((2, 1), None),
    ((6, 8), (3, 3)),
    ((5, 9), (4, 2)),
    ((2, 3), (5, 6)),
]


class TestAgentAttention:
    @pytest.mark.parametrize(("size", "shape"), SIZES)
    def test_definition(self, size: tuple[int, int], shape: tuple[int, int] | None):
        attn = randomised(AgentAttention(8, 2, 4, (6, 8), agent_shape=shape))
        x = torch.randn(2, *size, 8, dtype=torch.float64)
        expected = agent_attention(attn, x.flatten(1, 2), size, shape or (2, 2)).unflatten(1, size)
        torch.testing.assert_close(attn(x), expected)
        with torch.no_grad():
            torch.testing.assert_close(attn.eval()(x), expected)

    @pytest.mark.parametrize(("size", "shape"), SIZES)
    def test_definition_with_a_class_token(self, size: tuple[int, int], shape: tuple[int, int] | None):
        attn = randomised(ClassTokenAgentAttention(8, 2, 4, (6, 8), agent_shape=shape))
        x = torch.randn(2, 1 + size[0] * size[1], 8, dtype=torch.float64)
        expected = agent_attention(attn, x, size, shape or (2, 2))
        torch.testing.assert_close(attn(x, size), expected)
        with torch.no_grad():
            torch.testing.assert_close(attn.eval()(x, size), expected)

    @pytest.mark.parametrize("shape", [None, (3, 1)])
    @pytest.mark.parametrize("has_class_token", [False, True])
    def test_gradients_are_those_of_the_definition(self, has_class_token: bool, shape: tuple[int, int] | None):
        size = (5, 4)
        kind = ClassTokenAgentAttention if has_class_token else AgentAttention
        attn = randomised(kind(8, 2, 4, 6, agent_shape=shape))
        x = torch.randn(2, has_class_token + 20, 8, dtype=torch.float64)
        found = attn(x, size) if has_class_token else attn(x.unflatten(1, size)).flatten(1, 2)
        weight = torch.randn_like(found)
        inputs = list(attn.parameters())
        gradients = torch.autograd.grad((found * weight).sum(), inputs)
        expected = torch.autograd.grad((agent_attention(attn, x, size, shape or (2, 2)) * weight).sum(), inputs)
        for (name, _), one, other in zip(attn.named_parameters(), gradients, expected, strict=True):
            torch.testing.assert_close(one, other, msg=name)
            assert one.any(), name

    def test_without_bias_of_queries_keys_and_values(self):
        assert AgentAttention(8, 2, 4, 6, qkv_bias=False).qkv.bias is None

    @pytest.mark.parametrize(
        ("args", "kwargs", "message"),
        [
            ((10, 4), {}, "num_heads must divide dim, got dim=10 and num_heads=4"),
            ((8, 2, 5), {}, "num_agents must be a square number, got 5"),
            ((8, 2, 0), {}, "num_agents must be an integer >= 1"),
            ((8, 2, 4, 0), {}, "grid_size must be a positive integer or a pair of them"),
            ((8, 2, 4, (3, 3, 3)), {}, "grid_size must be a positive integer or a pair of them"),
            ((8, 2, 4, 7), {"agent_shape": (2.0, 2)}, "agent_shape must be a positive integer or a pair of them"),
        ],
    )
    def test_invalid_arguments_raise(self, args: Any, kwargs: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            AgentAttention(*args, **kwargs)


class TestCachedBiases:
    """In inference the biases are kept; whatever changes them is seen."""

    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Counts how often biases are made."""
        calls: list[int] = []
        make = AgentAttention.make_biases

        def counting(attn: AgentAttention, height: int, width: int):
            calls.append(height)
            return make(attn, height, width)

        monkeypatch.setattr(AgentAttention, "make_biases", counting)
        return calls

    @staticmethod
    def module() -> tuple[AgentAttention, torch.Tensor]:
        torch.manual_seed(0)
        return AgentAttention(8, 2, 4, (4, 6)).eval(), torch.randn(2, 4, 6, 8)

    @torch.no_grad()
    def test_they_are_made_once(self, counted: list[int]):
        attn, x = self.module()
        first = attn(x)
        assert torch.equal(attn(x), first)
        assert len(counted) == 1

    def test_they_are_made_anew_where_gradients_are_wanted_or_in_training(self, counted: list[int]):
        attn, x = self.module()
        for _ in range(2):
            attn(x)
        with torch.no_grad():
            attn.train()
            attn(x)
            attn(x)
        assert len(counted) == 4
        attn.eval()(x).sum().backward()
        assert attn.an_bias.grad is not None

    @torch.no_grad()
    def test_a_captured_graph_computes_its_own(self, counted: list[int], monkeypatch: pytest.MonkeyPatch):
        attn, x = self.module()
        attn(x)
        cached = attn._cached
        monkeypatch.setattr(attention, "_is_captured", lambda x: True)
        attn(x)
        assert len(counted) == 2
        assert attn._cached is cached

    @torch.no_grad()
    def test_other_sizes_are_not_cached(self, counted: list[int]):
        attn, x = self.module()
        for _ in range(2):
            attn(x[:, :3])
        assert counted == [3, 3]

    @pytest.mark.parametrize(
        "change", ["in place", "loaded", "assigned", "new parameter", "data", "moved", "optimizer"]
    )
    def test_changes_are_seen(self, change: str):
        attn, x = self.module()
        with torch.no_grad():
            before = attn(x)
        if change == "in place":
            with torch.no_grad():
                attn.ha_bias.add_(1.0 + torch.rand_like(attn.ha_bias))
        elif change in ("loaded", "assigned"):
            state = AgentAttention(8, 2, 4, (4, 6)).state_dict()
            attn.load_state_dict(state, assign=change == "assigned")
        elif change == "new parameter":
            attn.an_bias = nn.Parameter(torch.randn_like(attn.an_bias))
        elif change == "data":
            attn.wa_bias.data = torch.randn_like(attn.wa_bias)
        elif change == "moved":
            attn.double()
            x = x.double()
        else:
            attn(x).square().sum().backward()
            torch.optim.SGD(attn.parameters(), lr=1.0).step()
        with torch.no_grad():
            after = attn(x)
            fresh = AgentAttention(8, 2, 4, (4, 6)).to(x.dtype)
            fresh.load_state_dict(attn.state_dict())
            assert torch.equal(after, fresh.eval()(x))
            assert after.dtype != before.dtype or not torch.equal(after, before)

    @torch.no_grad()
    def test_layers_of_another_precision_are_seen(self):
        attn, x = self.module()
        before = attn(x)
        for layer in (attn.qkv, attn.dwc, attn.proj):
            layer.double()
        torch.testing.assert_close(attn(x.double()).float(), before)

    @torch.no_grad()
    def test_writing_through_data_is_seen_after_eval(self):
        attn, x = self.module()
        before = attn(x)
        attn.ah_bias.data.normal_()
        attn.eval()
        assert not torch.equal(attn(x), before)

    @torch.no_grad()
    def test_copies_and_files_are_independent(self):
        attn, x = self.module()
        before = attn(x)
        other = copy.deepcopy(attn)
        other.aw_bias.normal_()
        assert not torch.equal(other(x), before)
        assert torch.equal(attn(x), before)
        file = io.BytesIO()
        torch.save(attn, file)
        file.seek(0)
        read = torch.load(file, weights_only=False)
        assert torch.equal(read(x), before)
        read.ha_bias.normal_()
        assert not torch.equal(read(x), before)
        assert attn.state_dict().keys() == AgentAttention(8, 2, 4, (4, 6)).state_dict().keys()

    def test_functional_calls_and_inference_mode_are_right(self):
        attn, x = self.module()
        other, _ = self.module()
        with torch.no_grad():
            for parameter in other.parameters():
                nn.init.normal_(parameter)
            expected, own = other(x), attn(x)
            weights: dict[str, torch.Tensor] = dict(other.named_parameters())
            assert torch.equal(torch.func.functional_call(attn, weights, (x,)), expected)
            # Plain tensors in place of parameters take no fast path, so the last bits may differ.
            torch.testing.assert_close(torch.func.functional_call(attn, other.state_dict(), (x,)), expected)
            assert torch.equal(attn(x), own)
        with torch.inference_mode():
            assert torch.equal(attn(x), own)
            made, _ = self.module()
            made(x)
            made.an_bias.normal_()
            made.na_bias.normal_()
            result = made(x)
            assert not torch.equal(result, own)

    def test_a_compiled_module_sees_changes(self):
        attn, x = self.module()
        with torch.no_grad():
            attn(x)
            compiled = torch.compile(attn, backend="eager", fullgraph=True)
            torch.testing.assert_close(compiled(x), attn(x))
            attn.na_bias.normal_()
            torch.testing.assert_close(compiled(x), attn(x))
