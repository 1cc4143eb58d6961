"""What whole models are measured against: timm's models of the same names, and the plainest way to write them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import timm
import torch
from torch import nn

from attnzoo import list_models, load_weights
from attnzoo.backbones import list_families, van
from attnzoo.backbones.agent.attention import AgentAttention, ClassTokenAgentAttention
from attnzoo.backbones.biformer import BiLevelRoutingAttention
from attnzoo.backbones.common.conv import ConvNormAct
from attnzoo.backbones.common.layers import pad_bottom_right
from attnzoo.backbones.common.linear import Linear, Mlp
from attnzoo.backbones.nat import NeighborhoodAttention
from attnzoo.kernels import route_regions
from attnzoo.tools.benchmarking.attention_baselines import Attention, FlexAttention, GatherAttention, UnfoldAttention

_TIMM_NAMES = {"halonet_h1_timm": "halonet_h1", "halonet_h1": ""}
"""timm's names of models that have another name here; none for one that is another model there."""


def timm_model(name: str, model: nn.Module) -> nn.Module:
    """Builds timm's model of the same name and gives both models the same weights.

    Args:
        name: of the model, with or without a tag.
        model: ours; it gets timm's weights.

    Returns:
        timm's model, in evaluation mode.

    Raises:
        ValueError: timm has no model of that name.
    """
    name = name.partition(".")[0]
    theirs = _TIMM_NAMES.get(name, name)
    if not timm.is_model(theirs):
        raise ValueError(f"timm has no {name!r} to measure against.")
    other = timm.create_model(theirs, pretrained=False).eval()
    randomize_statistics(other)
    load_weights(model, other.state_dict())
    return other


def randomize_statistics(model: nn.Module) -> None:
    """Gives batch norms scales and statistics unlike those that they begin with, so that no branch is a zero."""
    noise = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                for tensor in (module.weight, module.running_var):
                    assert tensor is not None
                    tensor.copy_(torch.rand(tensor.shape, generator=noise) * 0.5 + 0.75)


def plain_model(name: str, model: nn.Module) -> nn.Module:
    """Copies a model, with its attention written the plainest way in PyTorch; `PLAIN` says what that is.

    Raises:
        ValueError: no plain way is written for the model's family.
    """
    family = next(one for one in list_families() if name.partition(".")[0] in list_models(family=one))
    if family not in PLAIN:
        raise ValueError(f"No plain way is written for the family {family!r} of {name!r}; there are {sorted(PLAIN)}.")
    return _swap(PLAIN[family](copy.deepcopy(model)), _PLAIN_LAYERS)


def flex_model(name: str, model: nn.Module) -> nn.Module:
    """Copies a NAT or DiNAT without dilation, with PyTorch's FlexAttention in place of the fused operation.

    Raises:
        ValueError: the model has no neighborhood attention.
    """
    other = _swap(copy.deepcopy(model), {NeighborhoodAttention: _FlexNeighborhoodAttention})
    if not any(isinstance(module, _FlexNeighborhoodAttention) for module in other.modules()):
        raise ValueError(f"{name!r} has no neighborhood attention, so there is no FlexAttention to measure against.")
    return other


class _PlainNeighborhoodAttention(NeighborhoodAttention):
    """Neighborhood attention by unfolding keys and values, softmax and einsum, without dilation."""

    attention = staticmethod(UnfoldAttention)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        x = pad_bottom_right(x, self.kernel_size, self.kernel_size)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        attend = _attention(type(self).attention, self.kernel_size)
        x = attend(query, key, value, self.rpb)
        return self.proj_drop(self.proj(x[:, :height, :width].flatten(3)))


class _FlexNeighborhoodAttention(_PlainNeighborhoodAttention):
    """Neighborhood attention by FlexAttention, without dilation."""

    attention = staticmethod(FlexAttention)


@functools.cache
def _attention(kind: type, kernel_size: int) -> Attention:
    """One attention for all blocks, whose tables and compiled kernels are kept."""
    return kind(kernel_size)


def _plain_nat(model: nn.Module) -> nn.Module:
    dilated = [one for one in model.modules() if isinstance(one, NeighborhoodAttention) and one.dilation > 1]
    if dilated:
        raise ValueError("The plain way of neighborhood attention is written without dilation.")
    return _swap(model, {NeighborhoodAttention: _PlainNeighborhoodAttention})


class _PlainRoutingAttention(BiLevelRoutingAttention):
    """Routing attention that gathers a copy of keys and values for every region."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        query, key, value = self._project(x)
        routes = route_regions(query, key, self.num_regions, self.topk)
        out = GatherAttention(self.num_regions, self.scale)(query, key, value, routes).flatten(3)
        if self.lepe is not None:
            out = out + self.lepe(value.flatten(3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.proj(out[:, :height, :width])


class _PlainAgentAttention(AgentAttention):
    """Agent attention by products and softmax, with biases made on every call."""

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
            one.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for one in (query, key, value, agents)
        )
        gathered = (self.scale * agents @ key.transpose(-2, -1) + biases[0]).softmax(-1) @ value
        out = (self.scale * query @ agents.transpose(-2, -1) + biases[1]).softmax(-1) @ gathered
        return out.transpose(1, 2).flatten(2)


class _PlainClassTokenAgentAttention(_PlainAgentAttention, ClassTokenAgentAttention):
    """The same with a class token."""


class _PlainVanBlock(van.Block):
    """VAN's block as convolutions of maps whose channels come first in memory."""

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
    """VAN's stem, which leaves the memory order of the images as it is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x)).permute(0, 2, 3, 1)


class _PlainMlp(Mlp):
    """Two linear layers with an activation between them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class _PlainConvNormAct(ConvNormAct):
    """A convolution, a batch norm, an activation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))


_PLAIN_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    Linear: nn.Linear,
    Mlp: _PlainMlp,
    ConvNormAct: _PlainConvNormAct,
}

PLAIN: dict[str, Callable[[nn.Module], nn.Module]] = {
    "agent": lambda model: _swap(
        model,
        {AgentAttention: _PlainAgentAttention, ClassTokenAgentAttention: _PlainClassTokenAgentAttention},
    ),
    "biformer": lambda model: _swap(model, {BiLevelRoutingAttention: _PlainRoutingAttention}),
    "nat": _plain_nat,
    "van": lambda model: _swap(model, {van.Block: _PlainVanBlock, van.Stem: _PlainVanStem}),
}
"""For each family, what makes the plain way of a model. Linear layers, MLPs and convolutions are PyTorch's plain ones.

agent: products, softmax, products; biases interpolated on every call.
biformer: keys and values gathered to one copy for every region, products, softmax, products.
nat: keys and values unfolded to one copy for every query, einsum, softmax, einsum.
van: convolutions, batch norms and activations one after the other, channels first in memory, as the official code.
"""

AGAINST: dict[str, Callable[[str, nn.Module], nn.Module]] = {
    "timm": timm_model,
    "plain": plain_model,
    "flex": flex_model,
}
"""What a model can be measured against: each makes the other model of a name and our model."""


def _swap(model: nn.Module, classes: dict[type[nn.Module], type[nn.Module]]) -> nn.Module:
    """Gives modules another class with the same parameters, and so another `forward`."""
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]
    return model
