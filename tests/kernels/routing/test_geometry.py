"""Regions of a map and routes between them."""

from __future__ import annotations

import pytest
import torch

from attnzoo.kernels.routing import geometry


@pytest.mark.parametrize("most", [1, 100, 1 << 24])
def test_route_counts_do_not_depend_on_the_number_of_comparisons_at_a_time(most, monkeypatch):
    monkeypatch.setattr(geometry, "_MAX_COMPARISONS", most)
    routes = torch.tensor([[[0, 0, 1], [2, 1, 2], [1, 1, 1]], [[2, 0, 1], [0, 0, 0], [1, 2, 2]]])
    counts = [[[2, 1, 0], [0, 1, 2], [0, 3, 0]], [[1, 1, 1], [3, 0, 0], [0, 1, 2]]]
    assert geometry.route_counts(routes, 3).tolist() == counts
