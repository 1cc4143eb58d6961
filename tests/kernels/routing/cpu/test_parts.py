"""The division of a routed attention into parts."""

from __future__ import annotations

from attnzoo.kernels.routing.cpu import parts


def test_only_tiny_regions_take_a_mask():
    assert parts.prefers_mask(regions=49, topk=16, tokens=4)
    assert not parts.prefers_mask(regions=49, topk=4, tokens=4)
    assert not parts.prefers_mask(regions=49, topk=4, tokens=16)
    assert not parts.prefers_mask(regions=49, topk=1, tokens=64)
    assert not parts.prefers_mask(regions=2500, topk=16, tokens=4)
