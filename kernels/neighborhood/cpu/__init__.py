"""Backend "torch": ranged attention in plain PyTorch, fast on a CPU and small on memory."""

from .attention import backward, forward

__all__ = ["backward", "forward"]
