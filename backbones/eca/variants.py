"""Published models and checkpoints of the family, from small to large."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..registry import PretrainedCfg, register_model
from .mobilenet import ECAMobileNetV2
from .resnet import ECAResNet

__all__ = [
    "eca_mobilenet_v2",
    "eca_resnet18",
    "eca_resnet34",
    "eca_resnet50",
    "eca_resnet101",
    "eca_resnet152",
    "ecaresnet26t",
    "ecaresnet50d",
    "ecaresnet50d_pruned",
    "ecaresnet50t",
    "ecaresnet101d",
    "ecaresnet101d_pruned",
    "ecaresnet200d",
    "ecaresnet269d",
    "ecaresnetlight",
    "ecaresnext26t_32x4d",
    "ecaresnext50t_32x4d",
]

_DRIVE = "https://drive.google.com/open?id="
_OFFICIAL = PretrainedCfg(
    interpolation="bilinear",
    first_conv="stem.convs.0.conv",
    pool_size=(7, 7),
    license="mit",
    paper="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
    paper_url="https://arxiv.org/abs/1910.03151",
    origin_url="https://github.com/BangguWu/ECANet",
    verified=False,
    note="The link is the official one and was not checked. It leads to a web page: download the file by hand and pass "
    "its path to load_weights. The repository is MIT-licensed; no license is stated for the weights.",
)
_TIMM_PAPER = "ECA-Net; this body and its training are timm's"
_TIMM = replace(
    _OFFICIAL,
    interpolation="bicubic",
    license="apache-2.0",
    paper=_TIMM_PAPER,
    origin_url="https://github.com/huggingface/pytorch-image-models",
    note="Links and hub ids are timm's and were not checked.",
)
_UNTRAINED = replace(_TIMM, verified=True, note=None)
_NOT_PUBLISHED = "Links and hub ids are timm's and were not checked. The training recipe was not published in full."
_WEIGHTS_URL = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
_TRESNET_URL = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-tresnet"
_RSB_URL = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights"

_RA2_256: dict[str, Any] = {
    "input_size": (3, 256, 256),
    "pool_size": (8, 8),
    "test_input_size": (3, 320, 320),
    "test_crop_pct": 0.95,
}
_MIIL: dict[str, Any] = {"test_input_size": (3, 288, 288), "test_crop_pct": 0.95, "note": _NOT_PUBLISHED}
_RSB: dict[str, Any] = {
    "crop_pct": 0.95,
    "params": 25573814,
    "paper": "ResNet strikes back: An improved training procedure in timm",
    "paper_url": "https://arxiv.org/abs/2110.00476",
}
_RSB_224: dict[str, Any] = {
    **_RSB,
    "test_input_size": (3, 288, 288),
    "test_crop_pct": 1.0,
    "macs": 4.2973,
}

default_cfgs = {
    "eca_resnet18.in1k": replace(
        _OFFICIAL, url=f"{_DRIVE}1LMRFRTyzVifGBi2MUpTuYEWW44S8mwyl", top1=70.92, params=11689556, macs=1.8141
    ),
    "eca_resnet34.in1k": replace(
        _OFFICIAL, url=f"{_DRIVE}15LV5Jkea3GPzvLP5__H7Gg88oNQUxBDE", top1=74.21, params=21797744, macs=3.6638
    ),
    "eca_resnet50.in1k": replace(
        _OFFICIAL, url=f"{_DRIVE}1670rce333c_lyMWFzBlNZoVUvtxbCF_U", top1=77.42, params=25557112, macs=4.0893
    ),
    "eca_resnet101.in1k": replace(
        _OFFICIAL, url=f"{_DRIVE}1b5FQ8yDFnZ_UhvWT9txmjI_LjbKkgnvC", top1=78.65, params=44549317, macs=7.8016
    ),
    "eca_resnet152.in1k": replace(
        _OFFICIAL, url=f"{_DRIVE}1_bYnaOg9ptsILC_iC7uQ5Izv-u2rjYG5", top1=78.92, params=60193042, macs=11.5139
    ),
    "eca_mobilenet_v2.in1k": replace(
        _OFFICIAL,
        url=f"{_DRIVE}1FxzeXPg1SJQZzVVH4HRjMeq_SVMfidUm",
        first_conv="stem.conv.conv",
        top1=72.56,
        params=3504903,
        macs=0.3008,
    ),
    "ecaresnet26t.ra2_in1k": replace(
        _TIMM,
        url=f"{_WEIGHTS_URL}/ecaresnet26t_ra2-46609757.pth",
        hf_hub_id="timm/ecaresnet26t.ra2_in1k",
        top1=79.9,
        params=16011916,
        macs=3.3304,
        **_RA2_256,
    ),
    "ecaresnext26t_32x4d.untrained": replace(_UNTRAINED, params=15406220, macs=2.6788),
    "ecaresnetlight.miil_in1k": replace(
        _TIMM,
        url=f"{_TRESNET_URL}/ecaresnetlight-75a9c627.pth",
        hf_hub_id="timm/ecaresnetlight.miil_in1k",
        top1=81.43,
        params=30162046,
        macs=4.0893,
        **_MIIL,
    ),
    "ecaresnet50d_pruned.miil_in1k": replace(
        _TIMM,
        url=f"{_TRESNET_URL}/ecaresnet50d_p-e4fa23c2.pth",
        hf_hub_id="timm/ecaresnet50d_pruned.miil_in1k",
        top1=80.808,
        params=19939713,
        macs=2.5199,
        **_MIIL,
    ),
    "ecaresnet50t.ra2_in1k": replace(
        _TIMM,
        url=f"{_WEIGHTS_URL}/ecaresnet50t_ra2-f7ac63c4.pth",
        hf_hub_id="timm/ecaresnet50t.ra2_in1k",
        note=_NOT_PUBLISHED,
        top1=82.37,
        params=25573814,
        macs=5.6121,
        **_RA2_256,
    ),
    "ecaresnet50t.a1_in1k": replace(
        _TIMM,
        url=f"{_RSB_URL}/ecaresnet50t_a1_0-99bd76a8.pth",
        top1=82.11,
        hf_hub_id="timm/ecaresnet50t.a1_in1k",
        **_RSB_224,
    ),
    "ecaresnet50t.a2_in1k": replace(
        _TIMM,
        url=f"{_RSB_URL}/ecaresnet50t_a2_0-b1c7b745.pth",
        top1=81.682,
        hf_hub_id="timm/ecaresnet50t.a2_in1k",
        **_RSB_224,
    ),
    "ecaresnet50t.a3_in1k": replace(
        _TIMM,
        url=f"{_RSB_URL}/ecaresnet50t_a3_0-8cc311f1.pth",
        input_size=(3, 160, 160),
        pool_size=(5, 5),
        test_input_size=(3, 224, 224),
        test_crop_pct=0.95,
        top1=79.548,
        macs=2.1935,
        hf_hub_id="timm/ecaresnet50t.a3_in1k",
        **_RSB,
    ),
    "ecaresnet50d.miil_in1k": replace(
        _TIMM,
        url=f"{_TRESNET_URL}/ecaresnet50d-93c81e3b.pth",
        hf_hub_id="timm/ecaresnet50d.miil_in1k",
        top1=81.648,
        params=25576350,
        macs=4.3289,
        **_MIIL,
    ),
    "ecaresnext50t_32x4d.untrained": replace(_UNTRAINED, params=25045686, macs=4.4386),
    "ecaresnet101d_pruned.miil_in1k": replace(
        _TIMM,
        url=f"{_TRESNET_URL}/ecaresnet101d_p-9e74cb91.pth",
        hf_hub_id="timm/ecaresnet101d_pruned.miil_in1k",
        top1=82.016,
        params=24876040,
        macs=3.461,
        **_MIIL,
    ),
    "ecaresnet101d.miil_in1k": replace(
        _TIMM,
        url=f"{_TRESNET_URL}/ecaresnet101d-153dad65.pth",
        hf_hub_id="timm/ecaresnet101d.miil_in1k",
        top1=83.006,
        params=44568563,
        macs=8.0412,
        **_MIIL,
    ),
    "ecaresnet200d.untrained": replace(
        _UNTRAINED,
        input_size=(3, 256, 256),
        pool_size=(8, 8),
        crop_pct=0.95,
        test_input_size=(3, 288, 288),
        test_crop_pct=0.95,
        params=64693400,
        macs=19.9143,
    ),
    "ecaresnet269d.ra2_in1k": replace(
        _TIMM,
        url=f"{_WEIGHTS_URL}/ecaresnet269d_320_ra2-7baa55cb.pth",
        hf_hub_id="timm/ecaresnet269d.ra2_in1k",
        note=_NOT_PUBLISHED,
        input_size=(3, 320, 320),
        pool_size=(10, 10),
        crop_pct=0.95,
        test_input_size=(3, 352, 352),
        test_crop_pct=1.0,
        top1=84.968,
        params=102093077,
        macs=41.3647,
    ),
}

_TIERED: dict[str, Any] = {"stem": "tiered", "pooled_shortcut": True, "zero_init_last": True}
_DEEP: dict[str, Any] = {**_TIERED, "stem": "deep"}
_X32X4D: dict[str, Any] = {"groups": 32, "base_width": 4}
_PRUNED: dict[str, Any] = {**_DEEP, "k_size": (5, 5, 5, 7)}
"""Pruning kept the gates, whose sizes follow the formula for the unpruned channels."""


def _pruned(*stages: tuple[int, str]) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    """Parses the channels of a pruned model: for each stage its output channels, and "inner x inner" per block."""
    return tuple(
        tuple((int(first), int(second), last) for first, second in (block.split("x") for block in blocks.split()))
        for last, blocks in stages
    )


_PRUNED_50D = _pruned(
    (19, "47x18 52x22 64x35"),
    (171, "85x37 107x80 120x85 125x87"),
    (818, "198x126 255x232 256x233 253x235 256x225 256x239"),
    (2022, "492x237 512x500 512x490"),
)
_PRUNED_101D = _pruned(
    (26, "45x25 53x20 60x27"),
    (142, "81x24 93x49 102x54 122x78"),
    (
        278,
        "101x25 239x160 234x156 250x176 253x191 251x175 230x128 244x154 244x159 238x97 244x149 253x181 245x119 "
        "255x216 256x201 253x149 254x141 256x190 256x217 255x156 256x155 256x232 256x214",
    ),
    (2042, "499x289 512x512 512x502"),
)


def _resnet(depths: tuple[int, ...], kwargs: dict[str, Any], **architecture: Any) -> ECAResNet:
    """Builds a published model; arguments of the caller override all others."""
    return ECAResNet(**{"depths": depths, **architecture, **kwargs})


@register_model
def eca_mobilenet_v2(**kwargs: Any) -> ECAMobileNetV2:
    """Builds ECA-MobileNetV2: 3.5 M parameters, 0.3 G MACs at 224x224."""
    return ECAMobileNetV2(**kwargs)


@register_model
def eca_resnet18(**kwargs: Any) -> ECAResNet:
    """Builds ECA-ResNet-18: 11.7 M parameters, 1.8 G MACs at 224x224."""
    return _resnet((2, 2, 2, 2), kwargs, block="basic", k_size=(3, 5, 7, 7))


@register_model
def eca_resnet34(**kwargs: Any) -> ECAResNet:
    """Builds ECA-ResNet-34: 21.8 M parameters, 3.7 G MACs at 224x224."""
    return _resnet((3, 4, 6, 3), kwargs, block="basic", k_size=(3, 3, 5, 7))


@register_model
def eca_resnet50(**kwargs: Any) -> ECAResNet:
    """Builds ECA-ResNet-50: 25.6 M parameters, 4.1 G MACs at 224x224."""
    return _resnet((3, 4, 6, 3), kwargs, k_size=(3, 5, 5, 7))


@register_model
def eca_resnet101(**kwargs: Any) -> ECAResNet:
    """Builds ECA-ResNet-101: 44.5 M parameters, 7.8 G MACs at 224x224."""
    return _resnet((3, 4, 23, 3), kwargs, k_size=(3, 3, 5, 7))


@register_model
def eca_resnet152(**kwargs: Any) -> ECAResNet:
    """Builds ECA-ResNet-152: 60.2 M parameters, 11.5 G MACs at 224x224."""
    return _resnet((3, 8, 36, 3), kwargs, k_size=(3, 3, 5, 7))


@register_model
def ecaresnet26t(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNet-26-T: 16.0 M parameters, 3.3 G MACs at 256x256."""
    return _resnet((2, 2, 2, 2), kwargs, **_TIERED)


