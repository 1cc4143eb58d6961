"""What whole models are measured against: timm's models of the same names, and the plainest way to write them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import timm
import torch
from torch import nn

from attnzoo import list_models, load_weights
from attnzoo.backbones import list_families
from attnzoo.backbones.layers import pad_bottom_right
from attnzoo.backbones.nat import NeighborhoodAttention
from attnzoo.tools.attention_baselines import Attention, FlexAttention, UnfoldAttention


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
    if not timm.is_model(name):
        raise ValueError(f"timm has no {name!r} to measure against.")
    other = timm.create_model(name, pretrained=False).eval()
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
    return PLAIN[family](copy.deepcopy(model))


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


PLAIN: dict[str, Callable[[nn.Module], nn.Module]] = {
    "nat": _plain_nat,
}
"""For each family, what makes the plain way of a model.

nat: keys and values unfolded to one copy for every query (F.unfold's way), einsum, softmax, einsum.
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
