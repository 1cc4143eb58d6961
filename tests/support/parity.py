"""Parity packs: what an official implementation computes from weights that are rebuilt from names and shapes.

A pack is `tests/data/parity/<family>/<variant>.json` with the facts of one official model, the names and shapes of its
state dict and a list of cases, and `<variant>.safetensors` with what the official code returned for each case, in eval
mode, on a CPU, in float32: at most 4096 evenly spaced values of each output.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from attnzoo import create_model, load_weights

ROOT = Path(__file__).parents[1] / "data" / "parity"

_MAX_VALUES = 4096


@functools.cache
def load_pack(family: str, variant: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Reads a pack: its facts, and the official outputs as "<case>/<output>"."""
    stem = ROOT / family / variant
    return json.loads(stem.with_suffix(".json").read_text()), load_file(stem.with_suffix(".safetensors"))


def fill(name: str, shape: tuple[int, ...] | list[int], gain: float = 1.0) -> torch.Tensor:
    """Makes the tensor that stands under `name` in an official state dict; it depends on the arguments alone.

    Args:
        name: key in the official state dict.
        shape: its shape.
        gain: multiplies the standard deviation of matrices and kernels.
    """
    if name.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
    tensor = torch.from_numpy(np.asarray(noise, dtype=np.float32))
    if name.endswith("running_var"):
        return 1 + 0.1 * tensor.abs()
    if name.endswith("running_mean"):
        return 0.1 * tensor
    if len(shape) == 1 and name.endswith("bias"):
        return 0.05 * tensor
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + 0.1 * tensor
    if len(shape) <= 1 or "layer_scale" in name or name.endswith(("gamma", "gamma_1", "gamma_2")):
        return 0.1 * tensor
    return tensor * (gain / int(np.prod(shape[1:])) ** 0.5)


def filled_state_dict(pack: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Rebuilds a pack's weights under the official names."""
    gains = pack.get("gains", {})
    return {
        name: fill(name, shape, gains.get(name, pack.get("gain", 1.0))) for name, shape in pack["state_dict"].items()
    }


def image(shape: tuple[int, ...] | list[int], seed: int) -> torch.Tensor:
    """Makes a case's input (N, 3, H, W): normal noise, smoothed a little so that neighbouring pixels are alike."""
    noise = np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32)
    batch = torch.from_numpy(noise)
    return batch + 2 * torch.nn.functional.avg_pool2d(batch, 5, stride=1, padding=2)


def tolerance(pack: Mapping[str, Any]) -> float:
    """Gives the relative error that a right float32 implementation stays below: 1e-5, or ten times the pack's noise."""
    return max(1e-5, 10 * pack.get("float32_noise", {}).get("worst", 0.0))


def relative_error(actual: torch.Tensor, golden: torch.Tensor) -> float:
    """Gives |actual - golden| / |golden|, `actual` thinned out as the pack is; infinite for other sizes or NaN."""
    flat = actual.detach().float().reshape(-1)
    kept = flat[:: max(1, -(-flat.numel() // _MAX_VALUES))]
    if kept.shape != golden.shape or not torch.isfinite(kept).all():
        return float("inf")
    return ((kept - golden).norm() / golden.norm().clamp_min(1e-12)).item()


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "biformer_tiny_nwin8": ("biformer_tiny", {"num_regions": 8}),
    "davit_tiny_timm": ("davit_tiny", {}),
}
"""Model and arguments of the packs that are not named as their model is."""
_CALLS: dict[str, dict[str, Any]] = {
    "logits": {},
    "features": {},
    "features:ade20k": {"dense": "ade20k"},
    "features:dense": {"always_shift": True},
    "features:dense_coco": {"dense": "coco"},
}
"""Arguments of the model for the ways that packs were made."""


def packs() -> list[Path]:
    """Finds the packs of whole models, sorted by path; those of heads and probes are not among them."""
    found = (path for path in ROOT.glob("*/*.json") if path.parent.name not in ("heads", "efficient_probing"))
    return sorted(path for path in found if "state_dict" in json.loads(path.read_text()))


def model_of(path: Path) -> tuple[str, dict[str, Any]]:
    """Gives the name of a pack's model, and its arguments."""
    return VARIANTS.get(path.stem, (path.stem, {}))


def worst_error(name: str) -> float | None:
    """Gives a model's largest relative error over the cases of all its packs, None where there is no pack.

    Args:
        name: of the model, without tag.
    """
    errors: list[float] = []
    for path in packs():
        if model_of(path)[0] == name:
            errors += _errors(path)
    return max(errors) if errors else None


@torch.no_grad()
def _errors(path: Path) -> Iterator[float]:
    name, kwargs = model_of(path)
    pack, golden = load_pack(path.parent.name, path.stem)
    for case in pack["cases"]:
        model: Any = create_model(name, **kwargs, **_CALLS[case["call"]]).eval()
        load_weights(model, filled_state_dict(pack))
        x = image(case["shape"], case["seed"])
        if case["call"] == "logits":
            outputs = {"logits": model(x)}
        else:
            maps = model.forward_intermediates(x, intermediates_only=True)
            outputs = {f"stage{index}": one for index, one in enumerate(maps[-4:], start=1)}
        yield from (relative_error(outputs[one], golden[f"{case['name']}/{one}"]) for one in case["outputs"])
