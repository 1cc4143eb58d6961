"""What the kernels import."""

from __future__ import annotations

import subprocess
import sys


def test_neighborhood_attention_requires_only_torch():
    """A call on a CPU imports neither triton nor packages of the layers above."""
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


def test_routing_requires_only_torch():
    program = (
        "import sys, torch\n"
        "for name in ('triton', 'timm', 'mmengine', 'cv2', 'albumentations'):\n"
        "    sys.modules[name] = None\n"
        "from attnzoo.kernels import route_regions, routed_attention_2d\n"
        "query = torch.randn(1, 4, 4, 1, 2, requires_grad=True)\n"
        "routed_attention_2d(query, query, query, route_regions(query, query, 2, 1), 2).sum().backward()\n"
        "print(query.grad.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 4, 4, 1, 2])" in done.stdout
