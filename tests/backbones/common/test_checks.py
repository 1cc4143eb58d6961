"""Checks of arguments: what passes, and what the messages say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from attnzoo.backbones.common import checks


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.check_positive("depth", 0), "depth must be an integer >= 1, got 0"),
        (lambda: checks.check_positive("depth", True), "depth must be an integer >= 1, got True"),
        (lambda: checks.check_positive("depth", 1, least=2), "depth must be an integer >= 2, got 1"),
        (lambda: checks.check_odd("kernel_size", 4), "kernel_size must be odd, got 4"),
        (lambda: checks.check_odd("kernel_size", -1), "kernel_size must be an integer >= 1, got -1"),
        (lambda: checks.check_rates(drop_rate=0.5, drop_path_rate=1.0), "drop_path_rate must be >= 0 and < 1, got 1.0"),
        (lambda: checks.check_rates(drop_rate=-0.5), "drop_rate must be >= 0 and < 1, got -0.5"),
        (lambda: checks.check_choice("stem", "cnov", ("conv", "patch")), "Unknown stem 'cnov'. Did you mean 'conv'"),
        (lambda: checks.check_heads(96, 5), "num_heads must divide dim, got dim=96 and num_heads=5"),
        (lambda: checks.check_mlp_ratio(0.1, 8), "mlp_ratio must leave at least one hidden channel, got 0.1"),
        (lambda: checks.check_stages(depths=(1, 2), embed_dims=(8,)), "depths and embed_dims must have one entry"),
        (lambda: checks.check_stages(depths=(), embed_dims=()), "must have one entry per stage, got 0 and 0 entries"),
        (lambda: checks.check_stages(depths=(1, 0)), r"depths\[1\] must be an integer >= 1, got 0"),
        (lambda: checks.check_stages(embed_dims=(1,), min_dim=2), r"embed_dims\[0\] must be an integer >= 2, got 1"),
        (
            lambda: checks.check_stages(embed_dims=(8, 16), num_heads=(2, 3)),
            r"num_heads\[1\] must divide embed_dims\[1\], got 3 heads and 16 channels",
        ),
        (
            lambda: checks.check_stages(depths=(1, 1), others={"topks": (-2,)}),
            "depths and topks must have one entry per stage, got 2 and 1 entries",
        ),
        (lambda: checks.per_stage("mixer", ["a"], 2, str), "mixer must have one entry per stage, got 1 for 2 stages"),
        (
            lambda: checks.per_stage("k_size", [1], 2, unit="row"),
            "k_size must have one entry per row, got 1 for 2 rows",
        ),
        (lambda: checks.to_pair("size", (1, 2, 3)), r"size must be a positive integer or a pair .*, got \(1, 2, 3\)"),
        (lambda: checks.to_pair("size", (1, 0)), "size must be a positive integer or a pair"),
        (lambda: checks.check_image_size(torch.zeros(3, 8, 8), 1), r"got \(3, 8, 8\)"),
        (lambda: checks.check_image_size(torch.zeros(1, 3, 8, 7), 8), "at least 8 pixels .* got height 8 and width 7"),
    ],
)
def test_messages(check: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        check()


def test_valid_arguments_pass():
    checks.check_positive("depth", 1)
    checks.check_positive("halo_size", 0, least=0)
    checks.check_odd("kernel_size", 3)
    checks.check_rates(drop_rate=0.0, drop_path_rate=0.9)
    checks.check_choice("stem", "conv", ("conv", "patch"))
    checks.check_heads(96, 3)
    checks.check_mlp_ratio(0.125, 8)
    checks.check_stages(depths=(1, 2), embed_dims=(8, 16), num_heads=(2, 4), others={"topks": (-1, 4)})
    checks.check_image_size(torch.zeros(1, 3, 8, 9), 8)


def test_per_stage():
    assert checks.per_stage("k_size", None, 2) == [None, None]
    assert checks.per_stage("k_size", 3, 2) == [3, 3]
    assert checks.per_stage("k_size", (3, None), 2) == [3, None]
    assert checks.per_stage("mixer", "pool", 2, str) == ["pool", "pool"]


def test_pairs():
    assert checks.to_pair("size", 3) == (3, 3)
    assert checks.to_pair("size", [2, 5]) == (2, 5)
