"""Which published checkpoint belongs to a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .entries import Checkpoint, all_checkpoints

if TYPE_CHECKING:
    from mmengine.config import Config


def checkpoint_of_config(cfg: Config) -> Checkpoint | None:
    """Returns the published checkpoint of a shipped recipe, or None if the catalog has none.

    If a recipe has several, it is the one without a suffix in its name.

    Args:
        cfg: Result of `load_config`. A config that is not shipped, such as that of a work dir, has no published
            checkpoint, whatever its file name is.
    """
    from ..config.loading import CONFIG_ROOT  # imports mmengine, which the list does not need

    if not cfg.filename:
        return None
    path = Path(cfg.filename).resolve()
    return all_checkpoints().get(path.stem) if path.is_relative_to(CONFIG_ROOT) else None
