"""Published models and checkpoints, from small to large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from ...names import unknown_name
from ..registry import PretrainedCfg, register_model
from .model import BiFormer, Regions

__all__ = ["biformer_base", "biformer_small", "biformer_stl", "biformer_stl_nchw", "biformer_tiny"]

_SHARES = "https://api.onedrive.com/v1.0/shares"
_BIFORMER = PretrainedCfg(
    first_conv="stem.conv1",
    classifier="head.fc",
    pool_size=(7, 7),
    license="mit",
    paper="BiFormer: Vision Transformer with Bi-Level Routing Attention",
    paper_url="https://arxiv.org/abs/2303.08810",
    origin_url="https://github.com/rayleizhu/BiFormer",
    verified=False,
    broken=True,
    note="The link was not opened, and users report it as broken ('The provided "
    "share id was malformed'). The official README links a folder with the same files: "
    "https://1drv.ms/u/s!AkBbczdRlZvChGsXFqAA-PVnA-R8?e=IPlOCG. The accuracy is that of the weights under 'model', "
    "not of the average under 'model_ema'.",
)
_STL = replace(_BIFORMER, first_conv="stem.conv")

default_cfgs = {
    "biformer_tiny.in1k": replace(
        _BIFORMER,
        url=f"{_SHARES}/s!AkBbczdRlZvChHEOoGkgwgQzEDlM/root/content",
        top1=81.4,
        params=13142760,
        macs=2.2159,
    ),
    "biformer_small.in1k": replace(
        _BIFORMER,
        url=f"{_SHARES}/s!AkBbczdRlZvChHDyM-x9KWRBZ832/root/content",
        top1=83.8,
        params=25536232,
        macs=4.4636,
    ),
    "biformer_base.in1k": replace(
        _BIFORMER,
        url=f"{_SHARES}/s!AkBbczdRlZvChHI_XPhoadjaNxtO/root/content",
        top1=84.3,
        params=56804968,
        macs=9.759,
    ),
    "biformer_stl.in1k": replace(
        _STL,
        url=f"{_SHARES}/s!AkBbczdRlZvChSf-m7ujkvx9lIQ1/root/content",
        top1=82.7,
        params=28372552,
        macs=4.5739,
    ),
    "biformer_stl_nchw.in1k": replace(
        _STL,
        url=f"{_SHARES}/s!AkBbczdRlZvChWYrKbWbMgqd2Ai0/root/content",
        top1=82.7,
        params=28372552,
        macs=4.5739,
        note=f"{_STL.note} The accuracy was reproduced by the authors after the paper was accepted.",
    ),
}

Dense = Literal["coco", "ade20k"] | None
"""Published settings for dense prediction: their regions, and a layer norm per map."""

_DENSE_REGIONS = {"coco": 16, "ade20k": 8}

_TINY = {"depths": (2, 2, 8, 2), "embed_dims": (64, 128, 256, 512), "num_heads": (2, 4, 8, 8), "mlp_ratio": 3.0}
_SMALL = {**_TINY, "depths": (4, 4, 18, 4)}
_BASE = {**_SMALL, "embed_dims": (96, 192, 384, 768), "num_heads": (3, 6, 12, 8)}
_SWIN_T = {**_BASE, "depths": (2, 2, 6, 2), "mlp_ratio": 4.0, "patches": "patch", "pos_embed": False}


def _biformer(
    name: str, architecture: Mapping[str, Any], dense: Dense, n_win: Regions | None, kwargs: Mapping[str, Any]
) -> BiFormer:
    """Builds a published model.

    Args:
        name: Name of the entry point.
        architecture: Published arguments of `BiFormer`.
        dense: Data set of a dense prediction task, or None for classification.
        n_win: Official name of `num_regions`.
        kwargs: Arguments of the caller, which override all others.
    """
    settings: dict[str, Any] = {}
    if dense is not None:
        if architecture.get("patches") == "patch":
            raise ValueError(
                f"No dense prediction setting was published for {name}, got dense={dense!r}. "
                "Pass num_regions=... and, for a norm per map, output_norms=True instead."
            )
        if dense not in _DENSE_REGIONS:
            raise ValueError(unknown_name(f"dense setting of {name}", dense, _DENSE_REGIONS))
        settings = {"num_regions": _DENSE_REGIONS[dense], "output_norms": True}
    if n_win is not None:
        if "num_regions" in kwargs:
            raise ValueError(
                f"num_regions={kwargs['num_regions']!r} and n_win={n_win!r} are the same argument: pass only one."
            )
        settings["num_regions"] = n_win
    return BiFormer(**{**architecture, **settings, **kwargs})


@register_model
def biformer_tiny(*, dense: Dense = None, n_win: Regions | None = None, **kwargs: Any) -> BiFormer:
    """Builds BiFormer-T: 13.1 M parameters, 2.2 G multiply-accumulates at 224x224."""
    return _biformer("biformer_tiny", _TINY, dense, n_win, kwargs)


@register_model
def biformer_small(*, dense: Dense = None, n_win: Regions | None = None, **kwargs: Any) -> BiFormer:
    """Builds BiFormer-S: 25.5 M parameters, 4.5 G multiply-accumulates at 224x224."""
    return _biformer("biformer_small", _SMALL, dense, n_win, kwargs)


@register_model
def biformer_stl(*, dense: Dense = None, n_win: Regions | None = None, **kwargs: Any) -> BiFormer:
    """Builds BiFormer-STL (Swin-T's layout): 28.4 M parameters, 4.6 G multiply-accumulates at 224x224."""
    return _biformer("biformer_stl", _SWIN_T, dense, n_win, kwargs)


@register_model
def biformer_stl_nchw(*, dense: Dense = None, n_win: Regions | None = None, **kwargs: Any) -> BiFormer:
    """Builds the official refactoring of BiFormer-STL, whose last stage computes LePE from the values.

    28.4 M parameters, 4.6 G multiply-accumulates at 224x224.
    """
    architecture = {**_SWIN_T, "full_lepe": "value", "linear_init": "torch"}
    return _biformer("biformer_stl_nchw", architecture, dense, n_win, kwargs)


@register_model
def biformer_base(*, dense: Dense = None, n_win: Regions | None = None, **kwargs: Any) -> BiFormer:
    """Builds BiFormer-B: 56.8 M parameters, 9.8 G multiply-accumulates at 224x224."""
    return _biformer("biformer_base", _BASE, dense, n_win, kwargs)
