"""Names in checkpoints that do not depend on the family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["strip_prefixes"]


def strip_prefixes(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Removes the prefixes that wrappers put before a backbone's names, repeatedly.

    "module." (data parallel), "_orig_mod." (torch.compile), "model." and "body." are removed from the names that have
    them. If any name begins with "backbone.", the checkpoint is that of a task model: only the backbone's entries are
    kept, and the classifier `head.fc`, which is beside the backbone in OpenMMLab's classification checkpoints.
    """
    state_dict = dict(state_dict)
    while True:
        if any(name.startswith("backbone.") for name in state_dict):
            classifier = {name: value for name, value in state_dict.items() if name.startswith("head.fc.")}
            state_dict = classifier | {
                name.removeprefix("backbone."): value
                for name, value in state_dict.items()
                if name.startswith("backbone.")
            }
            continue
        stripped = {re.sub(r"^(module|_orig_mod|model|body)\.", "", name): value for name, value in state_dict.items()}
        if stripped.keys() == state_dict.keys():
            return stripped
        state_dict = stripped
