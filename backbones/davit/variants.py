"""Published models and checkpoints, from small to large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from ...names import unknown_name
from ..registry import UNTRAINED, PretrainedCfg, register_model
from .model import DaViT

__all__ = [
    "davit_base",
    "davit_base_fl",
    "davit_giant",
    "davit_huge",
    "davit_huge_fl",
    "davit_large",
    "davit_large_window12_384",
    "davit_small",
    "davit_tiny",
]

_DAVIT = PretrainedCfg(
    crop_pct=0.95,
    first_conv="stem.conv",
    classifier="head.fc",
    pool_size=(7, 7),
    license="mit",
    paper="DaViT: Dual Attention Vision Transformers",
    paper_url="https://arxiv.org/abs/2204.03645",
    origin_url="https://github.com/dingmyu/davit",
    verified=False,
)
_OFFICIAL_NOTE = (
    "The link is that of the official README, to a file share that may ask for a browser, and was not opened. The copy "
    "on the hub is timm's. crop_pct is timm's; the official configuration says 0.9."
)
_OPENMMLAB_NOTE = (
    "mmpretrain's copy of the official weights; the link was not opened. mmpretrain publishes {top1} % for them, "
    "because it pads its stem otherwise and normalises before pooling; this model does neither, as the official one."
)
_UNPUBLISHED_NOTE = "No weights were published."
_FLORENCE2 = replace(
    _DAVIT,
    num_classes=0,
    input_size=(3, 768, 768),
    pool_size=(24, 24),
    crop_pct=1.0,
    license="MIT on the hub (not checked)",
    paper="Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks",
    paper_url="https://arxiv.org/abs/2311.06242",
    note="The image tower of a larger model; the hub's id was not opened. The file has no head: the model is built "
    "without a classifier, and the norm after pooling keeps its initial values. params and macs are with 1000 classes.",
)

_SHARE = "https://connecthkuhk-my.sharepoint.com/:u:/g/personal/u3007305_connect_hku_hk"
_OPENMMLAB = "https://download.openmmlab.com/mmclassification/v0/davit"


def _published(
    url: str, hf_hub_id: str, openmmlab_url: str, openmmlab_top1: float, **figures: Any
) -> dict[str, PretrainedCfg]:
    """Lists the checkpoints of a model that was published for ImageNet-1K, by tag."""
    return {
        "in1k": replace(_DAVIT, url=url, hf_hub_id=hf_hub_id, note=_OFFICIAL_NOTE, **figures),
        "openmmlab_in1k": replace(
            _DAVIT,
            url=openmmlab_url,
            sha256=openmmlab_url.rpartition("-")[2].removesuffix(".pth"),
            license="apache-2.0",
            note=_OPENMMLAB_NOTE.format(top1=openmmlab_top1),
            **figures,
        ),
    }


_CFGS: dict[str, dict[str, PretrainedCfg]] = {
    "davit_tiny": _published(
        f"{_SHARE}/EcJYlVYP9y5FsDbMP-nwjtABgLmdrNGZBxgR5--Kg3MZ7Q?e=v9OrXB",
        "timm/davit_tiny.msft_in1k",
        f"{_OPENMMLAB}/davit-tiny_3rdparty_in1k_20221116-700fdf7d.pth",
        82.24,
        top1=82.8,
        params=28360168,
        macs=4.5218,
    ),
    "davit_small": _published(
        f"{_SHARE}/ERN_Gzm8oKdIvO01r0X2cscB_owuRAnnQPNGJEVGP23xHQ?e=MVW3ZO",
        "timm/davit_small.msft_in1k",
        f"{_OPENMMLAB}/davit-small_3rdparty_in1k_20221116-51a849a6.pth",
        83.61,
        top1=84.2,
        params=49745896,
        macs=8.773,
    ),
    "davit_base": _published(
        f"{_SHARE}/Ea8kCpdM949CvTM0w7DWbGwBxxiACMSik4zx-emrNY0uKQ?e=aEjC7u",
        "timm/davit_base.msft_in1k",
        f"{_OPENMMLAB}/davit-base_3rdparty_in1k_20221116-19e0d956.pth",
        84.09,
        top1=84.6,
        params=87954408,
        macs=15.4738,
    ),
    "davit_large": {UNTRAINED: replace(_DAVIT, params=196811752, macs=34.54, note=_UNPUBLISHED_NOTE)},
    "davit_large_window12_384": {
        UNTRAINED: replace(
            _DAVIT,
            input_size=(3, 384, 384),
            pool_size=(12, 12),
            params=196811752,
            macs=102.8052,
            note=_UNPUBLISHED_NOTE,
        )
    },
    "davit_huge": {UNTRAINED: replace(_DAVIT, params=348922856, macs=61.1592, note=_UNPUBLISHED_NOTE)},
    "davit_giant": {UNTRAINED: replace(_DAVIT, params=1406470120, macs=192.7852, note=_UNPUBLISHED_NOTE)},
    "davit_base_fl": {
        "florence2": replace(_FLORENCE2, hf_hub_id="microsoft/Florence-2-base", params=91395048, macs=189.8889)
    },
    "davit_huge_fl": {
        "florence2": replace(_FLORENCE2, hf_hub_id="microsoft/Florence-2-large", params=362685416, macs=743.9777)
    },
}
default_cfgs = {f"{name}.{tag}": cfg for name, cfgs in _CFGS.items() for tag, cfg in cfgs.items()}

Dense = Literal["coco", "ade20k"] | None
"""Published settings for dense prediction: a layer norm per map, for both data sets."""

_DENSE = ("coco", "ade20k")
_TINY = {"depths": (1, 1, 3, 1), "embed_dims": (96, 192, 384, 768), "num_heads": (3, 6, 12, 24)}
_SMALL = {**_TINY, "depths": (1, 1, 9, 1)}
_BASE = {**_SMALL, "embed_dims": (128, 256, 512, 1024), "num_heads": (4, 8, 16, 32)}
_LARGE = {**_SMALL, "embed_dims": (192, 384, 768, 1536), "num_heads": (6, 12, 24, 48)}
_HUGE = {**_SMALL, "embed_dims": (256, 512, 1024, 2048), "num_heads": (8, 16, 32, 64)}
_GIANT = {"depths": (1, 1, 12, 3), "embed_dims": (384, 768, 1536, 3072), "num_heads": (12, 24, 48, 96)}
_FLORENCE2_BODY = {"window_size": 12, "down_kernel_size": 3, "channel_attn_v2": True}


def _davit(name: str, architecture: Mapping[str, Any], dense: Dense, kwargs: Mapping[str, Any]) -> DaViT:
    """Builds a published model.

    Args:
        name: Name of the entry point.
        architecture: Published arguments of `DaViT`.
        dense: Data set of a dense prediction task, or None for classification.
        kwargs: Arguments of the caller, which override all others.
    """
    if dense is not None and dense not in _DENSE:
        raise ValueError(unknown_name(f"dense setting of {name}", dense, _DENSE))
    return DaViT(**{**architecture, "output_norms": dense is not None, **kwargs})


@register_model
def davit_tiny(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds DaViT-Tiny: 28.4 M parameters, 4.5 G multiply-accumulates at 224x224."""
    return _davit("davit_tiny", _TINY, dense, kwargs)


