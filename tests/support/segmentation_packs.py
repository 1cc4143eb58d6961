"""Parity packs of segmentation: converts reference configs to our configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from support import head_packs

PACKS = ("sem_fpn", "upernet")


def head_config(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Converts the config of a reference head to ours. Returns None for None."""
    if config is None:
        return None
    loss = config["loss_decode"]
    assert loss["type"] == "CrossEntropyLoss"
    assert not loss["use_sigmoid"]
    arguments = head_packs.without_type(config, "norm_cfg", "loss_decode")
    return {"type": config["type"], **arguments, "loss_weight": loss["loss_weight"]}


def segmentor_config(pack: Mapping[str, Any], case: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Converts a pack's config to that of a Segmentor. The backbone is a module without the pack's weights.

    Args:
        pack: Pack of a segmentor.
        case: Case with settings of inference and padding.
    """
    config = pack["config"]
    inputs = case["inputs"] if case else {}
    settings = config["data_preprocessor"]
    return {
        "type": "Segmentor",
        "backbone": head_packs.TinyBackbone(config["backbone"]["channels"]),
        "neck": {"type": "FPN", **head_packs.fpn_arguments(pack)} if "neck" in config else None,
        "decode_head": head_config(config["decode_head"]),
        "auxiliary_head": head_config(config.get("auxiliary_head")),
        "data_preprocessor": {
            "mean": [value / 255 for value in settings["mean"]],
            "std": [value / 255 for value in settings["std"]],
            "size_divisor": inputs.get("preprocessor_test_cfg", {}).get("size_divisor", 1),
        },
        "inference": dict(inputs.get("test_cfg", {"mode": "whole"})),
    }
