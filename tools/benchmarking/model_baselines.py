"""Baselines of complete models: timm's models of the same names, plain PyTorch implementations, and FlexAttention."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import timm
import torch
from torch import nn

from attnzoo import list_models, load_weights
from attnzoo.backbones import list_families
from attnzoo.backbones.agent.attention import AgentAttention, ClassTokenAgentAttention
from attnzoo.backbones.biformer import BiLevelRoutingAttention
from attnzoo.backbones.common.conv import ConvNormAct
from attnzoo.backbones.common.linear import Mlp
from attnzoo.backbones.common.padding import pad_bottom_right
from attnzoo.backbones.nat import NeighborhoodAttention
from attnzoo.backbones.van import model as van
from attnzoo.kernels import route_regions
from attnzoo.tools.benchmarking.attention_baselines import Attention, FlexAttention, GatherAttention, UnfoldAttention
from attnzoo.tools.benchmarking.names import BASELINE_NAMES

_TIMM_NAMES = {"halonet_h1_timm": "halonet_h1", "halonet_h1": ""}
"""timm's names of models that are called differently here; empty if timm uses the name for another model."""


def timm_model(name: str, model: nn.Module) -> nn.Module:
    """Builds timm's model of the same name and copies its weights into ours.

    Args:
        name: Name of the model, with or without a tag.
        model: attnzoo's model, which gets the weights of timm's.

    Returns:
        timm's model, in evaluation mode.

    Raises:
        ValueError: If timm has no model of that name.
    """
    name = name.partition(".")[0]
    timm_name = _TIMM_NAMES.get(name, name)
    if not timm.is_model(timm_name):
        raise ValueError(f"timm has no model {name!r} to compare with.")
    other = timm.create_model(timm_name, pretrained=False).eval()
    randomize_statistics(other)
    load_weights(model, other.state_dict())
    return other


