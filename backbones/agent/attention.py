"""Agent attention: a few agent tokens aggregate all keys and broadcast the result to all queries."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels.tracing import fx_leaf
from ..common.attention import scaled_dot_product_attention
from ..common.checks import check_heads, check_positive, to_pair
from ..common.conv import apply_nhwc
from ..common.fast_paths import is_eager_inference
from ..common.init import init_linear, trunc_normal_
from ..common.linear import linear

COARSE_SIZE = 7
"""Side of the coarse bias maps, which are interpolated to any feature map."""


class AgentAttention(nn.Module):
    """Multi-head attention through agent tokens, in two steps of linear cost.

    The agents are the queries averaged over a coarse grid. They attend to all keys; then every query attends to the
    agents, with the agents' results as values:

        agent_values = softmax(scale * agents keys^T + position_bias) values
        out = softmax(scale * queries agents^T + agent_bias) agent_values + dwc(values)

    `dwc` is a depthwise 3x3 convolution of the values. Both biases are learned per head and agent, each as the sum of a
    coarse 7x7 map, bilinearly interpolated to the feature map, one term per row and one term per column. The row and
    column terms belong to the feature map that the module was built for (`grid_size`) and are interpolated for other
    sizes. If `agent_shape` differs from the square of `num_agents`, the biases are also interpolated along the agent
    grid, as in the official code for dense prediction.

    In inference, biases for `grid_size` are cached between calls. They are recomputed after a parameter was changed in
    place, replaced, moved or loaded, and after `train()` or `eval()`; only a write through `.data` between two
    inferences is not noticed.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads; must divide `dim`.
        num_agents: Number of agents that the biases are built for, a square number.
        grid_size: Height and width of the feature map that the biases are built for; an int for a square.
        agent_shape: Height and width of the agent grid; None for the square of `num_agents`. It may be rectangular and
            larger than the feature map.
        qkv_bias: Whether the query, key and value projection has a bias.
        proj_drop: Dropout rate after the output projection.

    Source: "Agent Attention: On the Integration of Softmax and Linear Attention" (ECCV 2024), section 4.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_agents: int = 49,
        grid_size: int | Sequence[int] = 14,
        *,
        agent_shape: Sequence[int] | None = None,
        qkv_bias: bool = True,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_positive("num_agents", num_agents)
        side = math.isqrt(num_agents)
        if side * side != num_agents:
            raise ValueError(f"num_agents must be a square number, got {num_agents}.")
        height, width = self.grid_size = to_pair("grid_size", grid_size)
        self.num_heads = num_heads
        self.num_agents = num_agents
        self.trained_shape = (side, side)
        self.agent_shape = self.trained_shape if agent_shape is None else to_pair("agent_shape", agent_shape)
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.dwc = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.an_bias = nn.Parameter(torch.empty(num_heads, num_agents, COARSE_SIZE, COARSE_SIZE))
        self.na_bias = nn.Parameter(torch.empty(num_heads, num_agents, COARSE_SIZE, COARSE_SIZE))
        self.ah_bias = nn.Parameter(torch.empty(1, num_heads, num_agents, height, 1))
        self.aw_bias = nn.Parameter(torch.empty(1, num_heads, num_agents, 1, width))
        self.ha_bias = nn.Parameter(torch.empty(1, num_heads, height, 1, num_agents))
        self.wa_bias = nn.Parameter(torch.empty(1, num_heads, 1, width, num_agents))
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self._cached: _CachedBiases | None = None
        self.apply(init_linear)
        for bias in self._bias_parameters():
            trunc_normal_(bias, std=0.02)

    def _bias_parameters(self) -> list[torch.Tensor]:
        """Returns the parameters that the biases are computed from."""
        return [self.an_bias, self.na_bias, self.ah_bias, self.aw_bias, self.ha_bias, self.wa_bias]

    def position_bias(self, height: int, width: int) -> torch.Tensor:
        """Returns the biases (heads, agents, H * W) of agents attending to positions."""
        bias = _resize(self.an_bias, (height, width))
        bias = bias + _resize(self.ah_bias[0], (height, 1)) + _resize(self.aw_bias[0], (1, width))
        return self._resize_agents(bias.flatten(2))

    def agent_bias(self, height: int, width: int) -> torch.Tensor:
        """Returns the biases (heads, H * W, agents) of positions attending to agents."""
        rows = _resize(self.ha_bias[0].permute(0, 3, 1, 2), (height, 1))
        cols = _resize(self.wa_bias[0].permute(0, 3, 1, 2), (1, width))
        bias = _resize(self.na_bias, (height, width)).permute(0, 2, 3, 1)
        bias = bias + rows.permute(0, 2, 3, 1) + cols.permute(0, 2, 3, 1)
        return self._resize_agents(bias.flatten(1, 2).transpose(1, 2)).transpose(1, 2)

    def _resize_agents(self, bias: torch.Tensor) -> torch.Tensor:
        """Interpolates (heads, trained agents, positions) to (heads, agents, positions) along the agent grid."""
        if self.agent_shape == self.trained_shape:
            return bias
        bias = _resize(bias.transpose(1, 2).unflatten(2, self.trained_shape), self.agent_shape)
        return bias.flatten(2).transpose(1, 2)

    def make_biases(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the biases of agents (heads, agents, keys) and of queries (heads, queries, agents)."""
        return self.position_bias(height, width), self.agent_bias(height, width).contiguous()

    def biases(self, x: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the result of `make_biases` in the dtype of `x`, cached from the previous call if still valid."""
        # A CUDA graph computes its own biases, as it would go on reading cached ones after they were replaced.
        is_cacheable = is_eager_inference(x) and not _is_captured(x)
        if self.training or not is_cacheable or (height, width) != self.grid_size:
            return _cast(self.make_biases(height, width), x.dtype)
        parameters = self._bias_parameters()
        if self._cached is None or not self._cached.is_valid(parameters, x.dtype):
            self._cached = _CachedBiases.of(parameters, _cast(self.make_biases(height, width), x.dtype))
            if self._cached is None:
                return _cast(self.make_biases(height, width), x.dtype)
        return self._cached.biases

    def train(self, mode: bool = True) -> AgentAttention:
        """Sets training or inference mode and clears the cached biases."""
        self._cached = None
        return super().train(mode)

    def pool(self, query: torch.Tensor) -> torch.Tensor:
        """Averages queries (B, H, W, C) over the agent grid: (B, agents, C)."""
        return _pool_to_grid(query.permute(0, 3, 1, 2), self.agent_shape).permute(0, 2, 3, 1).flatten(1, 2)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        agents: torch.Tensor,
        biases: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Computes both attention steps.

        Args:
            query: (B, N, C).
            key: (B, N, C).
            value: (B, N, C).
            agents: (B, agents, C).
            biases: Biases of agents (heads, agents, N) and of queries (heads, N, agents).

        Returns:
            (B, N, C).
        """
        query, key, value, agents = (
            one.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for one in (query, key, value, agents)
        )
        position_bias, agent_bias = biases
        gathered = scaled_dot_product_attention(agents, key, value, position_bias[None], scale=self.scale)
        out = scaled_dot_product_attention(query, agents, gathered, agent_bias[None], scale=self.scale)
        return out.transpose(1, 2).flatten(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        query, key, value = linear(self.qkv, x).chunk(3, dim=-1)
        biases = self.biases(query, height, width)
        out = self.attend(query.flatten(1, 2), key.flatten(1, 2), value.flatten(1, 2), self.pool(query), biases)
        out = out.unflatten(1, (height, width)) + apply_nhwc(self.dwc, value)
        return self.proj_drop(linear(self.proj, out))

    def extra_repr(self) -> str:
        """Returns the arguments shown when the module is printed."""
        return f"num_heads={self.num_heads}, agent_shape={self.agent_shape}, grid_size={self.grid_size}"


class ClassTokenAgentAttention(AgentAttention):
    """Agent attention with a class token.

    The class token acts as query, key and value, but takes no part in the agents' averages or the convolution. It has
    its own
    biases: `ac_bias` for agents attending to it, `ca_bias` for it attending to agents. Arguments are those of
    `AgentAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_agents: int = 49,
        grid_size: int | Sequence[int] = 14,
        *,
        agent_shape: Sequence[int] | None = None,
        qkv_bias: bool = True,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(
            dim, num_heads, num_agents, grid_size, agent_shape=agent_shape, qkv_bias=qkv_bias, proj_drop=proj_drop
        )
        self.ac_bias = nn.Parameter(torch.empty(1, num_heads, num_agents, 1))
        self.ca_bias = nn.Parameter(torch.empty(1, num_heads, 1, num_agents))
        for bias in (self.ac_bias, self.ca_bias):
            trunc_normal_(bias, std=0.02)

    def _bias_parameters(self) -> list[torch.Tensor]:
        """Returns the parameters that the biases are computed from, including the class token's."""
        own = [self.ac_bias, self.ca_bias] if hasattr(self, "ca_bias") else []
        return [*super()._bias_parameters(), *own]

    def make_biases(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the biases with the class token's entries first."""
        to_class = self._resize_agents(self.ac_bias[0])
        from_class = self._resize_agents(self.ca_bias[0].transpose(1, 2)).transpose(1, 2)
        return (
            torch.cat([to_class, self.position_bias(height, width)], dim=2),
            torch.cat([from_class, self.agent_bias(height, width)], dim=1),
        )

    def forward(self, x: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Maps (B, 1 + H * W, C) to (B, 1 + H * W, C).

        Args:
            x: The class token, followed by the tokens of the feature map in row-major order.
            grid_size: H and W.
        """
        query, key, value = linear(self.qkv, x).chunk(3, dim=-1)
        agents = self.pool(query[:, 1:].unflatten(1, grid_size))
        out = self.attend(query, key, value, agents, self.biases(query, *grid_size))
        convolved = apply_nhwc(self.dwc, value[:, 1:].unflatten(1, grid_size)).flatten(1, 2)
        if is_eager_inference(out):
            out[:, 1:] += convolved
        else:
            out = out + F.pad(convolved, (0, 0, 1, 0))
        return self.proj_drop(linear(self.proj, out))


def _is_captured(x: torch.Tensor) -> bool:
    """Whether operations on `x` are being recorded in a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


class _CachedBiases:
    """Biases cached in inference, with the state of the parameters that they were computed from.

    Args:
        parameters: Parameters that the biases were computed from.
        biases: Biases of agents and of queries.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], biases: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.parameters = parameters  # kept alive, so that no other tensor can reuse their memory
        self.states = [(parameter._version, parameter.data_ptr()) for parameter in parameters]
        self.biases = biases

    @classmethod
    def of(cls, parameters: Sequence[torch.Tensor], biases: tuple[torch.Tensor, torch.Tensor]) -> _CachedBiases | None:
        """Caches biases; returns None if changes of their parameters could not be detected."""
        is_tracked = all(type(parameter) is nn.Parameter and not parameter.is_inference() for parameter in parameters)
        return cls(parameters, biases) if is_tracked else None

    def is_valid(self, parameters: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
        """Whether the parameters are unchanged and the biases have the required dtype."""
        return self.biases[0].dtype == dtype and all(
            (parameter._version, parameter.data_ptr()) == state
            for parameter, state in zip(parameters, self.states, strict=True)
        )


def _cast(biases: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return biases[0].to(dtype), biases[1].to(dtype)


@fx_leaf
def _pool_to_grid(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Averages maps (B, C, H, W) over the cells of a grid: (B, C, *size)."""
    height, width = maps.shape[2:]
    if height % size[0] == 0 and width % size[1] == 0:
        # Equal to adaptive pooling, but with a deterministic gradient on GPUs.
        return F.avg_pool2d(maps, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(maps, size)


@fx_leaf
def _resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Interpolates (..., ..., h, w) bilinearly to (..., ..., *size), without antialiasing."""
    return maps if tuple(maps.shape[2:]) == size else F.interpolate(maps, size, mode="bilinear", align_corners=False)
