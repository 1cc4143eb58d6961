"""Published models and checkpoints of the family, body by body, from small to large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from ...names import unknown_name
from ..registry import PretrainedCfg, register_model
from .cswin import AgentCSWin
from .deit import AgentDeiT
from .pvt import AgentPVT
from .swin import AgentSwin

__all__ = [
    "agent_cswin_base",
    "agent_cswin_base_384",
    "agent_cswin_small",
    "agent_cswin_tiny",
    "agent_deit_base",
    "agent_deit_small",
    "agent_deit_small_448",
    "agent_deit_tiny",
    "agent_pvt_large",
    "agent_pvt_medium",
    "agent_pvt_medium_256",
    "agent_pvt_small",
    "agent_pvt_tiny",
    "agent_swin_base",
    "agent_swin_base_384",
    "agent_swin_small",
    "agent_swin_small_288",
    "agent_swin_tiny",
]

_NOTE = "The link is the official one and was not checked; no copy on the Hugging Face hub is known."

# The official evaluation resizes the entire image to a square of 256 / 224 of the input size, then crops.
_AGENT = PretrainedCfg(
    first_conv="stem.proj",
    classifier="head.fc",
    pool_size=(7, 7),
    crop_mode="squash",
    license="none stated: the official repository has no license, so all rights are its authors'; ask them",
    paper="Agent Attention: On the Integration of Softmax and Linear Attention",
    paper_url="https://arxiv.org/abs/2312.08874",
    origin_url="https://github.com/LeapLabTHU/Agent-Attention",
    verified=False,
    note=_NOTE,
)
_DEIT = replace(_AGENT, pool_size=(14, 14))
_CSWIN = replace(
    _AGENT, note="The file contains raw and averaged weights; published results are of the averaged ones. " + _NOTE
)


def _cloud(key: str) -> str:
    """Returns the official link of a file."""
    return f"https://cloud.tsinghua.edu.cn/f/{key}/?dl=1"


def _at(size: int, stride: int = 32) -> dict[str, Any]:
    """Returns the metadata fields of a checkpoint for another image size."""
    return {"input_size": (3, size, size), "pool_size": (size // stride, size // stride)}


default_cfgs = {
    "agent_deit_tiny.in1k": replace(_DEIT, url=_cloud("57e0904221824ee7b7af"), top1=74.9, params=6015640, macs=1.1679),
    "agent_deit_small.in1k": replace(
        _DEIT, url=_cloud("fdd43304372541db8ea7"), top1=80.5, params=22647112, macs=4.4273
    ),
    "agent_deit_small_448.in1k": replace(
        _DEIT, url=_cloud("a228f86241c445f1969b"), top1=83.1, params=23070472, macs=17.6415, **_at(448, 16)
    ),
    "agent_deit_base.in1k": replace(
        _DEIT, url=_cloud("5115f15fdd7e4ab58fbc"), top1=82.0, params=87204904, macs=17.5269
    ),
    "agent_pvt_tiny.in1k": replace(_AGENT, url=_cloud("13fdf0e0a7c5498c934f"), top1=78.4, params=11570352, macs=1.9864),
    "agent_pvt_small.in1k": replace(
        _AGENT, url=_cloud("36b8be9a8863456685a3"), top1=82.2, params=20635066, macs=3.9548
    ),
    "agent_pvt_medium.in1k": replace(
        _AGENT, url=_cloud("4d00ecacf18b45f9b88c"), top1=83.4, params=35921746, macs=6.9993
    ),
    "agent_pvt_medium_256.in1k": replace(
        _AGENT, url=_cloud("654df734121643b19c52"), top1=83.8, params=36083682, macs=9.1417, **_at(256)
    ),
    "agent_pvt_large.in1k": replace(
        _AGENT, url=_cloud("040cfe0cfbbe4762ad09"), top1=83.7, params=48738180, macs=10.3395
    ),
    "agent_swin_tiny.in1k": replace(
        _AGENT, url=_cloud("a2ddc1190c224f768a41"), top1=82.6, params=28902964, macs=4.4994
    ),
    "agent_swin_small.in1k": replace(
        _AGENT, url=_cloud("f607172c9fea4d6e99bb"), top1=83.7, params=49666684, macs=8.7014
    ),
    "agent_swin_small_288.in1k": replace(
        _AGENT, url=_cloud("09760394e93b4046a25e"), top1=84.1, params=49707964, macs=14.5348, crop_pct=1.0, **_at(288)
    ),
    "agent_swin_base.in1k": replace(
        _AGENT, url=_cloud("4fcd2d0114bb490483c3"), top1=84.0, params=88095096, macs=15.3998
    ),
    "agent_swin_base_384.in1k": replace(
        _AGENT, url=_cloud("bb84ee9058954706a557"), top1=84.9, params=88305016, macs=46.2072, crop_pct=1.0, **_at(384)
    ),
    "agent_cswin_tiny.in1k": replace(
        _CSWIN, url=_cloud("8c562a74441e46d5902b"), top1=83.1, params=20458672, macs=4.2921
    ),
    "agent_cswin_small.in1k": replace(
        _CSWIN, url=_cloud("30eb8af675bc4b7a8747"), top1=83.9, params=32814100, macs=6.7438
    ),
    "agent_cswin_base.in1k": replace(
        _CSWIN, url=_cloud("c8035b0839b2410c8c9f"), top1=84.7, params=73249696, macs=14.8699
    ),
    "agent_cswin_base_384.in1k": replace(
        _CSWIN, url=_cloud("1239be0df44b47719432"), top1=85.8, params=73328416, macs=46.1774, **_at(384)
    ),
}

Dense = Literal["coco", "ade20k"] | None
"""Data set whose published settings for dense prediction are used; both data sets share them."""

_DENSE = ("coco", "ade20k")
_SWIN_DENSE = {
    "agent_shapes": ((9, 9), (12, 12), (14, 14), (7, 7)),
    "always_shift": True,
    "output_norms": True,
}
_PVT_DENSE = {"agent_shapes": ((12, 12), (16, 16), (28, 28), (28, 28))}

_DEIT_SMALL = {"embed_dim": 384, "num_heads": 6}
_DEIT_BASE = {"embed_dim": 768, "num_heads": 12, "agent_blocks": (3, 1, 0, 0), "num_agents": (81, 81, 81, 81)}
_PVT_SMALL = {"depths": (3, 4, 6, 3)}
_PVT_MEDIUM = {"depths": (3, 4, 18, 3)}
_PVT_LARGE = {"depths": (3, 8, 27, 3)}
_SWIN_SMALL = {"depths": (2, 2, 18, 2), "agent_blocks": (2, 2, 0, 0)}
_SWIN_BASE = {
    "depths": (2, 2, 18, 2),
    "embed_dim": 128,
    "num_heads": (4, 8, 16, 32),
    "agent_blocks": (2, 2, 2, 0),
}
_CSWIN_SMALL = {"depths": (3, 6, 29, 2), "agent_blocks": (3, 6, 0, 0)}
_CSWIN_BASE = {**_CSWIN_SMALL, "embed_dim": 96, "num_heads": (4, 8, 16, 32)}


def _arguments(
    name: str,
    architecture: Mapping[str, Any],
    dense_settings: Mapping[str, Any] | None,
    dense: Dense,
    kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the arguments of a published model.

    Args:
        name: Name of the entry point.
        architecture: Published arguments of the model class.
        dense_settings: Published arguments for dense prediction; None if none were published.
        dense: Data set, or None for classification.
        kwargs: Arguments of the caller, which override all others.
    """
    if dense is None:
        return {**architecture, **kwargs}
    if dense_settings is None:
        raise ValueError(
            f"dense must be None for {name}, got {dense!r}: no settings for dense prediction were published. Any image "
            "size works, and agent_shapes=... sets the agent grids."
        )
    if dense not in _DENSE:
        raise ValueError(unknown_name(f"dense setting of {name}", dense, _DENSE))
    return {**architecture, **dense_settings, **kwargs}


