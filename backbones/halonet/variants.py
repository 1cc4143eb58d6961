"""Models and checkpoints of the family: timm's hybrids, and the paper's H0 to H7, from small to large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..registry import PretrainedCfg, register_model
from .model import HaloNet

__all__ = [
    "eca_halonext26ts",
    "halo2botnet50ts_256",
    "halonet26t",
    "halonet50ts",
    "halonet_h0",
    "halonet_h1",
    "halonet_h1_timm",
    "halonet_h2",
    "halonet_h3",
    "halonet_h4",
    "halonet_h5",
    "halonet_h6",
    "halonet_h7",
    "haloregnetz_b",
    "lamhalobotnet50ts_256",
    "sehalonet33ts",
]

_TIMM = PretrainedCfg(
    input_size=(3, 256, 256),
    crop_pct=0.94,
    first_conv="stem.conv1.conv",
    pool_size=(8, 8),
    license="apache-2.0",
    paper="Scaling Local Self-Attention for Parameter Efficient Visual Backbones",
    paper_url="https://arxiv.org/abs/2103.12731",
    origin_url="https://github.com/huggingface/pytorch-image-models",
    verified=False,
    note="A hybrid model of timm that is not in the paper. Links are timm's and were not checked.",
)
_PAPER = replace(
    _TIMM,
    crop_pct=0.875,
    license=None,
    origin_url=None,
    verified=True,
    note="Neither code nor weights were published. The accuracy is the paper's as quoted by re-implementations; the "
    "evaluation crop is a guess.",
)
_URL = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-attn-weights"


def _timm_cfg(name: str, file: str, **fields: Any) -> PretrainedCfg:
    """Returns the metadata of a timm checkpoint from its tagged name and file name."""
    return replace(_TIMM, url=f"{_URL}/{file}", hf_hub_id=f"timm/{name}", **fields)


def _paper_cfg(size: int, top1: float, params: int, macs: float) -> PretrainedCfg:
    """Returns the metadata of one of the paper's models."""
    side = -(-size // 32)
    return replace(_PAPER, input_size=(3, size, size), pool_size=(side, side), top1=top1, params=params, macs=macs)


default_cfgs = {
    "halonet26t.a1h_in1k": _timm_cfg(
        "halonet26t.a1h_in1k",
        "halonet26t_a1h_256-3083328c.pth",
        crop_pct=0.95,
        top1=79.134,
        params=12480288,
        macs=3.1728,
    ),
    "eca_halonext26ts.c1_in1k": _timm_cfg(
        "eca_halonext26ts.c1_in1k",
        "eca_halonext26ts_c_256-06906299.pth",
        top1=79.518,
        params=10756885,
        macs=2.4201,
    ),
    "haloregnetz_b.ra3_in1k": _timm_cfg(
        "haloregnetz_b.ra3_in1k",
        "haloregnetz_c_raa_256-c8ad7616.pth",
        input_size=(3, 224, 224),
        pool_size=(7, 7),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        top1=81.058,
        params=11680072,
        macs=1.9513,
    ),
    "sehalonet33ts.ra2_in1k": _timm_cfg(
        "sehalonet33ts.ra2_in1k",
        "sehalonet33ts_256-87e053f9.pth",
        top1=80.976,
        params=13691712,
        macs=3.5304,
    ),
    "halonet50ts.a1h_in1k": _timm_cfg(
        "halonet50ts.a1h_in1k",
        "halonet50ts_a1h2_256-f3a3daee.pth",
        top1=81.64,
        params=22733280,
        macs=5.2695,
    ),
    "lamhalobotnet50ts_256.a1h_in1k": _timm_cfg(
        "lamhalobotnet50ts_256.a1h_in1k",
        "lamhalobotnet50ts_a1h2_256-fe3d9445.pth",
        crop_pct=0.95,
        top1=81.552,
        params=22569824,
        macs=4.9898,
    ),
    "halo2botnet50ts_256.a1h_in1k": _timm_cfg(
        "halo2botnet50ts_256.a1h_in1k",
        "halo2botnet50ts_a1h2_256-fd9c11a3.pth",
        crop_pct=0.95,
        top1=82.084,
        params=22635360,
        macs=4.9914,
    ),
    "halonet_h1_timm.untrained": replace(
        _TIMM,
        crop_pct=0.95,
        verified=True,
        params=8100056,
        macs=2.9882,
        note="timm's halonet_h1, for which no weights were published.",
    ),
    "halonet_h0.untrained": _paper_cfg(256, 77.9, 5494440, 2.3529),
    "halonet_h1.untrained": _paper_cfg(256, 79.9, 8096232, 3.005),
    "halonet_h2.untrained": _paper_cfg(256, 80.4, 9395752, 3.3128),
    "halonet_h3.untrained": _paper_cfg(320, 81.9, 11832424, 6.1795),
    "halonet_h4.untrained": _paper_cfg(384, 83.3, 19093096, 11.9984),
    "halonet_h5.untrained": _paper_cfg(448, 84.0, 30678952, 32.2462),
    "halonet_h6.untrained": _paper_cfg(512, 84.4, 43408744, 52.7871),
    "halonet_h7.untrained": _paper_cfg(600, 84.9, 67364584, 108.9554),
}


def _paper_model(
    kwargs: Mapping[str, Any],
    *,
    block_size: int = 8,
    halo_size: int = 3,
    value_ratio: float = 1.0,
    width_ratio: float,
    third_depth: int,
    final_dim: int | None = None,
) -> HaloNet:
    """Builds one of the paper's models.

    Args:
        kwargs: Arguments of the caller, which override all others.
        block_size: b in the paper.
        halo_size: h in the paper.
        value_ratio: r_v in the paper, ratio of value to query channels.
        width_ratio: r_b in the paper, ratio of a block's output channels to its query channels.
        third_depth: l_3 in the paper, number of blocks of the third stage.
        final_dim: d_f in the paper, number of channels of the last convolution.
    """
    dims = (64, 128, 256, 512)
    architecture = {
        "blocks": ("hhh", "hhh", "h" * third_depth, "hhh"),
        "hidden_dims": dims,
        "embed_dims": tuple(int(dim * width_ratio) for dim in dims),
        "num_heads": (4, 8, 8, 8),
        "block_size": block_size,
        "halo_size": halo_size,
        "value_ratio": value_ratio,
        "stem": "7x7",
        "shortcut": "first",
        "attn_norms": False,
        "act": "silu",
        "final_dim": final_dim,
    }
    return HaloNet(**{**architecture, **kwargs})


@register_model
def halonet26t(**kwargs: Any) -> HaloNet:
    """Builds timm's HaloNet-26-T: 12.5 M parameters, 3.2 G MACs at 256x256."""
    return HaloNet(**{"blocks": ("cc", "cc", "ch", "hh"), "halo_size": 2, **kwargs})


@register_model
def eca_halonext26ts(**kwargs: Any) -> HaloNet:
    """Builds timm's ECA-HaloNeXt-26-TS: 10.8 M parameters, 2.4 G MACs at 256x256."""
    architecture = {
        "blocks": ("cc", "cc", "ch", "hh"),
        "halo_size": 2,
        "group_width": 16,
        "gate": "eca",
        "qk_head_dim": 16,
        "act": "silu",
    }
    return HaloNet(**{**architecture, **kwargs})


@register_model
def haloregnetz_b(**kwargs: Any) -> HaloNet:
    """Builds timm's HaloRegNetZ-B: 11.7 M parameters, 2.0 G MACs at 224x224."""
    architecture = {
        "blocks": ("cc", "cccccc", "ccch" * 3, "hh"),
        "embed_dims": (48, 96, 192, 288),
        "hidden_dims": None,
        "expansion": 3,
        "block_size": 7,
        "halo_size": 2,
        "stem": "3x3",
        "stem_pool": False,
        "qk_ratio": 0.33,
        "group_width": 16,
        "gate": "se",
        "gate_ratio": 0.25,
        "shortcut": "none",
        "acts_last": False,
        "act": "silu",
        "final_dim": 1536,
    }
    return HaloNet(**{**architecture, **kwargs})


@register_model
def sehalonet33ts(**kwargs: Any) -> HaloNet:
    """Builds timm's SE-HaloNet-33-TS: 13.7 M parameters, 3.5 G MACs at 256x256."""
    architecture = {
        "blocks": ("cc", "cch", "cch", "hh"),
        "embed_dims": (256, 512, 1024, 1536),
        "stem_pool": False,
        "gate": "se",
        "act": "silu",
        "final_dim": 1280,
    }
    return HaloNet(**{**architecture, **kwargs})


@register_model
def halonet50ts(**kwargs: Any) -> HaloNet:
    """Builds timm's HaloNet-50-TS: 22.7 M parameters, 5.3 G MACs at 256x256."""
    architecture = {"blocks": ("ccc", "ccch", "ch" * 3, "chc"), "num_heads": (8, 4, 8, 8), "act": "silu"}
    return HaloNet(**{**architecture, **kwargs})


@register_model
def lamhalobotnet50ts_256(**kwargs: Any) -> HaloNet:
    """Builds timm's LamHaloBotNet-50-TS (lambda, halo, global attention): 22.6 M parameters, 5.0 G MACs at 256x256."""
    architecture = {
        "blocks": ("ccc", "clcl", "ch" * 3, "cgc"),
        "num_heads": (8, 4, 8, 4),
        "stem_pool": False,
        "act": "silu",
    }
    return HaloNet(**{**architecture, **kwargs})


@register_model
def halo2botnet50ts_256(**kwargs: Any) -> HaloNet:
    """Builds timm's Halo2BotNet-50-TS (halo, global attention): 22.6 M parameters, 5.0 G MACs at 256x256."""
    architecture = {
        "blocks": ("ccc", "chch", "ch" * 3, "cgc"),
        "num_heads": (8, 8, 8, 4),
        "stem_pool": False,
        "act": "silu",
    }
    return HaloNet(**{**architecture, **kwargs})


@register_model
def halonet_h1_timm(**kwargs: Any) -> HaloNet:
    """Builds timm's halonet_h1: 8.1 M parameters, 3.0 G MACs at 256x256."""
    architecture = {
        "blocks": ("hhh", "hhh", "h" * 10, "hhh"),
        "embed_dims": (64, 128, 256, 512),
        "stem": "7x7",
    }
    return HaloNet(**{**architecture, **kwargs})


@register_model
def halonet_h0(**kwargs: Any) -> HaloNet:
    """Builds the paper's HaloNet-H0: 5.5 M parameters, 2.4 G MACs at 256x256."""
    return _paper_model(kwargs, width_ratio=0.5, third_depth=7)


@register_model
def halonet_h1(**kwargs: Any) -> HaloNet:
    """Builds the paper's HaloNet-H1: 8.1 M parameters, 3.0 G MACs at 256x256."""
    return _paper_model(kwargs, width_ratio=1.0, third_depth=10)


@register_model
def halonet_h2(**kwargs: Any) -> HaloNet:
    """Builds the paper's HaloNet-H2: 9.4 M parameters, 3.3 G MACs at 256x256."""
    return _paper_model(kwargs, width_ratio=1.25, third_depth=11)


@register_model
def halonet_h3(**kwargs: Any) -> HaloNet:
    """Builds the paper's HaloNet-H3: 11.8 M parameters, 6.2 G MACs at 320x320."""
    return _paper_model(kwargs, block_size=10, width_ratio=1.5, third_depth=12, final_dim=1024)


@register_model
def halonet_h4(**kwargs: Any) -> HaloNet:
    """Builds the paper's HaloNet-H4: 19.1 M parameters, 12.0 G MACs at 384x384."""
    return _paper_model(kwargs, block_size=12, halo_size=2, width_ratio=3.0, third_depth=12, final_dim=1280)


@register_model
def halonet_h5(**kwargs: Any) -> HaloNet:
    """Builds the paper's HaloNet-H5: 30.7 M parameters, 32.2 G MACs at 448x448."""
    return _paper_model(
        kwargs, block_size=14, halo_size=2, value_ratio=2.5, width_ratio=2.0, third_depth=23, final_dim=1536
    )


@register_model
def halonet_h6(**kwargs: Any) -> HaloNet:
    """Builds the paper's HaloNet-H6: 43.4 M parameters, 52.8 G MACs at 512x512."""
    return _paper_model(kwargs, halo_size=4, value_ratio=3.0, width_ratio=2.75, third_depth=24, final_dim=1536)


@register_model
def halonet_h7(**kwargs: Any) -> HaloNet:
    """Builds the paper's HaloNet-H7: 67.4 M parameters, 109.0 G MACs at 600x600."""
    return _paper_model(kwargs, block_size=10, value_ratio=4.0, width_ratio=3.5, third_depth=26, final_dim=2048)