def randomize_statistics(model: nn.Module) -> None:
    """Sets scales and variances of batch norms to random values, since some scales are initialized to zero."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                for tensor in (module.weight, module.running_var):
                    assert tensor is not None
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.75)


def plain_model(name: str, model: nn.Module) -> nn.Module:
    """Copies a model and implements its attention in plain PyTorch, as `PLAIN_MODELS` describes.

    Raises:
        ValueError: If there is no plain implementation for the model's family.
    """
    family = next(family for family in list_families() if name.partition(".")[0] in list_models(family=family))
    if family not in PLAIN_MODELS:
        known = ", ".join(sorted(PLAIN_MODELS))
        raise ValueError(f"{name!r} is of the family {family!r}, but plain implementations exist only for {known}.")
    return _replace_classes(PLAIN_MODELS[family](copy.deepcopy(model)), _PLAIN_LAYERS)


def flex_model(name: str, model: nn.Module) -> nn.Module:
    """Copies a model without dilation and replaces its neighborhood attention by PyTorch's FlexAttention.

    Raises:
        ValueError: If the model has no neighborhood attention.
    """
    other = _replace_classes(copy.deepcopy(model), {NeighborhoodAttention: _FlexNeighborhoodAttention})
    if not any(isinstance(module, _FlexNeighborhoodAttention) for module in other.modules()):
        raise ValueError(f"{name!r} has no neighborhood attention, which FlexAttention could replace.")
    return other


class _PlainNeighborhoodAttention(NeighborhoodAttention):
    """Neighborhood attention without dilation that unfolds keys and values and multiplies with einsum."""

    attention = staticmethod(UnfoldAttention)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        x = pad_bottom_right(x, self.kernel_size, self.kernel_size)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        attend = _shared_attention(type(self).attention, self.kernel_size)
        x = attend(query, key, value, self.rpb)
        return self.proj_drop(self.proj(x[:, :height, :width].flatten(3)))


class _FlexNeighborhoodAttention(_PlainNeighborhoodAttention):
    """Neighborhood attention without dilation, computed by FlexAttention."""

    attention = staticmethod(FlexAttention)


@functools.cache
def _shared_attention(attention: type, kernel_size: int) -> Attention:
    """Builds one attention function for all blocks, which share its tables and compiled kernels."""
    return attention(kernel_size)


def _plain_nat(model: nn.Module) -> nn.Module:
    if any(isinstance(module, NeighborhoodAttention) and module.dilation > 1 for module in model.modules()):
        raise ValueError("The plain implementation of neighborhood attention has no dilation, but the model has.")
    return _replace_classes(model, {NeighborhoodAttention: _PlainNeighborhoodAttention})


class _PlainRoutingAttention(BiLevelRoutingAttention):
    """Routing attention that copies the keys and values of its routes for every region."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        query, key, value = self._project(x)
        routes = route_regions(query, key, self.num_regions, self.topk)
        out = GatherAttention(self.num_regions, self.scale)(query, key, value, routes).flatten(3)
        if self.lepe is not None:
            out = out + self.lepe(value.flatten(3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.proj(out[:, :height, :width])


class _PlainAgentAttention(AgentAttention):
    """Agent attention by matrix products and softmax, which interpolates its biases in every call."""

    def biases(self, x: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.make_biases(height, width)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        agents: torch.Tensor,
        biases: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        query, key, value, agents = (
            tensor.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for tensor in (query, key, value, agents)
        )
        gathered = (self.scale * agents @ key.transpose(-2, -1) + biases[0]).softmax(-1) @ value
        out = (self.scale * query @ agents.transpose(-2, -1) + biases[1]).softmax(-1) @ gathered
        return out.transpose(1, 2).flatten(2)


class _PlainClassTokenAgentAttention(_PlainAgentAttention, ClassTokenAgentAttention):
    """Plain agent attention with a class token."""


class _PlainVanBlock(van.VANBlock):
    """VAN's block on maps in channels-first memory format."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 3, 1, 2).contiguous()
        attn, mlp = self.attn, self.mlp
        normed = self.norm1(x)
        gated = attn.act(attn.proj_1(normed))
        gated = gated * attn.conv1(attn.conv_spatial(attn.conv0(gated)))
        x = x + self.ls1.gamma[:, None, None] * (normed + attn.proj_2(gated))
        x = x + self.ls2.gamma[:, None, None] * mlp.fc2(mlp.act(mlp.dwconv(mlp.fc1(self.norm2(x)))))
        return x.permute(0, 2, 3, 1)


class _PlainVanStem(van.Stem):
    """VAN's stem, which keeps the memory format of the images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x)).permute(0, 2, 3, 1)


class _PlainLinear(nn.Linear):
    """A linear layer that has no faster path, because its type is not `nn.Linear`."""


class _PlainMlp(Mlp):
    """Two linear layers with an activation in between."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class _PlainConvNormAct(ConvNormAct):
    """Convolution, batch norm and activation as separate modules."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))


_PLAIN_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _PlainLinear,
    Mlp: _PlainMlp,
    ConvNormAct: _PlainConvNormAct,
}

PLAIN_MODELS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "agent": lambda model: _replace_classes(
        model,
        {AgentAttention: _PlainAgentAttention, ClassTokenAgentAttention: _PlainClassTokenAgentAttention},
    ),
    "biformer": lambda model: _replace_classes(model, {BiLevelRoutingAttention: _PlainRoutingAttention}),
    "nat": _plain_nat,
    "van": lambda model: _replace_classes(model, {van.VANBlock: _PlainVanBlock, van.Stem: _PlainVanStem}),
}
"""Converts a model of each family to a plain implementation. Linear layers, MLPs and convolutions become PyTorch's own.

agent: Matrix products and softmax; biases are interpolated in every call.
biformer: Keys and values are gathered into one copy per region, then matrix products and softmax.
nat: Keys and values are unfolded into one copy per query, then einsum and softmax.
van: Separate convolutions, batch norms and activations in channels-first memory format, like the official code.
"""

BASELINES: dict[str, Callable[[str, nn.Module], nn.Module]] = {
    "timm": timm_model,
    "plain": plain_model,
    "flex": flex_model,
}
"""Builds each baseline from a model's name and attnzoo's model."""
assert tuple(BASELINES) == BASELINE_NAMES


def _replace_classes(model: nn.Module, classes: dict[type[nn.Module], type[nn.Module]]) -> nn.Module:
    """Changes the class of modules, and thereby their `forward`, but not their parameters."""
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]
    return model
