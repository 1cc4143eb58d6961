from __future__ import annotations

import torch

from attnzoo.kernels.triton_common import launch


class _Kernel:
    """Records launches."""

    def __init__(self):
        self.launches = []

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.launches.append((grid, arguments, options))


def test_a_launch_passes_arguments_and_options():
    kernel, device = _Kernel(), torch.device("cpu")
    launch.run(kernel, (3, 2), device, ("tensor", 5), num_warps=4)
    assert kernel.launches == [((3, 2), ("tensor", 5), {"num_warps": 4})]


def test_an_empty_grid_launches_nothing():
    kernel = _Kernel()
    launch.run(kernel, (0, 2), torch.device("cpu"), ())
    assert kernel.launches == []


def test_this_process_compiles():
    assert not launch.is_interpreted()