@register_model
def davit_small(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds DaViT-Small: 49.7 M parameters, 8.8 G multiply-accumulates at 224x224."""
    return _davit("davit_small", _SMALL, dense, kwargs)


@register_model
def davit_base(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds DaViT-Base: 88.0 M parameters, 15.5 G multiply-accumulates at 224x224."""
    return _davit("davit_base", _BASE, dense, kwargs)


@register_model
def davit_base_fl(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds the image tower of Florence-2-base: 90.4 M parameters, 189.9 G multiply-accumulates at 768x768."""
    return _davit("davit_base_fl", _BASE | _FLORENCE2_BODY, dense, kwargs)


@register_model
def davit_large(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds DaViT-Large: 196.8 M parameters, 34.5 G multiply-accumulates at 224x224."""
    return _davit("davit_large", _LARGE, dense, kwargs)


@register_model
def davit_large_window12_384(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds DaViT-Large with windows of 12x12 for 384x384: 196.8 M parameters, 102.8 G multiply-accumulates."""
    return _davit("davit_large_window12_384", _LARGE | {"window_size": 12}, dense, kwargs)


@register_model
def davit_huge(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds DaViT-Huge: 348.9 M parameters, 61.2 G multiply-accumulates at 224x224."""
    return _davit("davit_huge", _HUGE, dense, kwargs)


@register_model
def davit_huge_fl(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds the image tower of Florence-2-large: 360.6 M parameters, 744.0 G multiply-accumulates at 768x768."""
    return _davit("davit_huge_fl", _HUGE | _FLORENCE2_BODY, dense, kwargs)


@register_model
def davit_giant(*, dense: Dense = None, **kwargs: Any) -> DaViT:
    """Builds DaViT-Giant: 1406.5 M parameters, 192.8 G multiply-accumulates at 224x224."""
    return _davit("davit_giant", _GIANT, dense, kwargs)
