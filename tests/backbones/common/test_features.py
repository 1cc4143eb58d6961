"""Backbones that return feature maps: what is kept of the backbone, output norms, and loading checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnzoo
from attnzoo.backbones.common.features import FeatureMaps

SMALL = {"depths": (1, 1), "embed_dim": 8, "num_heads": (1, 2), "agent_blocks": (1, 0), "num_agents": (4, 4)}


def agent_swin(**options: Any) -> Any:
    return attnzoo.create_model("agent_swin_tiny", window_size=4, img_size=32, **SMALL, **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_maps_are_those_of_the_classifier(images: torch.Tensor):
    classifier = agent_swin(num_classes=3).eval()
    maps = agent_swin(features_only=True).eval()
    assert isinstance(maps, FeatureMaps)
    maps.load_state_dict(maps.filter_checkpoint(classifier.state_dict()))
    with torch.no_grad():
        expected = classifier.forward_intermediates(images, intermediates_only=True)
        found = maps(images)
    assert [tuple(x.shape) for x in found] == [(2, 8, 8, 8), (2, 16, 4, 4)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_maps_in_a_dict(images: torch.Tensor):
    as_list, as_dict = agent_swin(features_only=True).eval(), agent_swin(features_only=True, feature_cls="dict").eval()
    as_dict.load_state_dict(as_list.state_dict())
    with torch.no_grad():
        expected, found = as_list(images), as_dict(images)
    assert list(found) == as_dict.out_indices == [0, 1]
    assert all(torch.equal(one, other) for one, other in zip(found.values(), expected, strict=True))


@pytest.mark.parametrize("feature_cls", ["list", "getter", "hook", "fx"])
def test_maps_in_a_list(feature_cls: str):
    assert not agent_swin(features_only=True, feature_cls=feature_cls).returns_dict


def test_arguments_of_timm_that_cannot_be_honored():
    with pytest.raises(ValueError, match=r"Unknown feature_cls 'hooks'. Did you mean 'hook'\?"):
        agent_swin(features_only=True, feature_cls="hooks")
    with pytest.raises(ValueError, match="feature_cls selects what features_only=True returns"):
        agent_swin(feature_cls="dict")
    assert agent_swin(features_only=True, output_stride=32).feature_info.reduction() == [4, 8]
    with pytest.raises(ValueError, match=r"output_stride must be 32, got 16.*out_indices"):
        agent_swin(features_only=True, output_stride=16)


def test_stages_that_are_not_returned_are_dropped():
    maps = agent_swin(features_only=True, out_indices=(0,))
    assert maps.out_indices == [0]
    assert maps.feature_info.channels() == [8]
    assert not any(name.startswith(("body.stages.1", "body.head", "body.norm")) for name in maps.state_dict())


def test_output_norms_load_from_their_checkpoint_and_keep_their_values_with_a_classifiers(images: torch.Tensor):
    maps = agent_swin(features_only=True, output_norms=True).eval()
    assert maps.norm_names == ["norm0", "norm1"]
    torch.nn.init.constant_(maps.get_parameter("norm1.bias"), 2.0)
    classifier = agent_swin(num_classes=3)
    maps.load_state_dict(maps.filter_checkpoint(classifier.state_dict()))
    assert (maps.get_parameter("norm1.bias") == 2).all()
    published = {**classifier.state_dict(), "norm0.weight": torch.full((8,), 3.0), "norm0.bias": torch.zeros(8)}
    published |= {"norm1.weight": torch.ones(16), "norm1.bias": torch.zeros(16)}
    maps.load_state_dict(maps.filter_checkpoint(published))
    with torch.no_grad():
        first, second = maps(images)
    torch.testing.assert_close(first.std(dim=1, unbiased=False), torch.full((2, 8, 8), 3.0), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(second.mean(dim=1), torch.zeros(2, 4, 4), rtol=0, atol=1e-5)


def test_layer_groups_and_weight_decay_name_the_wrapped_backbone():
    maps = agent_swin(features_only=True, output_norms=True)
    groups = maps.group_matcher()
    assert groups["output_norms"] == r"^norm\d+"
    assert set(maps.no_weight_decay()) <= set(dict(maps.named_parameters()))
    assert maps.no_weight_decay()
