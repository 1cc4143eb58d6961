"""Checksums of files, and those in the names of published files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from attnzoo.zoo.weights.checksums import hash_in_name, sha256_of


def test_the_checksum_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights" * 500_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"weights" * 500_000).hexdigest()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet50-0676ba61.pth", "0676ba61"),
        ("faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth", "047c8118"),
        ("model-0676ba61.pth.tar", "0676ba61"),
        ("model-20200130.pth", None),  # a date
        ("model-0676ba6.pth", None),
        ("model-0676BA61.pth", None),
        ("model-0676ba61.json", None),
        ("0676ba61.pth", None),
        ("model-0676ba61.pth.part", None),
    ],
)
def test_only_what_looks_like_a_checksum_is_found_in_a_name(name: str, found: str | None) -> None:
    assert hash_in_name(name) == found
