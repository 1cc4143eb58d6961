"""What the public function refuses, and how it says so; which backend a call gets."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from attnzoo.kernels import neighborhood_attention_2d, use_backend
from attnzoo.kernels.backends import requested_backend
from attnzoo.kernels.neighborhood import ranged_attention_2d
from attnzoo.kernels.neighborhood.geometry import Blocks

_MAP = torch.randn(2, 9, 8, 4, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 1}, "kernel_size must be at least 2, but is 1 along the height"),
        ({"kernel_size": (3, 1)}, "kernel_size must be at least 2, but is 1 along the width"),
        ({"kernel_size": 3, "stride": 4}, "stride must be between 1 and kernel_size = 3, but is 4"),
        (
            {"kernel_size": 3, "stride": (1, 0)},
            "but is 0 along the width",
        ),
        ({"kernel_size": 3, "dilation": 0}, "dilation must be at least 1, but is 0"),
        ({"kernel_size": 9}, r"9 \* 1 > 8 along the width"),
        ({"kernel_size": 3, "dilation": (4, 1)}, r"3 \* 4 > 9 along the height"),
        ({"kernel_size": 3.0}, r"kernel_size must be int or a pair of them \(rows, columns\), but is 3.0"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be int or a pair"),
        ({"kernel_size": True}, "kernel_size must be int or a pair"),
        ({"kernel_size": 3, "is_causal": 1}, "is_causal must be bool or a pair"),
        ({"kernel_size": 3, "rpb": torch.zeros(4, 5, 3)}, r"rpb must have the shape .* = \(4, 5, 5\)"),
        ({"kernel_size": 3, "rpb": torch.zeros(4, 5, 5, dtype=torch.float16)}, "rpb must have the query's dtype"),
        ({"kernel_size": 3, "rpb": torch.zeros(4, 5, 5, device="meta")}, "rpb must have the query's dtype and device"),
        ({"kernel_size": 3, "query": _MAP[0]}, r"query must have the shape \(batch, height, width, heads, dim\)"),
        ({"kernel_size": 3, "key": _MAP[:, 1:]}, "key and value must agree in all but dim"),
        ({"kernel_size": 3, "query": _MAP[..., :5]}, "query and key must agree in batch and dim"),
        ({"kernel_size": 3, "query": _MAP[:, 1:]}, "as many queries as keys, but the height has 8 and 9"),
        ({"kernel_size": 3, "key": _MAP[..., :3, :], "value": _MAP[..., :3, :]}, "key heads must divide query heads"),
        ({"kernel_size": 3, "query": _MAP[..., :0], "key": _MAP[..., :0]}, "dim must be at least 1, but is 0"),
        ({"kernel_size": 3, "value": _MAP[..., :0]}, "the value's dim must be at least 1"),
        ({"kernel_size": 3, "key": _MAP.double()}, "key must have the query's dtype and device"),
        ({"kernel_size": 3, "query": _MAP.int(), "key": _MAP.int(), "value": _MAP.int()}, "but are torch.int32"),
        ({"kernel_size": 3, "additional_keys": torch.zeros(2, 1, 4, 6)}, "come together"),
        (
            {
                "kernel_size": 3,
                "additional_keys": torch.zeros(2, 1, 4, 6),
                "additional_values": torch.zeros(2, 2, 4, 6),
            },
            r"additional_values must have the shape .* = \(2, 1, 4, 6\)",
        ),
        ({"kernel_size": 3, "backend": "tritn"}, "There is no backend 'tritn'. Did you mean 'triton'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        neighborhood_attention_2d(**{"query": _MAP, "key": _MAP, "value": _MAP} | arguments)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Blocks(0), "block_size must be at least 1"),
        (Blocks(4, halo=-1), "halo at least 0"),
        (Blocks(4, query_stride=3), "query_stride a divisor of block_size"),
        (Blocks(4, query_stride=2), "one query for every 2 keys, .* but the width has 8 keys and 8 queries"),
        (Blocks(4, shift=4), "shift must be a multiple of query_stride = 1 from 0 to below block_size = 4, but is 4"),
        (Blocks(4, query_stride=2, shift=1), "shift must be a multiple of query_stride = 2 .* but is 1"),
    ],
    ids=str,
)
def test_wrong_blocks_are_named(rule, message):
    with pytest.raises(ValueError, match=message):
        ranged_attention_2d(_MAP, _MAP, _MAP, Blocks(3), rule)


def test_half_operands_take_a_float32_bias():
    half = _MAP.half()
    rpb = torch.randn(4, 5, 5)
    for backend in ("torch", "reference"):
        out = neighborhood_attention_2d(half, half, half, 3, rpb=rpb, backend=backend)
        expected = neighborhood_attention_2d(half.float(), half.float(), half.float(), 3, rpb=rpb, backend="reference")
        torch.testing.assert_close(out.float(), expected, atol=2e-3, rtol=2e-3)


def test_a_call_goes_before_a_block_and_a_block_before_the_environment(monkeypatch):
    assert requested_backend("auto") == "auto"
    monkeypatch.setenv("ATTNZOO_BACKEND", "reference")
    assert requested_backend("auto") == "reference"
    with use_backend("torch"):
        assert requested_backend("auto") == "torch"
        assert requested_backend("triton") == "triton"
        with use_backend("auto"):
            assert requested_backend("auto") == "auto"
        assert requested_backend("auto") == "torch"
    assert requested_backend("auto") == "reference"
    monkeypatch.setenv("ATTNZOO_BACKEND", "refrence")
    with pytest.raises(ValueError, match=r"There is no ATTNZOO_BACKEND 'refrence'. Did you mean 'reference'"):
        requested_backend("auto")
    with pytest.raises(ValueError, match="There is no backend 'cuda'"), use_backend("cuda"):
        pass


def test_a_block_ends_after_an_error():
    with pytest.raises(KeyError), use_backend("torch"):
        raise KeyError
    assert requested_backend("auto") == "auto"


def test_kernels_need_torch_alone():
    """Neither triton nor anything of the layers above is imported for a call on a CPU."""
    program = (
        "import sys, torch\n"
        "for name in ('triton', 'timm', 'mmengine', 'cv2', 'albumentations'):\n"
        "    sys.modules[name] = None\n"
        "from attnzoo.kernels import neighborhood_attention_2d\n"
        "query = torch.randn(1, 5, 5, 1, 2, requires_grad=True)\n"
        "neighborhood_attention_2d(query, query, query, 3).sum().backward()\n"
        "print(query.grad.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 5, 5, 1, 2])" in done.stdout
