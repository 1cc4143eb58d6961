"""Sentences about files and folders that a config names and that do not exist."""

from __future__ import annotations

import os
from pathlib import Path

from ....names import nearest_names

GENERATED = {"data/digits": "make_digits", "data/scenes": "make_scenes"}
"""The data sets that a script in tools/ makes, by their folder."""


def missing_path(argument: str, path: str | os.PathLike[str]) -> str:
    """Says that a path does not exist, and how to make it or what may be meant instead.

    Args:
        argument: Name of the argument that gives the path.
        path: The path as given.
    """
    made = f" `python tools/{GENERATED[str(path)]}.py` makes it." if str(path) in GENERATED else ""
    return f"{argument}: there is no {path} (from {os.getcwd()}).{made}{did_you_mean(path)}"


def did_you_mean(path: str | os.PathLike[str]) -> str:
    """Names what exists with a similar name, where the path breaks off.

    Returns:
        A sentence with a leading space; empty if nothing is similar.
    """
    path = Path(path)
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    near = nearest_names(path.name, (entry.name for entry in parent.iterdir())) if parent.is_dir() else []
    return f" Did you mean {' or '.join(str(parent / name) for name in near)}?" if near else ""
