"""Weights are matched with a model's before the model is changed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from attnzoo.zoo.weights.load_plan import LoadPlan, WeightsMismatchError, adapt_input_channels
from attnzoo.zoo.weights.state_dicts import find_state_dict

from .small_models import official_names, same_weights, small


def test_a_gray_image_has_the_same_output_as_its_copy_in_every_channel() -> None:
    torch.manual_seed(0)
    weight, gray = torch.randn(4, 3, 3, 3), torch.randn(1, 1, 8, 8)
    expected = nn.functional.conv2d(gray.expand(-1, 3, -1, -1), weight)
    torch.testing.assert_close(nn.functional.conv2d(gray, adapt_input_channels(weight, 1)), expected)
    back = adapt_input_channels(adapt_input_channels(weight, 1), 3)
    torch.testing.assert_close(nn.functional.conv2d(gray.expand(-1, 3, -1, -1), back), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_adapted_weights_keep_their_type(dtype: torch.dtype) -> None:
    weight = torch.randn(4, 3, 3, 3).to(dtype)
    assert adapt_input_channels(weight, 3) is weight
    assert adapt_input_channels(weight, 7).dtype == dtype
    assert adapt_input_channels(weight, 7).shape == (4, 7, 3, 3)


def plan_for(model: nn.Module, other: nn.Module) -> LoadPlan:
    return LoadPlan(model, find_state_dict(official_names(other.state_dict())), "a test")


def test_a_plan_changes_the_model_only_when_it_is_executed() -> None:
    model, other = small(num_classes=7, in_chans=1), small(seed=1)
    before = copy.deepcopy(model)
    plan = plan_for(model, other)
    plan.fit_first_layer()
    plan.fit_head(fresh=False, adopt=True)
    assert same_weights(model, before)
    assert (plan.in_chans, plan.adopted_classes, plan.head_classes) == ((3, 1), 5, None)
    plan.execute(strict=True)
    assert same_weights(model, other, but=r"^stem\.convs\.0\.weight")


def test_a_fresh_head_is_excluded() -> None:
    plan = plan_for(small(), small(seed=1))
    plan.fit_head(fresh=True, adopt=True)
    assert plan.excluded == plan.kept == {"head.fc.weight", "head.fc.bias"}
    assert not plan.excluded & plan.given.keys()


def test_a_plan_without_fitting_tensors_is_not_executed() -> None:
    plan = LoadPlan(nn.Linear(2, 2), find_state_dict({"other": torch.ones(1)}), "a test")
    with pytest.raises(WeightsMismatchError, match=r"a test .*none of the tensors does"):
        plan.execute(strict=False)