@register_model
def agent_deit_tiny(*, dense: Dense = None, **kwargs: Any) -> AgentDeiT:
    """Builds Agent-DeiT-T: 6.0 M parameters, 1.2 G MACs at 224x224."""
    return AgentDeiT(**_arguments("agent_deit_tiny", {}, None, dense, kwargs))


@register_model
def agent_deit_small(*, dense: Dense = None, **kwargs: Any) -> AgentDeiT:
    """Builds Agent-DeiT-S: 22.6 M parameters, 4.4 G MACs at 224x224."""
    return AgentDeiT(**_arguments("agent_deit_small", _DEIT_SMALL, None, dense, kwargs))


@register_model
def agent_deit_small_448(*, dense: Dense = None, **kwargs: Any) -> AgentDeiT:
    """Builds Agent-DeiT-S for 448x448: 23.1 M parameters, 17.6 G MACs."""
    return AgentDeiT(**_arguments("agent_deit_small_448", _DEIT_SMALL | {"img_size": 448}, None, dense, kwargs))


@register_model
def agent_deit_base(*, dense: Dense = None, **kwargs: Any) -> AgentDeiT:
    """Builds Agent-DeiT-B, agents in the first 4 blocks: 87.2 M parameters, 17.5 G MACs at 224x224."""
    return AgentDeiT(**_arguments("agent_deit_base", _DEIT_BASE, None, dense, kwargs))


@register_model
def agent_pvt_tiny(*, dense: Dense = None, **kwargs: Any) -> AgentPVT:
    """Builds Agent-PVT-T: 11.6 M parameters, 2.0 G MACs at 224x224."""
    return AgentPVT(**_arguments("agent_pvt_tiny", {}, _PVT_DENSE, dense, kwargs))


