"""Compiles routed attention's kernels for GPUs that this machine does not have, and reads which resources they need.

`PYTHONPATH=tests python -m support.routing_ahead_of_time` prints the table of kernels/routing/README.md.
"""

from __future__ import annotations

import itertools

import torch

from attnzoo.kernels.routing import fused
from attnzoo.kernels.routing.operands import Operands
from support.ahead_of_time import Resources, recorded

KERNELS = ("forward_kernel", "dq_kernel", "dkv_kernel")
STAGES = {"routed": (56, 1), "masked": (14, 16)}
"""Side of the map and topk, with 7x7 regions, for each of the two kinds of tiles."""


def compile_kernels(
    arch: int, dtype: torch.dtype, dim: int, *, side: int = 56, topk: int = 1, backward: bool = True
) -> dict[str, Resources]:
    """Compiles the kernels of a call and of its backward pass, and returns their resources by name.

    Args:
        arch: Compute capability times ten.
        dtype: Dtype of the operands.
        dim: Dim of queries, keys and values.
        side: Height and width of the map, which has 7x7 regions.
        topk: Number of regions that each region sees.
        backward: Whether to compile the backward pass as well.
    """
    query = torch.empty(2, side, side, 2, dim, dtype=dtype)
    operands = Operands(query, query, query, torch.zeros(2, 49, topk, dtype=torch.int64))
    with recorded(arch) as found:
        out, lse = fused.forward(operands, (7, 7), 1.0)
        if backward:
            fused.backward(out, operands, out, lse, (7, 7), 1.0)
    return found


def _print_table() -> None:
    print("| arch | dtype | dim | " + " | ".join(KERNELS) + " |")
    print("|---" * (3 + len(KERNELS)) + "|")
    for arch, dtype, dim in itertools.product((80, 90), (torch.bfloat16, torch.float16, torch.float32), (32, 64, 128)):
        found = [compile_kernels(arch, dtype, dim, side=side, topk=topk) for side, topk in STAGES.values()]
        cells = [
            "; ".join(f"{one[name].registers} / {one[name].spilled} / {one[name].shared / 1024:.0f}" for one in found)
            for name in KERNELS
        ]
        print(f"| sm_{arch} | {str(dtype).removeprefix('torch.')} | {dim} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    _print_table()
