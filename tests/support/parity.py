"""Parity packs: outputs of reference implementations, for weights that are generated from names and shapes.

A pack consists of `tests/data/parity/<family>/<variant>.json`, which describes a reference model, the names and shapes
of its state dict and a list of cases, and of `<variant>.safetensors`, the outputs of the reference code for each case
in eval mode, on a CPU, in float32: at most 4096 evenly spaced values per output.
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
    """Reads the description of a pack, and its outputs by "<case>/<output>"."""
    stem = ROOT / family / variant
    return json.loads(stem.with_suffix(".json").read_text()), load_file(stem.with_suffix(".safetensors"))


def fill(name: str, shape: tuple[int, ...] | list[int], gain: float = 1.0) -> torch.Tensor:
    """Generates the tensor called `name` in the state dict of a reference model. It depends only on the arguments.

    Args:
        name: Key in the state dict.
        shape: Shape of the tensor.
        gain: Factor of the standard deviation of matrices and kernels.
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
    """Generates the state dict of a pack's reference model."""
    gains = pack.get("gains", {})
    return {
        name: fill(name, shape, gains.get(name, pack.get("gain", 1.0))) for name, shape in pack["state_dict"].items()
    }


def image(shape: tuple[int, ...] | list[int], seed: int) -> torch.Tensor:
    """Generates the input (N, 3, H, W) of a case: normal noise, smoothed so that neighboring pixels are similar."""
    noise = np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32)
    batch = torch.from_numpy(noise)
    return batch + 2 * torch.nn.functional.avg_pool2d(batch, 5, stride=1, padding=2)


def tolerance(pack: Mapping[str, Any]) -> float:
    """Returns the maximum relative error of a correct float32 implementation: 1e-5, or 10 times the pack's noise."""
    return max(1e-5, 10 * pack.get("float32_noise", {}).get("worst", 0.0))


def relative_error(actual: torch.Tensor, golden: torch.Tensor) -> float:
    """Returns |actual - golden| / |golden| for the stored values; infinity if sizes differ or a value is not finite."""
    flat = actual.detach().float().reshape(-1)
    kept = flat[:: max(1, -(-flat.numel() // _MAX_VALUES))]
    if kept.shape != golden.shape or not torch.isfinite(kept).all():
        return float("inf")
    return ((kept - golden).norm() / golden.norm().clamp_min(1e-12)).item()


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "biformer_tiny_nwin8": ("biformer_tiny", {"num_regions": 8}),
    "davit_tiny_timm": ("davit_tiny", {}),
}
"""Model and arguments of packs whose names differ from the model's."""
_CALLS: dict[str, dict[str, Any]] = {
    "logits": {},
    "features": {},
    "features:ade20k": {"dense": "ade20k"},
    "features:dense": {"always_shift": True},
    "features:dense_coco": {"dense": "coco"},
}
"""Arguments of the model for each kind of call in the packs."""


def packs() -> list[Path]:
    """Returns the packs of complete models, sorted by path; those of heads and probes are excluded."""
    found = (path for path in ROOT.glob("*/*.json") if path.parent.name not in ("heads", "efficient_probing"))
    return sorted(path for path in found if "state_dict" in json.loads(path.read_text()))


def model_of(path: Path) -> tuple[str, dict[str, Any]]:
    """Returns the name of a pack's model, and its arguments."""
    return VARIANTS.get(path.stem, (path.stem, {}))


def worst_error(name: str) -> float | None:
    """Returns a model's largest relative error over the cases of all its packs, or None if there is no pack.

    Args:
        name: Name of the model, without a tag.
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
