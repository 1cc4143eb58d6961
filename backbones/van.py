"""Visual attention networks, VAN-B0 to B6: convolutional networks whose attention is a product with a large kernel.

Paper:
    Guo, Lu, Liu, Cheng, Hu: "Visual Attention Network", Computational Visual Media 2023,
    https://arxiv.org/abs/2202.09741

A map is multiplied by what a depthwise convolution, a dilated depthwise convolution and a 1x1 convolution make of it.
The MLPs have a depthwise convolution inside. Blocks begin with batch norms; a layer norm ends each stage, in the main
path: `FeatureMaps` returns the maps behind it, as the official code for segmentation does.

What deviates from the official code, and why:
- The official code for segmentation gives these layer norms an eps of 1e-5, the one for classification 1e-6. Here it is
  1e-6 unless `norm_eps` says otherwise; the outputs differ by about 4e-6.
- Maps are channels last in memory, and on CPUs the dilated convolution runs on the grids of every third row and column,
  which gives the same numbers (see `dilated_depthwise`).
- Stochastic depth is off unless asked for: the published rates belong to the training recipes. `drop_rate` is the
  head's dropout; the one in the MLPs, which the official code calls so, is `proj_drop_rate`.
- The official `reset_classifier` fails, and its `pretrained=True` fails for B4 to B6; these do what they say here.

Images are normalised with a mean and a standard deviation of 0.5, those of the ImageNet-22K models with ImageNet's (the
script that trained them is LGYoung/VAN-Classification's). The README of the official code, which is under
Apache 2.0, adds: "For commercial use, please contact the authors".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..kernels.backends import exportable_operators_requested
from .common.layers import (
    Backbone,
    DropPath,
    LayerScale,
    PooledHead,
    Stage,
    check_positive,
    check_rate,
    drop_path_rates,
    pad_bottom_right,
    strip_prefixes,
)
from .registry import IMAGENET_MEAN, IMAGENET_STD, PretrainedCfg, register_model


def init_conv(module: nn.Module) -> None:
    """Initialises a convolution: a normal of variance 2 / fan-out, the fan-out a group's; no bias."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def dilated_depthwise(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """Runs a dilated depthwise convolution without dilation, on each grid of rows and columns that it connects.

    A kernel of dilation d sees, from any position, only positions whose row and column have the same remainders by d.
    These make d * d small maps, on which the kernel is an ordinary one. Libraries for CPUs have fast code for ordinary
    depthwise kernels alone: at VAN's sizes this is 5 to 25 times as fast, and the sums are the same.

    Args:
        x: maps (B, H, W, C).
        conv: depthwise, with an odd square kernel, one dilation, stride 1, padded to keep the size.

    Returns:
        (B, H, W, C).
    """
    batch, height, width = x.shape[:3]
    step, reach = conv.dilation[0], conv.kernel_size[0] // 2
    rows, cols = -(-height // step), -(-width // step)
    x = pad_bottom_right(x, rows * step, cols * step)
    x = x.unflatten(1, (rows, step)).unflatten(3, (cols, step)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    x = F.conv2d(x.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=reach, groups=conv.groups).permute(0, 2, 3, 1)
    x = x.unflatten(0, (batch, step, step)).permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
    return x[:, :height, :width]


def apply_nhwc(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Applies a module for (B, C, H, W) to a map (B, H, W, C); nothing is copied."""
    return module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def pointwise(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Runs a 1x1 convolution on (B, H, W, C) as the matrix product that it is; PyTorch's convolutions are slower."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


class LargeKernelAttention(nn.Module):
    """Gates a map by convolutions with a large kernel, between two 1x1 convolutions, with a shortcut around it all.

    The large kernel is taken apart into a depthwise kernel of 2 * dilation - 1, a depthwise kernel of
    kernel_size / dilation (rounded up to odd) with that dilation, and a 1x1 convolution. No activation follows: the
    gate is not bounded.

    Args:
        dim: channels.
        num_heads: not used; every channel is a head of its own. Here so that all attention modules can be called alike.
        kernel_size: side of the large kernel.
        dilation: of its second part.
        proj_drop: dropout after the last convolution.

    Source: "Visual Attention Network", section 3.1 and figure 3; the published models have a kernel of 21, dilation 3.
    """

    def __init__(
        self, dim: int, num_heads: int = 1, kernel_size: int = 21, dilation: int = 3, *, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("num_heads", num_heads)
        check_positive("kernel_size", kernel_size)
        check_positive("dilation", dilation)
        local, wide = 2 * dilation - 1, -(-kernel_size // dilation) // 2 * 2 + 1
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.act = nn.GELU()
        self.conv0 = nn.Conv2d(dim, dim, local, padding=local // 2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, wide, padding=wide // 2 * dilation, dilation=dilation, groups=dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.proj_2 = nn.Conv2d(dim, dim, 1)
        self.proj_drop = nn.Dropout(proj_drop)
        self.apply(init_conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        gated = self.act(pointwise(self.proj_1, x))
        gate = apply_nhwc(self.conv0, gated)
        if x.is_cpu and self.conv_spatial.dilation[0] > 1 and not exportable_operators_requested():
            gate = dilated_depthwise(gate, self.conv_spatial)
        else:
            gate = apply_nhwc(self.conv_spatial, gate)
        gated = gated * pointwise(self.conv1, gate)
        return x + self.proj_drop(pointwise(self.proj_2, gated))


class ConvMlp(nn.Module):
    """MLP with a depthwise 3x3 convolution before its activation.

    Args:
        dim: channels.
        hidden: channels between the two 1x1 convolutions.
        drop: dropout after the activation and at the end.
    """

    def __init__(self, dim: int, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.drop = nn.Dropout(drop)
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.apply(init_conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x = self.drop(self.act(apply_nhwc(self.dwconv, pointwise(self.fc1, x))))
        return self.drop(pointwise(self.fc2, x))


class Block(nn.Module):
    """Large kernel attention and MLP, each behind a batch norm, with a residual connection and a layer scale.

    Args:
        dim: channels.
        mlp_ratio: hidden channels of the MLP over `dim`.
        layer_scale: initial value of the factors a channel on each branch.
        kernel_size: of the attention.
        dilation: of the attention.
        proj_drop: dropout in the MLP.
        drop_path: rate of stochastic depth, the same for both branches.
    """

    def __init__(
        self,
        dim: int,
        mlp_ratio: float,
        layer_scale: float,
        kernel_size: int,
        dilation: int,
        proj_drop: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = LargeKernelAttention(dim, kernel_size=kernel_size, dilation=dilation)
        self.ls1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = ConvMlp(dim, int(dim * mlp_ratio), proj_drop)
        self.ls2 = LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x = x + self.drop_path(self.ls1(self.attn(apply_nhwc(self.norm1, x))))
        return x + self.drop_path(self.ls2(self.mlp(apply_nhwc(self.norm2, x))))


class Downsample(nn.Module):
    """An overlapping convolution of stride 2, then a batch norm."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(dim)
        init_conv(self.proj)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W, in_dim) to (B, ceil(H / 2), ceil(W / 2), dim)."""
        return self.norm(self.proj(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


class Stem(nn.Module):
    """An overlapping 7x7 convolution of stride 4, then a batch norm."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, 7, stride=4, padding=3)
        self.norm = nn.BatchNorm2d(dim)
        init_conv(self.proj)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_chans, H, W) to (B, ceil(H / 4), ceil(W / 4), dim)."""
        x = x.contiguous(memory_format=torch.channels_last)
        return self.norm(self.proj(x)).permute(0, 2, 3, 1)


class NormedStage(Stage):
    """A stage whose map passes a layer norm on its way to whatever follows."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], dim: int, norm_eps: float) -> None:
        super().__init__(downsample, blocks)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps the output of the stage before to this stage's."""
        return self.norm(super().forward(x))


class VAN(Backbone):
    """Visual attention network.

    Initial values as published: convolutions from a normal of variance 2 / fan-out, the classifier from a truncated
    normal of std 0.02, no biases.

    Args:
        depths: blocks of each stage.
        embed_dims: channels of each stage.
        mlp_ratios: hidden channels of the MLPs over a stage's channels, of each stage.
        kernel_size: side of the attention's large kernel.
        dilation: of its dilated part.
        layer_scale: initial value of a learned factor a channel on each residual branch.
        num_classes: 0 leaves the classifier out.
        in_chans: channels of the images.
        global_pool: "avg", "max" or "" (no pooling, which needs num_classes 0).
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout in the MLPs.
        drop_path_rate: stochastic depth of the last block; earlier blocks' rates grow linearly from 0.
        norm_eps: of the layer norms that end the stages.

    Raises:
        ValueError: an argument is out of its range, or does not fit another; the message names it.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 5, 2),
        embed_dims: Sequence[int] = (32, 64, 160, 256),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        kernel_size: int = 21,
        dilation: int = 3,
        layer_scale: float = 1e-2,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        _check_stages(depths, embed_dims, mlp_ratios)
        check_positive("in_chans", in_chans)
        check_rate("proj_drop_rate", proj_drop_rate)
        check_rate("drop_path_rate", drop_path_rate)
        rates = drop_path_rates(drop_path_rate, depths)

        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.feature_info = []
        self.stem = Stem(in_chans, embed_dims[0])
        stages = []
        for index, (depth, dim, mlp_ratio) in enumerate(zip(depths, embed_dims, mlp_ratios, strict=True)):
            lead = Downsample(embed_dims[index - 1], dim) if index else nn.Identity()
            blocks = [
                Block(dim, mlp_ratio, layer_scale, kernel_size, dilation, proj_drop_rate, rates[index][place])
                for place in range(depth)
            ]
            stages.append(NormedStage(lead, blocks, dim, norm_eps))
            self.feature_info.append({"num_chs": dim, "reduction": 4 * 2**index, "module": f"stages.{index}"})
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()  # the last stage's own norm is the final one
        self.head = PooledHead(self.num_features, num_classes, global_pool, drop_rate)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Gives the layer groups in order; a stage's norm comes after its blocks."""
        groups = super().group_matcher(coarse)
        if not coarse:
            groups["blocks"] = [(r"^stages\.(\d+)\.norm", (99999,)), *groups["blocks"]]
        return groups


def _check_stages(depths: Sequence[int], embed_dims: Sequence[int], mlp_ratios: Sequence[float]) -> None:
    """Raises a ValueError unless the three name the same stages, of at least one block each."""
    if not len(depths) or not len(depths) == len(embed_dims) == len(mlp_ratios):
        raise ValueError(
            "depths, embed_dims and mlp_ratios need one number a stage, "
            f"but have {len(depths)}, {len(embed_dims)} and {len(mlp_ratios)}."
        )
    for index, (depth, dim, mlp_ratio) in enumerate(zip(depths, embed_dims, mlp_ratios, strict=True)):
        check_positive(f"depths[{index}]", depth)
        check_positive(f"embed_dims[{index}]", dim)
        if not mlp_ratio * dim >= 1:
            raise ValueError(f"mlp_ratios[{index}] must leave at least one hidden channel, but is {mlp_ratio!r}.")


_TRANSFORMERS = (
    (r"^van\.", ""),
    (r"^encoder\.stages\.(\d+)\.embeddings\.convolution\.", r"stages.\1.downsample.proj."),
    (r"^encoder\.stages\.(\d+)\.embeddings\.normalization\.", r"stages.\1.downsample.norm."),
    (r"^encoder\.stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
    (r"^encoder\.stages\.(\d+)\.normalization\.", r"stages.\1.norm."),
    (r"\.pre_normomalization\.", ".norm1."),
    (r"\.post_normalization\.", ".norm2."),
    (r"\.attention\.pre_projection\.conv\.", ".attn.proj_1."),
    (r"\.attention\.attention_layer\.attention\.depth_wise\.", ".attn.conv0."),
    (r"\.attention\.attention_layer\.attention\.depth_wise_dilated\.", ".attn.conv_spatial."),
    (r"\.attention\.attention_layer\.attention\.point_wise\.", ".attn.conv1."),
    (r"\.attention\.post_projection\.", ".attn.proj_2."),
    (r"\.attention_scaling\.weight$", ".ls1.gamma"),
    (r"\.mlp_scaling\.weight$", ".ls2.gamma"),
    (r"\.mlp\.in_dense\.", ".mlp.fc1."),
    (r"\.mlp\.depth_wise\.", ".mlp.dwconv."),
    (r"\.mlp\.out_dense\.", ".mlp.fc2."),
    (r"^stages\.0\.downsample\.", "stem."),
    (r"^classifier\.", "head.fc."),
)
_OFFICIAL_AND_OPENMMLAB = (
    (r"\.projection\.", ".proj."),
    (r"^patch_embed1\.", "stem."),
    (r"^patch_embed(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.downsample."),
    (r"^blocks?(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.blocks."),
    (r"^norm(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.norm."),
    (r"\.layer_scale_([12])$", r".ls\1.gamma"),
    (r"\.spatial_gating_unit\.", "."),
    (r"\.DW_conv\.", ".conv0."),
    (r"\.DW_D_conv\.", ".conv_spatial."),
    (r"\.dwconv\.dwconv\.", ".dwconv."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)
_UNUSED = re.compile(r"^(?:van\.)?layernorm\.")
"""A norm that transformers' model has and never applies."""


def checkpoint_filter_fn(state_dict: Mapping[str, torch.Tensor], model: VAN) -> dict[str, torch.Tensor]:
    """Turns a checkpoint of any published form into the model's names; its own names pass unchanged.

    Forms: the official classification and segmentation files, OpenMMLab's (mmpretrain; mmsegmentation has the official
    names), and transformers' port (model `van`). Names that belong to no known form are left as they are.

    Args:
        state_dict: names to tensors; prefixes of wrappers and task models (`module.`, `model.`, `backbone.`) are
            taken off.
        model: the model to load into.

    Returns:
        A new dict for `model.load_state_dict(..., strict=True)`.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in strip_prefixes(state_dict).items():
        if _UNUSED.search(name):
            continue
        for pattern, replacement in (*_TRANSFORMERS, *_OFFICIAL_AND_OPENMMLAB):
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


_VAN = PretrainedCfg(
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    crop_pct=0.9,
    first_conv="stem.proj",
    classifier="head.fc",
    pool_size=(7, 7),
    license="apache-2.0",
    paper="Visual Attention Network",
    paper_url="https://arxiv.org/abs/2202.09741",
    origin_url="https://github.com/Visual-Attention-Network/VAN-Classification",
    verified=False,
    note="The link was not opened. The official README adds: 'For commercial use, please contact the authors'.",
)
_HUB = "https://huggingface.co/Visual-Attention-Network"
_OPENMMLAB = "https://download.openmmlab.com"
_FOLDER = "https://cloud.tsinghua.edu.cn/d/0100f0cea37d41ba8d08/"


def _trained_on_1k(
    name: str, old_name: str, digests: tuple[str, str], params: int, macs: float, top1: float
) -> dict[str, PretrainedCfg]:
    """Lists the published files of a model that was trained on ImageNet-1K: one set of weights in four forms.

    Args:
        name: of the model.
        old_name: the authors' first name for it, without "van-".
        digests: in the names of OpenMMLab's files for classification and for segmentation.
        params: see `PretrainedCfg`.
        macs: see `PretrainedCfg`.
        top1: see `PretrainedCfg`.
    """
    cfg = replace(_VAN, params=params, macs=macs, top1=top1)
    repository, file = f"VAN-{old_name.title()}-original", f"van_{old_name}_{round(10 * top1)}.pth.tar"
    return {
        f"{name}.in1k": replace(
            cfg,
            url=f"{_HUB}/{repository}/resolve/main/{file}",
            hf_hub_id=f"Visual-Attention-Network/{repository}",
            hf_hub_filename=file,
        ),
        f"{name}.openmmlab_in1k": replace(
            cfg,
            url=f"{_OPENMMLAB}/mmclassification/v0/van/van-{old_name}_8xb128_in1k_20220501-{digests[0]}.pth",
            note="OpenMMLab's copy of the official weights under its own names; the link was not opened.",
        ),
        f"{name}.openmmlab_dense_in1k": replace(
            cfg,
            url=f"{_OPENMMLAB}/mmsegmentation/v0.5/van_3rdparty/{name.replace('_', '-')}_3rdparty_20230522-"
            f"{digests[1]}.pth",
            note="OpenMMLab's copy of the official weights, to train segmentation from. The link was not opened; "
            "whether the file has a classifier is not known.",
        ),
        f"{name}.transformers_in1k": replace(
            cfg,
            hf_hub_id=f"Visual-Attention-Network/van-{old_name}",
            note="transformers' port of the official weights; the hub's id is from its conversion script and was not "
            "opened.",
        ),
    }


def _trained_on_22k(
    name: str, digest: str, params: int, macs: tuple[float, float], top1: tuple[float, float]
) -> dict[str, PretrainedCfg]:
    """Lists what was published of a model that was trained on ImageNet-22K.

    Args:
        name: of the model.
        digest: in the name of OpenMMLab's file.
        params: see `PretrainedCfg`.
        macs: at 224x224 and 384x384.
        top1: after fine-tuning on ImageNet-1K, at 224x224 and 384x384.
    """
    cfg = replace(
        _VAN, mean=IMAGENET_MEAN, std=IMAGENET_STD, crop_pct=0.875, params=params, macs=macs[0]
    )  # as the script that trained these has them; the authors' model class says 0.5, as for those of ImageNet-1K
    never = "The paper has this accuracy; the weights, fine-tuned on ImageNet-1K, were never published."
    return {
        f"{name}.in22k": replace(
            cfg,
            url=f"{_OPENMMLAB}/mmsegmentation/v0.5/van_3rdparty/{name.replace('_', '-')}-in22k_3rdparty_20230522-"
            f"{digest}.pth",
            num_classes=21841,
            note=f"OpenMMLab's copy of the authors' file, which lies as {name}_22k.pth in {_FOLDER}. The links were "
            "not opened; whether the copy has a classifier is not known.",
        ),
        f"{name}.in22k_ft_in1k": replace(cfg, top1=top1[0], note=never),
        f"{name}.in22k_ft_in1k_384": replace(
            cfg,
            input_size=(3, 384, 384),
            pool_size=(12, 12),
            crop_pct=1.0,
            crop_mode="squash",
            macs=macs[1],
            top1=top1[1],
            note=never,
        ),
    }


default_cfgs = {
    **_trained_on_1k("van_b0", "tiny", ("385941af", "956f5e0d"), 4105800, 0.8642, 75.4),
    **_trained_on_1k("van_b1", "small", ("17bc91aa", "3adb117f"), 13861800, 2.4953, 81.1),
    **_trained_on_1k("van_b2", "base", ("6a4cc31b", "636fac93"), 26578472, 4.9928, 82.8),
    **_trained_on_1k("van_b3", "large", ("f212ba21", "a184e051"), 44765608, 8.9253, 83.9),
    **_trained_on_22k("van_b4", "5e31cafb", 60283176, (12.1438, 35.6868), (85.7, 86.6)),
    "van_b4.in1k": replace(
        _VAN,
        params=60283176,
        macs=12.1438,
        top1=84.2,
        note=f"No direct link is known: the file is pretrained/van_b4.pth in {_FOLDER}. Fetch it by hand and give its "
        "path as checkpoint_path.",
    ),
    **_trained_on_22k("van_b5", "b26134d7", 89967688, (17.1291, 50.3372), (86.3, 87.0)),
    **_trained_on_22k("van_b6", "5e5172a3", 199829416, (38.7101, 113.7588), (86.9, 87.8)),
}


@register_model
def van_b0(**kwargs: Any) -> VAN:
    """Builds VAN-B0, once called tiny: 4.1 M parameters, 0.9 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 3, 5, 2), "embed_dims": (32, 64, 160, 256), **kwargs})


@register_model
def van_b1(**kwargs: Any) -> VAN:
    """Builds VAN-B1, once called small: 13.9 M parameters, 2.5 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (2, 2, 4, 2), "embed_dims": (64, 128, 320, 512), **kwargs})


@register_model
def van_b2(**kwargs: Any) -> VAN:
    """Builds VAN-B2, once called base: 26.6 M parameters, 5.0 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 3, 12, 3), "embed_dims": (64, 128, 320, 512), **kwargs})


@register_model
def van_b3(**kwargs: Any) -> VAN:
    """Builds VAN-B3, once called large: 44.8 M parameters, 8.9 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 5, 27, 3), "embed_dims": (64, 128, 320, 512), **kwargs})


@register_model
def van_b4(**kwargs: Any) -> VAN:
    """Builds VAN-B4: 60.3 M parameters, 12.1 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 6, 40, 3), "embed_dims": (64, 128, 320, 512), **kwargs})


@register_model
def van_b5(**kwargs: Any) -> VAN:
    """Builds VAN-B5: 90.0 M parameters, 17.1 G multiply-accumulates at 224x224."""
    return VAN(**{"depths": (3, 3, 24, 3), "embed_dims": (96, 192, 480, 768), **kwargs})


@register_model
def van_b6(**kwargs: Any) -> VAN:
    """Builds VAN-B6, deeper than B5 and narrower in its third stage: 199.8 M parameters, 38.7 G at 224x224."""
    return VAN(**{"depths": (6, 6, 90, 6), "embed_dims": (96, 192, 384, 768), **kwargs})
