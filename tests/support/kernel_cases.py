"""Cases with outputs of the published implementation, and the comparison of a backend with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from attnzoo.kernels import neighborhood_attention_2d

_FOLDER = Path(__file__).parents[1] / "data" / "parity" / "na2d"
_PACK = json.loads((_FOLDER / "na2d.json").read_text())
_GOLDEN = load_file(_FOLDER / "na2d.safetensors")
PACK_CASES: list[dict] = _PACK["cases"]
AXIS_WINDOWS: list[dict] = _PACK["axis_windows"]
WINDOW_ARGUMENTS = ("kernel_size", "stride", "dilation", "is_causal", "scale")


def draw(seed: int, *shape: int) -> torch.Tensor:
    """Draws float32 normal noise with the generator of the pack."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def pack_operands(case: dict) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Returns the tensor arguments of a case by parameter name, and the gradient of the output."""
    seed, dim = case["seed"], case["dim"]
    grid = (case["batch"], case["height"], case["width"])
    operands = {
        "query": draw(seed, *grid, case["heads"], dim),
        "key": draw(seed + 1, *grid, case["heads_kv"], dim),
        "value": draw(seed + 2, *grid, case["heads_kv"], dim),
    }
    if case["rpb"]:
        offsets = [2 * size - 1 for size in case["kernel_size"]]
        operands["rpb"] = draw(seed + 4, case["heads"], *offsets)
    if case["additional_kv"]:
        tokens = (case["batch"], case["additional_kv"], case["heads_kv"], dim)
        operands["additional_keys"] = draw(seed + 5, *tokens)
        operands["additional_values"] = draw(seed + 6, *tokens)
    return operands, draw(seed + 3, *grid, case["heads"], dim)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Returns |actual - expected| / |expected|, or infinity if shapes differ or a value is not finite."""
    if actual.shape != expected.shape or not torch.isfinite(actual).all():
        return float("inf")
    actual, expected = actual.detach().double(), expected.detach().double()
    return ((actual - expected).norm() / expected.norm().clamp_min(1e-12)).item()


def check_pack_case(case: dict, backend: str, dtype: torch.dtype, tolerance: float, device: str = "cpu") -> None:
    """Compares a backend's outputs and gradients in a case with the published ones."""
    operands, upstream = pack_operands(case)
    operands = {name: tensor.to(device, dtype).requires_grad_() for name, tensor in operands.items()}
    window = {name: case[name] for name in WINDOW_ARGUMENTS}
    out, lse = neighborhood_attention_2d(**operands, **window, return_lse=True, backend=backend)
    gradients = torch.autograd.grad(out, list(operands.values()), upstream.to(device, dtype))
    short = {"query": "dq", "key": "dk", "value": "dv"}
    actual = {"out": out, "lse": lse}
    actual |= {short.get(name, f"d{name}"): gradient for name, gradient in zip(operands, gradients, strict=True)}
    assert set(actual) == set(case["outputs"])
    for name, tensor in actual.items():
        error = relative_error(tensor.cpu(), _GOLDEN[f"{case['name']}/{name}"])
        assert error < tolerance, f"{name}: relative error {error:.2e}"
