"""Checks of the catalog's entries against the shipped recipes, and a fabricated published checkpoint."""

from __future__ import annotations

import ast
import io
import re
from typing import Any

import torch

from attnzoo.backbones.registry import list_models
from attnzoo.zoo.catalog import Checkpoint
from attnzoo.zoo.config import find_config, list_configs, load_config
from attnzoo.zoo.config.parts import config_parts
from attnzoo.zoo.evaluation import evaluator_infos
from attnzoo.zoo.registry import MODELS

WORDS = {"bbox_mAP": "box AP", "segm_mAP": "mask AP", "mIoU": "mIoU on the validation set at a single scale"}
"""How the recipes' docstrings call the metrics that they state."""

SMALL_RECIPE = "nat_mask-rcnn_scenes"


def published_metrics(config: str) -> dict[str, float]:
    """Reads the metrics in the paragraph "Published:" of a recipe's docstring."""
    text = ast.get_docstring(ast.parse(find_config(config).read_text(encoding="utf-8"))) or ""
    paragraph = re.search(r"^Published: (.*?)(?=^\S[^\n]*:|\Z)", text, re.MULTILINE | re.DOTALL)
    words = " ".join(paragraph[1].split()) if paragraph else ""
    found = {key: re.search(rf"([\d.]+) {re.escape(name)}", words) for key, name in WORDS.items()}
    return {key: float(match[1]) for key, match in found.items() if match}


def problems(entry: Checkpoint) -> list[str]:
    """Returns what is wrong with an entry of the catalog."""
    if entry.config not in {name.rpartition("/")[2] for name in list_configs()}:
        return [f"there is no config {entry.config}"]
    cfg = load_config(entry.config).to_dict()
    parts = config_parts(cfg)
    infos = evaluator_infos(cfg.get("test_evaluator") or cfg["val_evaluator"])
    reported = {info.name for info in infos or ()}
    backbone = parts.backbone
    found = []
    if parts.kind != entry.task or not parts.has_separate_heads:
        found.append(f"the task of the config is {parts.kind}")
    if backbone is None or backbone.type.partition(".")[0] not in list_models(family=entry.family):
        found.append(f"the backbone of the config is not of the family {entry.family}")
    if unknown := entry.metrics.keys() - reported:
        found.append(f"the evaluator does not report {sorted(unknown)}")
    if dict(entry.metrics) != published_metrics(entry.config):
        found.append(f"the docstring of the config states {published_metrics(entry.config)}")
    return found


def small_checkpoint(config: dict[str, Any]) -> tuple[dict[str, torch.Tensor], bytes]:
    """Fabricates a checkpoint of a detector with a NAT, under the names that the authors' code saves.

    Returns:
        The weights of the task, and the content of the file.
    """
    torch.manual_seed(1)
    state = MODELS.build(config).state_dict()
    saved = {}
    for name, value in state.items():
        if name.startswith("backbone."):
            name = name.replace("stem.convs.", "patch_embed.proj.").replace("stem.", "patch_embed.")
            name = re.sub(r"stages\.(\d)\.downsample", lambda match: f"levels.{int(match[1]) - 1}.downsample", name)
            name = name.replace("stages.", "levels.")
        saved[name] = value
    file = io.BytesIO()
    torch.save({"meta": {"mmcv_version": "1.7.0"}, "state_dict": saved, "optimizer": {}}, file)
    return state, file.getvalue()
