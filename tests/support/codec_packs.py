"""Cases of the `codecs` pack: anchors, box coding, assignment, suppression and losses."""

from __future__ import annotations

from typing import Any

import torch

from support import head_packs

PACK, TENSORS = head_packs.load("codecs")


def cases(*calls: str) -> list[str]:
    return head_packs.case_names("codecs", *calls)


def opened(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """Returns a case, its JSON inputs and its input tensors."""
    case = head_packs.case_of(PACK, name)
    return case, case["inputs"], {key: head_packs.given(case, TENSORS, key) for key in case["input_tensors"]}


def check(actual: torch.Tensor, case: dict[str, Any], name: str) -> None:
    head_packs.check(actual, case, TENSORS, name)


def check_equal(actual: torch.Tensor, case: dict[str, Any], name: str) -> None:
    head_packs.check_equal(actual, case, TENSORS, name)


def random_boxes(count: int, seed: int = 0, size: float = 100.0) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * size
    return torch.cat((corners.amin(1), corners.amax(1) + 1), dim=1)
