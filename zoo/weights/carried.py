"""Finds the preprocessing that a checkpoint carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..preprocessing import Preprocessing
from .reading import CheckpointError
from .saved_config import saved_preprocessing

METADATA_KEY = "attnzoo.preprocessing"
"""Name of the preprocessing, as JSON, in the metadata of a safetensors file."""


def carried_preprocessing(
    checkpoint: Mapping[str, Any], path: Path | None, search_folder: bool
) -> Preprocessing | None:
    """Finds how images are prepared for the weights in a checkpoint.

    Args:
        checkpoint: Content of the file. Training checkpoints of attnzoo have the entry in `meta`.
        path: Path of the file; None if there is none. `save_pretrained` writes the preprocessing to its metadata.
        search_folder: Whether to read the config.json of a saved model in the same folder, which files of older
            versions and of timm need.

    Returns:
        The preprocessing; None if the checkpoint carries none.

    Raises:
        CheckpointError: The entry is malformed.
    """
    meta = checkpoint.get("meta")
    try:
        if isinstance(meta, Mapping) and isinstance(meta.get("preprocessing"), Mapping):
            return Preprocessing.from_dict(meta["preprocessing"])
        if path is None or path.suffix != ".safetensors":
            return None
        text = _metadata(path).get(METADATA_KEY)
        if text is not None:
            return Preprocessing.from_dict(json.loads(text))
        return _from_saved_model(path.parent / "config.json") if search_folder else None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The preprocessing that the checkpoint carries is malformed: {error}") from error


def _metadata(path: Path) -> Mapping[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _from_saved_model(config: Path) -> Preprocessing | None:
    """Reads the config.json of a saved model; None if there is no such file, or it belongs to something else."""
    if not config.is_file():
        return None
    content = json.loads(config.read_text(encoding="utf-8"))
    if not isinstance(content, Mapping) or not isinstance(content.get("pretrained_cfg"), Mapping):
        return None
    return saved_preprocessing(content)
