"""Backend "torch": ranged attention in plain PyTorch, fast on a CPU and small on memory."""
