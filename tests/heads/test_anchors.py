"""Anchors of all levels, and which of them are inside the image."""

from __future__ import annotations

import pytest

from attnzoo.heads.anchors import AnchorGenerator
from support import head_packs
from support.codec_packs import cases, check_equal, opened


class TestAnchors:
    @pytest.mark.parametrize("name", cases("anchors"))
    def test_matches_the_reference(self, name: str):
        case, inputs, _ = opened(name)
        generator = AnchorGenerator(**head_packs.without_type(inputs["anchor_generator"]))
        assert [generator.num_anchors] * generator.num_levels == case["num_base_priors"]
        grids = generator.grid_anchors(inputs["featmap_sizes"])
        flags = generator.valid_flags(inputs["featmap_sizes"], inputs["pad_shape"])
        for level, (grid, valid) in enumerate(zip(grids, flags, strict=True)):
            check_equal(generator.base_anchors(level), case, f"base_{level}")
            check_equal(grid, case, f"grid_{level}")
            check_equal(valid, case, f"valid_{level}")

    def test_invalid_arguments_raise(self):
        with pytest.raises(ValueError, match="must be given together"):
            AnchorGenerator((4,), octave_base_scale=4)
        with pytest.raises(ValueError, match="not both"):
            AnchorGenerator((4,), scales=(8,), octave_base_scale=4, scales_per_octave=3)
        with pytest.raises(ValueError, match="ratios must be a non-empty list of positive numbers"):
            AnchorGenerator((4,), ratios=(0.0,))
        with pytest.raises(ValueError, match="strides must be a non-empty list of positive numbers"):
            AnchorGenerator(())
        with pytest.raises(ValueError, match=r"per stride \(\d+, \d+\), got [13] maps"):
            AnchorGenerator((4, 8)).grid_anchors([(3, 3)])
        with pytest.raises(ValueError, match=r"per stride \(\d+, \d+\), got [13] maps"):
            AnchorGenerator((4, 8)).valid_flags([(3, 3)], (8, 8))
