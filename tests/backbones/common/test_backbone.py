"""What all backbones inherit; `tests/backbones/test_contract.py` runs the contract over every registered model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnzoo.backbones.common.backbone import Backbone, take_indices
from attnzoo.backbones.common.blocks import Stage
from attnzoo.backbones.common.head import PooledHead


class Tiny(Backbone):
    """Three stages of linear layers on maps of one resolution."""

    def __init__(self) -> None:
        super().__init__()
        self._set_sizes(5, 3, 8)
        self.stem = nn.Conv2d(3, 4, 1)
        self.stages = nn.Sequential()
        for before, dim in ((4, 4), (4, 8), (8, 8)):
            self._append_stage(Stage(nn.Linear(before, dim), [nn.Linear(dim, dim)]), dim, 1)
        self.norm = nn.LayerNorm(8)
        self.head = PooledHead(8, 5)

    def forward_intermediates(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().forward_intermediates(x, *args, **kwargs)


def test_constructor_helpers():
    model = Tiny()
    assert (model.num_classes, model.in_chans, model.num_features, model.head_hidden_size) == (5, 3, 8, 8)
    assert model.feature_info == [
        {"num_chs": dim, "reduction": 1, "module": f"stages.{index}"} for index, dim in enumerate((4, 8, 8))
    ]
    with pytest.raises(ValueError, match="in_chans must be an integer >= 1, got 0"):
        model._set_sizes(5, 0, 8)


@pytest.mark.parametrize(
    ("indices", "expected"), [(None, [0, 1, 2]), (1, [2]), (3, [0, 1, 2]), ((2, 0), [0, 2]), ((-1,), [2])]
)
def test_take_indices(indices: Any, expected: list[int]):
    assert take_indices(3, indices) == expected


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (0, "must be >= 1 and <= 3, got 0"),
        (4, "must be >= 1 and <= 3, got 4"),
        ((0, 3), r"indices must be >= -3 and < 3, got \[3\]"),
        ((0, 0), r"must be distinct, and at least one is needed, got \[0, 0\]"),
        ((0, -3), r"must be distinct, and at least one is needed, got \[0, -3\]"),
        ((), r"must be distinct, and at least one is needed, got \[\]"),
    ],
)
def test_wrong_indices(indices: Any, message: str):
    with pytest.raises(ValueError, match=message):
        take_indices(3, indices)


def test_pruning_removes_what_follows():
    model = Tiny()
    assert model.prune_intermediate_layers([0, 1]) == [0, 1]
    assert (len(model.stages), model.num_features, model.num_classes) == (2, 8, 0)
    assert isinstance(model.norm, nn.Identity)
    model = Tiny()
    assert model.prune_intermediate_layers(1, prune_head=False) == [2]
    assert isinstance(model.norm, nn.LayerNorm)
    assert model.num_classes == 5


def test_grad_checkpointing_reaches_every_stage():
    model = Tiny()
    model.set_grad_checkpointing()
    assert all(stage.grad_checkpointing for stage in model.stages)
    model.set_grad_checkpointing(False)
    assert not any(stage.grad_checkpointing for stage in model.stages)
