"""sha256 checksums of files, and those in the names of published files."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})(?:\.(?:pth|pt|bin|ckpt|safetensors|tar))+")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Returns the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_in_name(name: str) -> str | None:
    """Returns the first digits of the sha256 that the name of a published file ends with, or None.

    torch hub, timm and OpenMMLab name files so: "resnet50-0676ba61.pth". Decimal digits alone are taken for a date or a
    number of steps.
    """
    found = _HASH_IN_NAME.search(name)
    if found is None or found.end() != len(name) or found.group(1).isdigit():
        return None
    return found.group(1)
