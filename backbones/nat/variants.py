"""Published models and checkpoints, from small to large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from ...names import unknown_name
from ..registry import PretrainedCfg, register_model
from .model import NAT, Dilations

__all__ = [
    "dinat_base",
    "dinat_isotropic_base",
    "dinat_isotropic_small",
    "dinat_large",
    "dinat_large_384",
    "dinat_large_384_11x11",
    "dinat_mini",
    "dinat_s_base",
    "dinat_s_large",
    "dinat_s_large_384",
    "dinat_s_small",
    "dinat_s_tiny",
    "dinat_small",
    "dinat_tiny",
    "nat_base",
    "nat_isotropic_base",
    "nat_isotropic_small",
    "nat_mini",
    "nat_small",
    "nat_tiny",
    "vitrpb_base",
    "vitrpb_small",
]

_NAT = PretrainedCfg(
    first_conv="stem.convs.0",
    classifier="head.fc",
    pool_size=(7, 7),
    license="mit",
    paper="Neighborhood Attention Transformer",
    paper_url="https://arxiv.org/abs/2204.07143",
    origin_url="https://github.com/SHI-Labs/Neighborhood-Attention-Transformer",
    verified=False,
    note="Links are those of the official code and were not opened. The hub's copy is transformers' port of it.",
)
_DINAT = replace(_NAT, paper="Dilated Neighborhood Attention Transformer", paper_url="https://arxiv.org/abs/2209.15001")
_DINAT_S = replace(_DINAT, first_conv="stem.proj", note="Links are those of the official code and were not opened.")
_ISOTROPIC = replace(_DINAT_S, pool_size=(14, 14))
_22K = {
    "num_classes": 21841,
    "note": "ImageNet-22K weights; the link is that of the official code and was not opened. The code does not say how "
    "many classes the head has: 21841 is the number of ImageNet-22K.",
}
_384 = {"input_size": (3, 384, 384), "pool_size": (12, 12), "crop_pct": 1.0}

_NAT_URL = "https://shi-labs.com/projects/nat/checkpoints/CLS"
_DINAT_URL = "https://shi-labs.com/projects/dinat/checkpoints"

default_cfgs = {
    "nat_mini.in1k": replace(
        _NAT,
        url=f"{_NAT_URL}/nat_mini.pth",
        hf_hub_id="shi-labs/nat-mini-in1k-224",
        top1=81.8,
        params=19984174,
        macs=2.6948,
    ),
    "nat_tiny.in1k": replace(
        _NAT,
        url=f"{_NAT_URL}/nat_tiny.pth",
        hf_hub_id="shi-labs/nat-tiny-in1k-224",
        top1=83.2,
        params=27901582,
        macs=4.2952,
    ),
    "nat_small.in1k": replace(
        _NAT,
        url=f"{_NAT_URL}/nat_small.pth",
        hf_hub_id="shi-labs/nat-small-in1k-224",
        top1=83.7,
        params=50743297,
        macs=7.7723,
    ),
    "nat_base.in1k": replace(
        _NAT,
        url=f"{_NAT_URL}/nat_base.pth",
        hf_hub_id="shi-labs/nat-base-in1k-224",
        top1=84.3,
        params=89769652,
        macs=13.6771,
    ),
    "dinat_mini.in1k": replace(
        _DINAT,
        url=f"{_DINAT_URL}/imagenet1k/dinat_mini_in1k_224.pth",
        hf_hub_id="shi-labs/dinat-mini-in1k-224",
        top1=81.8,
        params=19984174,
        macs=2.6948,
    ),
    "dinat_tiny.in1k": replace(
        _DINAT,
        url=f"{_DINAT_URL}/imagenet1k/dinat_tiny_in1k_224.pth",
        hf_hub_id="shi-labs/dinat-tiny-in1k-224",
        top1=82.7,
        params=27901582,
        macs=4.2952,
    ),
    "dinat_small.in1k": replace(
        _DINAT,
        url=f"{_DINAT_URL}/imagenet1k/dinat_small_in1k_224.pth",
        hf_hub_id="shi-labs/dinat-small-in1k-224",
        top1=83.8,
        params=50719681,
        macs=7.7723,
    ),
    "dinat_base.in1k": replace(
        _DINAT,
        url=f"{_DINAT_URL}/imagenet1k/dinat_base_in1k_224.pth",
        hf_hub_id="shi-labs/dinat-base-in1k-224",
        top1=84.4,
        params=89769652,
        macs=13.6771,
    ),
    "dinat_large.in22k_ft_in1k": replace(
        _DINAT, url=f"{_DINAT_URL}/imagenet1k/dinat_large_in22k_in1k_224.pth", top1=86.6, params=200943514, macs=30.4577
    ),
    "dinat_large.in22k": replace(
        _DINAT, url=f"{_DINAT_URL}/imagenet22k/dinat_large_in22k_224.pth", params=200943514, macs=30.4577, **_22K
    ),
    "dinat_large_384.in22k_ft_in1k": replace(
        _DINAT,
        url=f"{_DINAT_URL}/imagenet1k/dinat_large_in22k_in1k_384.pth",
        top1=87.4,
        params=200943514,
        macs=89.5054,
        **_384,
    ),
    "dinat_large_384_11x11.in22k_ft_in1k": replace(
        _DINAT,
        url=f"{_DINAT_URL}/imagenet1k/dinat_large_in22k_in1k_384_11x11.pth",
        hf_hub_id="shi-labs/dinat-large-11x11-in22k-in1k-384",
        top1=87.5,
        params=201144250,
        macs=92.0853,
        **_384,
    ),
    "dinat_large_384_11x11.in22k": replace(
        _DINAT,
        url=f"{_DINAT_URL}/imagenet22k/dinat_large_in22k_224_11x11interp.pth",
        params=201144250,
        macs=92.0853,
        input_size=(3, 384, 384),
        pool_size=(12, 12),
        num_classes=_22K["num_classes"],
        note="dinat_large.in22k with its relative position biases resized from 7x7 to 11x11, to fine-tune from. "
        + _22K["note"],
    ),
    "dinat_s_tiny.in1k": replace(
        _DINAT_S, url=f"{_DINAT_URL}/imagenet1k/dinat_s_tiny_in1k_224.pth", top1=81.8, params=28288354, macs=4.4906
    ),
    "dinat_s_small.in1k": replace(
        _DINAT_S, url=f"{_DINAT_URL}/imagenet1k/dinat_s_small_in1k_224.pth", top1=83.5, params=49606258, macs=8.7409
    ),
    "dinat_s_base.in1k": replace(
        _DINAT_S, url=f"{_DINAT_URL}/imagenet1k/dinat_s_base_in1k_224.pth", top1=83.8, params=87768224, macs=15.4309
    ),
    "dinat_s_large.in22k_ft_in1k": replace(
        _DINAT_S, url=f"{_DINAT_URL}/imagenet1k/dinat_s_large_in1k_224.pth", top1=86.5, params=196532476, macs=34.4758
    ),
    "dinat_s_large.in22k": replace(
        _DINAT_S, url=f"{_DINAT_URL}/imagenet22k/dinat_s_large_in22k_224.pth", params=196532476, macs=34.4758, **_22K
    ),
    "dinat_s_large_384.in22k_ft_in1k": replace(
        _DINAT_S,
        url=f"{_DINAT_URL}/imagenet1k/dinat_s_large_in1k_384.pth",
        top1=87.4,
        params=196532476,
        macs=101.3135,
        **_384,
    ),
    "nat_isotropic_small.in1k": replace(
        _ISOTROPIC,
        url=f"{_DINAT_URL}/isotropic/nat_isotropic_small_in1k_224.pth",
        top1=80.0,
        params=21999736,
        macs=4.3085,
    ),
    "nat_isotropic_base.in1k": replace(
        _ISOTROPIC,
        url=f"{_DINAT_URL}/isotropic/nat_isotropic_base_in1k_224.pth",
        top1=81.6,
        params=86465800,
        macs=16.9406,
    ),
    "dinat_isotropic_small.in1k": replace(
        _ISOTROPIC,
        url=f"{_DINAT_URL}/isotropic/dinat_isotropic_small_in1k_224.pth",
        top1=80.8,
        params=21999736,
        macs=4.3085,
    ),
    "dinat_isotropic_base.in1k": replace(
        _ISOTROPIC,
        url=f"{_DINAT_URL}/isotropic/dinat_isotropic_base_in1k_224.pth",
        top1=82.1,
        params=86465800,
        macs=16.9406,
    ),
    "vitrpb_small.in1k": replace(
        _ISOTROPIC, url=f"{_DINAT_URL}/isotropic/vitrpb_small_in1k_224.pth", top1=81.2, params=22080376, macs=4.574
    ),
    "vitrpb_base.in1k": replace(
        _ISOTROPIC, url=f"{_DINAT_URL}/isotropic/vitrpb_base_in1k_224.pth", top1=82.5, params=86627080, macs=17.4716
    ),
}

Dense = Literal["coco", "ade20k"] | None
"""Published settings for dense prediction: their dilations, and a layer norm per map."""

_MINI = {"depths": (3, 4, 6, 5), "embed_dims": (64, 128, 256, 512), "num_heads": (2, 4, 8, 16), "mlp_ratio": 3.0}
_TINY = {**_MINI, "depths": (3, 4, 18, 5)}
_SMALL = {"depths": (3, 4, 18, 5), "embed_dims": (96, 192, 384, 768), "num_heads": (3, 6, 12, 24), "mlp_ratio": 2.0}
_BASE = {**_SMALL, "embed_dims": (128, 256, 512, 1024), "num_heads": (4, 8, 16, 32)}
_LARGE = {**_SMALL, "embed_dims": (192, 384, 768, 1536), "num_heads": (6, 12, 24, 48)}
_LAYER_SCALE = {"layer_scale": 1e-5}

_S_BODY = {"mlp_ratio": 4.0, "stem": "patch", "downsample": "merge"}
_S_TINY = {"depths": (2, 2, 6, 2), "embed_dims": (96, 192, 384, 768), "num_heads": (3, 6, 12, 24), **_S_BODY}
_S_SMALL = {**_S_TINY, "depths": (2, 2, 18, 2)}
_S_BASE = {**_S_SMALL, "embed_dims": (128, 256, 512, 1024), "num_heads": (4, 8, 16, 32)}
_S_LARGE = {**_S_SMALL, "embed_dims": (192, 384, 768, 1536), "num_heads": (6, 12, 24, 48)}

_ISO_BODY = {"depths": (3, 3, 3, 3), "mlp_ratio": 4.0, "stem": "patch", "stem_stride": 16, "downsample": "none"}
_ISO_SMALL = {"embed_dims": (384,) * 4, "num_heads": (12,) * 4, **_ISO_BODY}
_ISO_BASE = {"embed_dims": (768,) * 4, "num_heads": (24,) * 4, **_ISO_BODY}

_NAT_DENSE: dict[str, Dilations] = {"coco": 1, "ade20k": 1}
_NO_DENSE: dict[str, Dilations] = {}
_LARGE_ADE20K = (1, 2, 1, 3, 1, 4, 1, 5) * 2 + (1, 5)
"""Dilations of the third stage of the large models at 640x640."""
_ISO_DILATIONS = ((1, 2, 1), (2, 1, 2)) * 2
"""Dilations 1 and 2 in alternation, over stages of three blocks."""


def _dinat_dilations(depth: int) -> Dilations:
    """Returns DiNAT's dilations at 224x224, up to the complete map, for a third stage of `depth` blocks."""
    return ((1, 8, 1), (1, 4, 1, 4), (1, 2) * (depth // 2), (1,) * 5)


def _dinat_dense(depth: int) -> dict[str, Dilations]:
    """Returns DiNAT's dilations for COCO and ADE20K at 512x512, for a third stage of `depth` blocks."""
    repeats = depth // 6
    return {
        "coco": ((1, 28, 1), (1, 7, 1, 14), (1, 3, 1, 5, 1, 7) * repeats, (1, 3, 1, 3, 1)),
        "ade20k": ((1, 16, 1), (1, 4, 1, 8), (1, 2, 1, 3, 1, 4) * repeats, (1, 2, 1, 2, 1)),
    }


def _dinat_s_dilations(depth: int) -> Dilations:
    """Returns DiNAT_s's dilations at 224x224, for a third stage of `depth` blocks."""
    return ((1, 8), (1, 4), (1, 2) * (depth // 2), (1, 1))


def _dinat_s_dense(depth: int) -> dict[str, Dilations]:
    """Returns DiNAT_s's dilations for COCO and ADE20K at 512x512, for a third stage of `depth` blocks."""
    repeats = depth // 6
    return {
        "coco": ((1, 28), (1, 14), (1, 3, 1, 5, 1, 7) * repeats, (1, 3)),
        "ade20k": ((1, 16), (1, 8), (1, 2, 1, 3, 1, 4) * repeats, (1, 2)),
    }


_DINAT_LARGE_DENSE = {
    "coco": _dinat_dense(18)["coco"],
    "ade20k": ((1, 20, 1), (1, 5, 1, 10), _LARGE_ADE20K, (1, 2, 1, 2, 1)),
}
_DINAT_S_LARGE_DENSE = {
    "coco": _dinat_s_dense(18)["coco"],
    "ade20k": ((1, 20), (1, 10), _LARGE_ADE20K, (1, 2)),
}


def _nat(
    name: str,
    architecture: Mapping[str, Any],
    dense_dilations: Mapping[str, Dilations],
    dense: Dense,
    kwargs: Mapping[str, Any],
) -> NAT:
    """Builds a published model.

    Args:
        name: Name of the entry point.
        architecture: Published arguments of `NAT`.
        dense_dilations: Published dilations by data set; empty if none were published.
        dense: Data set of a dense prediction task, or None for classification.
        kwargs: Arguments of the caller, which override all others.
    """
    settings: dict[str, Any] = {}
    if dense is not None:
        if not dense_dilations:
            raise ValueError(
                f"No dense prediction setting was published for {name}, got dense={dense!r}. "
                "Pass dilations=... and, for a norm per map, output_norms=True instead."
            )
        if dense not in dense_dilations:
            raise ValueError(unknown_name(f"dense setting of {name}", dense, dense_dilations))
        settings = {"dilations": dense_dilations[dense], "output_norms": True}
    return NAT(**{**architecture, **settings, **kwargs})


@register_model
def nat_mini(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds NAT-Mini: 20.0 M parameters, 2.7 G multiply-accumulates at 224x224."""
    return _nat("nat_mini", _MINI, _NAT_DENSE, dense, kwargs)


@register_model
def nat_tiny(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds NAT-Tiny: 27.9 M parameters, 4.3 G multiply-accumulates at 224x224."""
    return _nat("nat_tiny", _TINY, _NAT_DENSE, dense, kwargs)


@register_model
def nat_small(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds NAT-Small: 50.7 M parameters, 7.8 G multiply-accumulates at 224x224."""
    return _nat("nat_small", _SMALL | _LAYER_SCALE, _NAT_DENSE, dense, kwargs)


@register_model
def nat_base(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds NAT-Base: 89.8 M parameters, 13.7 G multiply-accumulates at 224x224."""
    return _nat("nat_base", _BASE | _LAYER_SCALE, _NAT_DENSE, dense, kwargs)


@register_model
def dinat_mini(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-Mini: 20.0 M parameters, 2.7 G multiply-accumulates at 224x224."""
    return _nat("dinat_mini", _MINI | {"dilations": _dinat_dilations(6)}, _dinat_dense(6), dense, kwargs)


@register_model
def dinat_tiny(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-Tiny: 27.9 M parameters, 4.3 G multiply-accumulates at 224x224."""
    return _nat("dinat_tiny", _TINY | {"dilations": _dinat_dilations(18)}, _dinat_dense(18), dense, kwargs)


@register_model
def dinat_small(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-Small: 50.7 M parameters, 7.8 G multiply-accumulates at 224x224. It has no layer scale."""
    return _nat("dinat_small", _SMALL | {"dilations": _dinat_dilations(18)}, _dinat_dense(18), dense, kwargs)


@register_model
def dinat_base(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-Base: 89.8 M parameters, 13.7 G multiply-accumulates at 224x224."""
    return _nat(
        "dinat_base", _BASE | _LAYER_SCALE | {"dilations": _dinat_dilations(18)}, _dinat_dense(18), dense, kwargs
    )


@register_model
def dinat_large(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-Large: 200.9 M parameters, 30.5 G multiply-accumulates at 224x224."""
    return _nat("dinat_large", _LARGE | {"dilations": _dinat_dilations(18)}, _DINAT_LARGE_DENSE, dense, kwargs)


@register_model
def dinat_large_384(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-Large for 384x384: 200.9 M parameters, 89.5 G multiply-accumulates."""
    return _nat(
        "dinat_large_384",
        _LARGE | {"dilations": ((1, 13, 1), (1, 6, 1, 6), (1, 3) * 9, (1,) * 5)},
        _NO_DENSE,
        dense,
        kwargs,
    )


@register_model
def dinat_large_384_11x11(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-Large with windows of 11x11 for 384x384: 201.1 M parameters, 92.1 G multiply-accumulates."""
    return _nat(
        "dinat_large_384_11x11",
        _LARGE | {"kernel_size": 11, "dilations": _dinat_dilations(18)},
        _NO_DENSE,
        dense,
        kwargs,
    )


@register_model
def dinat_s_tiny(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT_s-Tiny: 28.3 M parameters, 4.5 G multiply-accumulates at 224x224."""
    return _nat("dinat_s_tiny", _S_TINY | {"dilations": _dinat_s_dilations(6)}, _dinat_s_dense(6), dense, kwargs)


@register_model
def dinat_s_small(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT_s-Small: 49.6 M parameters, 8.7 G multiply-accumulates at 224x224."""
    return _nat("dinat_s_small", _S_SMALL | {"dilations": _dinat_s_dilations(18)}, _dinat_s_dense(18), dense, kwargs)


@register_model
def dinat_s_base(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT_s-Base: 87.8 M parameters, 15.4 G multiply-accumulates at 224x224."""
    return _nat("dinat_s_base", _S_BASE | {"dilations": _dinat_s_dilations(18)}, _dinat_s_dense(18), dense, kwargs)


@register_model
def dinat_s_large(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT_s-Large: 196.5 M parameters, 34.5 G multiply-accumulates at 224x224."""
    return _nat("dinat_s_large", _S_LARGE | {"dilations": _dinat_s_dilations(18)}, _DINAT_S_LARGE_DENSE, dense, kwargs)


@register_model
def dinat_s_large_384(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT_s-Large for 384x384: 196.5 M parameters, 101.3 G multiply-accumulates."""
    return _nat(
        "dinat_s_large_384", _S_LARGE | {"dilations": ((1, 13), (1, 6), (1, 3) * 9, (1, 1))}, _NO_DENSE, dense, kwargs
    )


@register_model
def nat_isotropic_small(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds NAT-iso-Small: one resolution, 22.0 M parameters, 4.3 G multiply-accumulates at 224x224."""
    return _nat("nat_isotropic_small", _ISO_SMALL, _NO_DENSE, dense, kwargs)


@register_model
def dinat_isotropic_small(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-iso-Small: one resolution, 22.0 M parameters, 4.3 G multiply-accumulates at 224x224."""
    return _nat("dinat_isotropic_small", _ISO_SMALL | {"dilations": _ISO_DILATIONS}, _NO_DENSE, dense, kwargs)


@register_model
def vitrpb_small(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds ViT-rpb-Small: full attention, 22.1 M parameters, 4.6 G multiply-accumulates at 224x224."""
    return _nat("vitrpb_small", _ISO_SMALL | {"attention": "global", "table_size": 14}, _NO_DENSE, dense, kwargs)


@register_model
def nat_isotropic_base(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds NAT-iso-Base: one resolution, 86.5 M parameters, 16.9 G multiply-accumulates at 224x224."""
    return _nat("nat_isotropic_base", _ISO_BASE, _NO_DENSE, dense, kwargs)


@register_model
def dinat_isotropic_base(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds DiNAT-iso-Base: one resolution, 86.5 M parameters, 16.9 G multiply-accumulates at 224x224."""
    return _nat("dinat_isotropic_base", _ISO_BASE | {"dilations": _ISO_DILATIONS}, _NO_DENSE, dense, kwargs)


@register_model
def vitrpb_base(*, dense: Dense = None, **kwargs: Any) -> NAT:
    """Builds ViT-rpb-Base: full attention, 86.6 M parameters, 17.5 G multiply-accumulates at 224x224."""
    return _nat("vitrpb_base", _ISO_BASE | {"attention": "global", "table_size": 14}, _NO_DENSE, dense, kwargs)