@register_model
def ecaresnext26t_32x4d(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNeXt-26-T: 15.4 M parameters, 2.7 G MACs at 224x224."""
    return _resnet((2, 2, 2, 2), kwargs, **_TIERED, **_X32X4D)


@register_model
def ecaresnetlight(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNet-Light: 30.2 M parameters, 4.1 G MACs at 224x224."""
    return _resnet((1, 1, 11, 3), kwargs, **{**_TIERED, "stem": "plain"})


@register_model
def ecaresnet50d_pruned(**kwargs: Any) -> ECAResNet:
    """Builds timm's pruned ECA-ResNet-50-D: 19.9 M parameters, 2.5 G MACs at 224x224."""
    return _resnet((3, 4, 6, 3), kwargs, widths=_PRUNED_50D, **_PRUNED)


@register_model
def ecaresnet50t(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNet-50-T: 25.6 M parameters, 5.6 G MACs at 256x256."""
    return _resnet((3, 4, 6, 3), kwargs, **_TIERED)


@register_model
def ecaresnet50d(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNet-50-D: 25.6 M parameters, 4.3 G MACs at 224x224."""
    return _resnet((3, 4, 6, 3), kwargs, **_DEEP)


@register_model
def ecaresnext50t_32x4d(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNeXt-50-T: 25.0 M parameters, 4.4 G MACs at 224x224."""
    return _resnet((3, 4, 6, 3), kwargs, **_TIERED, **_X32X4D)


@register_model
def ecaresnet101d_pruned(**kwargs: Any) -> ECAResNet:
    """Builds timm's pruned ECA-ResNet-101-D: 24.9 M parameters, 3.5 G MACs at 224x224."""
    return _resnet((3, 4, 23, 3), kwargs, widths=_PRUNED_101D, **_PRUNED)


@register_model
def ecaresnet101d(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNet-101-D: 44.6 M parameters, 8.0 G MACs at 224x224."""
    return _resnet((3, 4, 23, 3), kwargs, **_DEEP)


@register_model
def ecaresnet200d(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNet-200-D: 64.7 M parameters, 19.9 G MACs at 256x256."""
    return _resnet((3, 24, 36, 3), kwargs, **_DEEP)


@register_model
def ecaresnet269d(**kwargs: Any) -> ECAResNet:
    """Builds timm's ECA-ResNet-269-D: 102.1 M parameters, 41.4 G MACs at 320x320."""
    return _resnet((3, 30, 48, 8), kwargs, **_DEEP)
