"""The feature pyramid network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnzoo.heads.fpn import FPN
from support import head_packs

PACKS = ("fpn", "fpn_on_input", "fpn_on_output")


CASES = [(name, case) for name in PACKS for case in head_packs.case_names(name)]


def maps(*channels: int, size: int = 24) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, count, size >> i, (size + 8) >> i, generator=generator) for i, count in enumerate(channels)]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_pyramid_matches_the_reference_implementation(name: str, case: str):
    pack, tensors = head_packs.load(name)
    facts = head_packs.case_of(pack, case)
    neck = head_packs.load_weights(FPN(**head_packs.fpn_arguments(pack)), pack, "neck.")
    assert sum(one.numel() for one in neck.parameters()) == pack["params"]
    with torch.no_grad():
        found = neck(head_packs.features(facts))
    assert len(found) == len(facts["outputs"])
    for level, one in enumerate(found):
        head_packs.check(one, facts, tensors, f"out_{level}")


def test_extra_levels_from_the_lateral_sums():
    """No pack has `on_lateral`: the first further convolution reads the coarsest level before its 3x3 convolution."""
    neck = FPN((4, 6), 8, num_outs=4, add_extra_convs="on_lateral").eval()
    features = maps(4, 6)
    sums = neck.lateral_convs[1](features[1])
    first = neck.fpn_convs[2](sums)
    found = neck(features)
    torch.testing.assert_close(found[2], first)
    torch.testing.assert_close(found[3], neck.fpn_convs[3](first))


def test_relu_precedes_all_extra_convolutions_but_the_first():
    plain = FPN((4, 6), 8, num_outs=5, add_extra_convs="on_output")
    with_relu = FPN((4, 6), 8, num_outs=5, add_extra_convs="on_output", relu_before_extra_convs=True)
    with_relu.load_state_dict(plain.state_dict())
    features = maps(4, 6)
    expected, found = plain(features), with_relu(features)
    torch.testing.assert_close(found[2], expected[2])
    torch.testing.assert_close(found[3], plain.fpn_convs[3](expected[2].relu()))
    assert (expected[2] < 0).any()
    assert not torch.allclose(found[3], expected[3])


def test_true_means_on_input():
    assert FPN((4, 6), 8, num_outs=3, add_extra_convs=True).add_extra_convs == "on_input"


def test_start_and_end_level():
    neck = FPN((4, 6, 8, 10), 8, num_outs=2, start_level=1, end_level=2)
    found = neck(maps(4, 6, 8, 10))
    assert [tuple(one.shape[1:]) for one in found] == [(8, 12, 16), (8, 6, 8)]


def test_coarser_levels_are_resized_to_the_exact_size_of_the_finer():
    neck = FPN((4, 6), 8, num_outs=2)
    fine, coarse = torch.randn(1, 4, 7, 9), torch.randn(1, 6, 3, 4)
    rows, columns = torch.arange(7) * 3 // 7, torch.arange(9) * 4 // 9
    total = neck.lateral_convs[0](fine) + neck.lateral_convs[1](coarse)[..., rows[:, None], columns]
    torch.testing.assert_close(neck([fine, coarse])[0], neck.fpn_convs[0](total))


def test_xavier_initialization():
    torch.manual_seed(0)
    neck = FPN((64, 128), 96, num_outs=3, add_extra_convs="on_input")
    for name, parameter in neck.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        else:
            area = parameter.shape[2] * parameter.shape[3]
            bound = (6 / (area * (parameter.shape[0] + parameter.shape[1]))) ** 0.5
            assert 0.99 * bound < parameter.abs().max() <= bound, name
            assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.03), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"add_extra_convs": "on_inputs"}, "Did you mean 'on_input'"),
        ({"start_level": 2}, "0 <= start_level"),
        ({"end_level": 5}, "0 <= start_level"),
        ({"num_outs": 1}, "num_outs=1 for 2 maps"),
        ({"end_level": 0, "num_outs": 3}, "Extra levels need the last"),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        FPN(**{"in_channels": (4, 6), "out_channels": 8, **arguments})


def test_a_wrong_number_of_feature_maps_raises():
    with pytest.raises(ValueError, match=r"Expected 2 feature maps \(in_channels\), got 3"):
        FPN((4, 6), 8)(maps(4, 6, 8))
