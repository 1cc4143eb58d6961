"""Agent attention: a few agents, averages of the queries, gather what all keys hold and hand it to all queries."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..common.checks import check_heads, check_positive, to_pair
from ..common.conv import apply_nhwc
from ..common.fast_paths import is_eager_inference
from ..common.init import init_linear, trunc_normal_
from ..common.linear import linear

COARSE_SIZE = 7
"""Side of the coarse maps of biases, which are stretched over any map."""


class AgentAttention(nn.Module):
    """Multi-head attention through agents, in two steps whose cost is linear in the map.

    The agents are the queries, averaged over a coarse grid. They attend to all keys, then every query attends to the
    agents, with the agents' results as values:

        agent_values = softmax(scale * agents keys^T + position_bias) values
        out = softmax(scale * queries agents^T + agent_bias) agent_values + dwc(values)

    `dwc` is a depthwise 3x3 convolution of the values as a map. Both biases are learned a head and agent, each as the
    sum of a coarse 7x7 map, stretched over the map by bilinear interpolation, a term a row and a term a column. The
    terms a row and a column belong to the map that the module was made for (`grid_size`); on a map of another size they
    are interpolated too. Where `agent_shape` is not the square of `num_agents`, the biases are then interpolated along
    the agents' grid, as in the official code for dense prediction.

    In inference the biases of maps of `grid_size` are kept from call to call. They are computed anew when a parameter
    was changed in place, replaced, moved or loaded, and after `train()` or `eval()`; only a write through `.data`
    between two inferences stays unseen.

    Args:
        dim: channels.
        num_heads: must divide `dim`.
        num_agents: agents that the biases are made for, a square number.
        grid_size: height and width of the map that the biases are made for; an int for a square.
        agent_shape: height and width of the agents' grid; None for the square of `num_agents`. It need not be square,
            nor smaller than the map.
        qkv_bias: whether the layer that makes queries, keys and values has a bias.
        proj_drop: dropout after the output projection.

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
            raise ValueError(f"num_agents must be a square number, but is {num_agents}.")
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
        self._kept: _KeptBiases | None = None
        self.apply(init_linear)
        for bias in self._bias_parameters():
            trunc_normal_(bias, std=0.02)

    def _bias_parameters(self) -> list[torch.Tensor]:
        """Gives everything that the biases are made of."""
        return [self.an_bias, self.na_bias, self.ah_bias, self.aw_bias, self.ha_bias, self.wa_bias]

    def position_bias(self, height: int, width: int) -> torch.Tensor:
        """Gives the biases (heads, agents, H * W) of the agents towards the positions of a map."""
        bias = _resize(self.an_bias, (height, width))
        bias = bias + _resize(self.ah_bias[0], (height, 1)) + _resize(self.aw_bias[0], (1, width))
        return self._resize_agents(bias.flatten(2))

    def agent_bias(self, height: int, width: int) -> torch.Tensor:
        """Gives the biases (heads, H * W, agents) of the positions of a map towards the agents."""
        rows = _resize(self.ha_bias[0].permute(0, 3, 1, 2), (height, 1))
        cols = _resize(self.wa_bias[0].permute(0, 3, 1, 2), (1, width))
        bias = _resize(self.na_bias, (height, width)).permute(0, 2, 3, 1)
        bias = bias + rows.permute(0, 2, 3, 1) + cols.permute(0, 2, 3, 1)
        return self._resize_agents(bias.flatten(1, 2).transpose(1, 2)).transpose(1, 2)

    def _resize_agents(self, bias: torch.Tensor) -> torch.Tensor:
        """Stretches (heads, trained agents, positions) to (heads, agents, positions) along the agents' grid."""
        if self.agent_shape == self.trained_shape:
            return bias
        bias = _resize(bias.transpose(1, 2).unflatten(2, self.trained_shape), self.agent_shape)
        return bias.flatten(2).transpose(1, 2)

    def make_biases(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives what is added to the agents' scores (heads, agents, keys) and the queries' (heads, queries, agents)."""
        return self.position_bias(height, width), self.agent_bias(height, width).contiguous()

    def biases(self, x: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives `make_biases` in the dtype of `x`, from the last call where that is still right."""
        if self.training or (height, width) != self.grid_size or not is_eager_inference(x):
            return _cast(self.make_biases(height, width), x.dtype)
        parameters = self._bias_parameters()
        if self._kept is None or not self._kept.fits(parameters, x.dtype):
            self._kept = _KeptBiases.of(parameters, _cast(self.make_biases(height, width), x.dtype))
            if self._kept is None:
                return _cast(self.make_biases(height, width), x.dtype)
        return self._kept.biases

    def train(self, mode: bool = True) -> AgentAttention:
        """Switches between training and inference and forgets what was kept."""
        self._kept = None
        return super().train(mode)

    def pool(self, query: torch.Tensor) -> torch.Tensor:
        """Averages queries (B, H, W, C) over the agents' grid: (B, agents, C)."""
        rows, cols = self.agent_shape
        height, width = query.shape[1:3]
        if height % rows == 0 and width % cols == 0:
            # The same as below, with a gradient on GPUs that is the same each time.
            pooled = F.avg_pool2d(query.permute(0, 3, 1, 2), (height // rows, width // cols))
        else:
            pooled = F.adaptive_avg_pool2d(query.permute(0, 3, 1, 2), self.agent_shape)
        return pooled.permute(0, 2, 3, 1).flatten(1, 2)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        agents: torch.Tensor,
        biases: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Lets the agents gather from keys and values and the queries from the agents.

        Args:
            query: (B, N, C).
            key: (B, N, C).
            value: (B, N, C).
            agents: (B, agents, C).
            biases: of the agents' scores (heads, agents, N) and of the queries' (heads, N, agents).

        Returns:
            (B, N, C).
        """
        query, key, value, agents = (
            one.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for one in (query, key, value, agents)
        )
        position_bias, agent_bias = biases
        gathered = F.scaled_dot_product_attention(agents, key, value, position_bias[None], scale=self.scale)
        out = F.scaled_dot_product_attention(query, agents, gathered, agent_bias[None], scale=self.scale)
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
        """Says what printing the module shows."""
        return f"num_heads={self.num_heads}, agent_shape={self.agent_shape}, grid_size={self.grid_size}"


class ClassTokenAgentAttention(AgentAttention):
    """Agent attention of a class token and a map.

    The class token is a query, a key and a value, but no part of the agents' averages nor of the convolution. It has
    biases of its own: `ac_bias` for the agents' scores of it, `ca_bias` for its scores of the agents. Arguments are
    those of `AgentAttention`.
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
        """Gives everything that the biases are made of; those of the class token are made last."""
        own = [self.ac_bias, self.ca_bias] if hasattr(self, "ca_bias") else []
        return [*super()._bias_parameters(), *own]

    def make_biases(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives the biases with the class token's before those of the map, as key and as query."""
        of_agents = self._resize_agents(self.ac_bias[0])
        of_class = self._resize_agents(self.ca_bias[0].transpose(1, 2)).transpose(1, 2)
        return (
            torch.cat([of_agents, self.position_bias(height, width)], dim=2),
            torch.cat([of_class, self.agent_bias(height, width)], dim=1),
        )

    def forward(self, x: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Maps (B, 1 + H * W, C) to the same.

        Args:
            x: the class token, then the tokens of the map, row by row.
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


class _KeptBiases:
    """Biases that were computed in inference, with what tells whether their parameters are as they were.

    Args:
        parameters: what the biases were made of.
        biases: of the agents and of the queries.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], biases: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.parameters = parameters  # kept, so that no other tensor can come to lie where they do
        self.states = [(one._version, one.data_ptr()) for one in parameters]
        self.biases = biases

    @classmethod
    def of(cls, parameters: Sequence[torch.Tensor], biases: tuple[torch.Tensor, torch.Tensor]) -> _KeptBiases | None:
        """Keeps biases, or not where a change of their parameters could not be seen."""
        known = all(type(one) is nn.Parameter and not one.is_inference() for one in parameters)
        return cls(parameters, biases) if known else None

    def fits(self, parameters: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
        """Says whether the parameters are unchanged, and the biases of the dtype that is needed."""
        return self.biases[0].dtype == dtype and all(
            (one._version, one.data_ptr()) == state for one, state in zip(parameters, self.states, strict=True)
        )


def _cast(biases: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return biases[0].to(dtype), biases[1].to(dtype)


def _resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Stretches maps (..., ..., h, w) to (..., ..., *size) by bilinear interpolation without antialiasing."""
    return maps if tuple(maps.shape[2:]) == size else F.interpolate(maps, size, mode="bilinear", align_corners=False)