@register_model
def agent_pvt_small(*, dense: Dense = None, **kwargs: Any) -> AgentPVT:
    """Builds Agent-PVT-S: 20.6 M parameters, 4.0 G MACs at 224x224."""
    return AgentPVT(**_arguments("agent_pvt_small", _PVT_SMALL, _PVT_DENSE, dense, kwargs))


@register_model
def agent_pvt_medium(*, dense: Dense = None, **kwargs: Any) -> AgentPVT:
    """Builds Agent-PVT-M: 35.9 M parameters, 7.0 G MACs at 224x224."""
    return AgentPVT(**_arguments("agent_pvt_medium", _PVT_MEDIUM, _PVT_DENSE, dense, kwargs))


@register_model
def agent_pvt_medium_256(*, dense: Dense = None, **kwargs: Any) -> AgentPVT:
    """Builds Agent-PVT-M for 256x256: 36.1 M parameters, 9.1 G MACs."""
    return AgentPVT(**_arguments("agent_pvt_medium_256", _PVT_MEDIUM | {"img_size": 256}, None, dense, kwargs))


@register_model
def agent_pvt_large(*, dense: Dense = None, **kwargs: Any) -> AgentPVT:
    """Builds Agent-PVT-L: 48.7 M parameters, 10.3 G MACs at 224x224."""
    return AgentPVT(**_arguments("agent_pvt_large", _PVT_LARGE, _PVT_DENSE, dense, kwargs))


@register_model
def agent_swin_tiny(*, dense: Dense = None, **kwargs: Any) -> AgentSwin:
    """Builds Agent-Swin-T: 28.9 M parameters, 4.5 G MACs at 224x224."""
    return AgentSwin(**_arguments("agent_swin_tiny", {}, _SWIN_DENSE, dense, kwargs))


@register_model
def agent_swin_small(*, dense: Dense = None, **kwargs: Any) -> AgentSwin:
    """Builds Agent-Swin-S: 49.7 M parameters, 8.7 G MACs at 224x224."""
    return AgentSwin(**_arguments("agent_swin_small", _SWIN_SMALL, _SWIN_DENSE, dense, kwargs))


@register_model
def agent_swin_small_288(*, dense: Dense = None, **kwargs: Any) -> AgentSwin:
    """Builds Agent-Swin-S for 288x288: 49.7 M parameters, 14.5 G MACs."""
    size = {"img_size": 288, "window_size": 9}
    return AgentSwin(**_arguments("agent_swin_small_288", _SWIN_SMALL | size, None, dense, kwargs))


@register_model
def agent_swin_base(*, dense: Dense = None, **kwargs: Any) -> AgentSwin:
    """Builds Agent-Swin-B: 88.1 M parameters, 15.4 G MACs at 224x224."""
    return AgentSwin(**_arguments("agent_swin_base", _SWIN_BASE, _SWIN_DENSE, dense, kwargs))


@register_model
def agent_swin_base_384(*, dense: Dense = None, **kwargs: Any) -> AgentSwin:
    """Builds Agent-Swin-B for 384x384: 88.3 M parameters, 46.2 G MACs."""
    size = {"img_size": 384, "window_size": 12}
    return AgentSwin(**_arguments("agent_swin_base_384", _SWIN_BASE | size, None, dense, kwargs))


@register_model
def agent_cswin_tiny(*, dense: Dense = None, **kwargs: Any) -> AgentCSWin:
    """Builds Agent-CSwin-T: 20.5 M parameters, 4.3 G MACs at 224x224."""
    return AgentCSWin(**_arguments("agent_cswin_tiny", {}, None, dense, kwargs))


@register_model
def agent_cswin_small(*, dense: Dense = None, **kwargs: Any) -> AgentCSWin:
    """Builds Agent-CSwin-S: 32.8 M parameters, 6.7 G MACs at 224x224."""
    return AgentCSWin(**_arguments("agent_cswin_small", _CSWIN_SMALL, None, dense, kwargs))


@register_model
def agent_cswin_base(*, dense: Dense = None, **kwargs: Any) -> AgentCSWin:
    """Builds Agent-CSwin-B: 73.2 M parameters, 14.9 G MACs at 224x224."""
    return AgentCSWin(**_arguments("agent_cswin_base", _CSWIN_BASE, None, dense, kwargs))


@register_model
def agent_cswin_base_384(*, dense: Dense = None, **kwargs: Any) -> AgentCSWin:
    """Builds Agent-CSwin-B for 384x384: 73.3 M parameters, 46.2 G MACs."""
    size = {"img_size": 384, "stripe_sizes": (1, 2, 12, 12)}
    return AgentCSWin(**_arguments("agent_cswin_base_384", _CSWIN_BASE | size, None, dense, kwargs))
