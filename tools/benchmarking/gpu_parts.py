"""The parts of the GPU check: environment, tests, and the benchmarks of kernels and models, smallest first."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from attnzoo.tools.benchmarking.gpu_tests import run_tests
from attnzoo.tools.benchmarking.kernels import has_disagreement, measure_problem
from attnzoo.tools.benchmarking.operations import OPERATIONS, MapSize, Problem
from attnzoo.tools.benchmarking.precision import DTYPES, default_dtype
from attnzoo.tools.benchmarking.supervisor import OnUpdate, Part, Results
from attnzoo.zoo.analysis.summary import library_versions
from attnzoo.zoo.analysis.timing import device_name

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = (__name__, "timm", "attnzoo.tools.benchmarking.models")
"""Modules that the processes of the parts share. Importing them does not use CUDA."""


def environment(device_type: str, on_update: OnUpdate) -> Results:
    """Describes the machine: GPU, driver, libraries, commit."""
    results: Results = {
        "device": device_type,
        "cuda_available": torch.cuda.is_available(),
        "cpu": device_name(torch.device("cpu")),
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "libraries": {"torch": torch.__version__, **library_versions()},
        "cuda": torch.version.cuda,
        "missing": [name for name in ("triton", "timm", "pytest", "hypothesis") if not importlib.util.find_spec(name)],
        "commit": _command_output(["git", "-C", str(ROOT), "rev-parse", "HEAD"]),
        "modified": bool(_command_output(["git", "-C", str(ROOT), "status", "--porcelain"])),
    }
    if device_type == "cuda" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        results |= {
            "gpu": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "gpu_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "driver": _command_output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "-i", "0"]),
        }
    return results


def tests(device_type: str, on_update: OnUpdate) -> Results:
    """Runs tests/gpu."""
    return run_tests(ROOT / "tests" / "gpu", on_update)


def benchmark_operation(name: str, compiled: bool, device_type: str, on_update: OnUpdate) -> Results:
    """Measures an operation for its map sizes, smallest first.

    Args:
        name: Name in `OPERATIONS`.
        compiled: Measure attnzoo against the implementations that torch.compile has to compile, rather than the others.
        device_type: "cuda" or "cpu"; a CPU gets one small problem.
        on_update: Called after every measurement.
    """
    operation = OPERATIONS[name]
    torch.set_num_threads(1)
    device, on_gpu = torch.device(device_type), device_type == "cuda"
    batch_size, dim, repeats = (64, 32, 5) if on_gpu else (1, 8, 1)
    dtype = default_dtype(device)
    options = {key: option.default for key, option in operation.options.items()}
    results: Results = {"operation": name, "batch_size": batch_size, "dim": dim, "dtype": dtype, **options, "maps": []}
    sizes: Sequence[MapSize] = sorted(operation.sizes) if on_gpu else sorted(operation.sizes)[:1]
    for size in sizes:
        problem = operation.build(size, batch_size, dim, DTYPES[dtype], device, **options)
        entry = {**problem.settings, "implementations": {}}
        results["maps"].append(entry)

        def update(rows: dict[str, Any], entry: Results = entry) -> None:
            entry["implementations"] = rows
            results["failed"] = results.get("failed", False) or has_disagreement(rows) or _ours_failed(rows)
            on_update(results)

        measure_problem(problem, DTYPES[dtype], device, repeats, _selected(problem, compiled), update)
        if on_gpu:
            torch.cuda.empty_cache()
    return results


def benchmark_model(
    name: str, baselines: Sequence[str], compiled: bool, device_type: str, on_update: OnUpdate
) -> Results:
    """Measures a model and its baselines: inference, then training.

    Args:
        name: Name of the model.
        baselines: Names in `model_baselines.BASELINES`.
        compiled: Measure all of them through torch.compile as well.
        device_type: "cuda" or "cpu"; a CPU gets one small image.
        on_update: Called after every measurement.
    """
    from attnzoo import get_pretrained_cfg
    from attnzoo.tools.benchmarking.models import ModelSettings, measure_model

    torch.set_num_threads(1)
    device, on_gpu = torch.device(device_type), device_type == "cuda"
    size = list(get_pretrained_cfg(name).input_size[1:]) if on_gpu else [64, 64]
    dtype = default_dtype(device)
    batch_size = 64 if on_gpu else 1
    results: Results = {"model": name, "img_size": size, "batch_size": batch_size, "dtype": dtype}
    for mode in ("inference", "training"):
        settings = ModelSettings(
            batch_size,
            DTYPES[dtype],
            device,
            train=mode == "training",
            compile_modes=(False, True) if compiled else (False,),
            repeats=5 if on_gpu else 1,
        )

        def update(rows: dict[str, Any], mode: str = mode) -> None:
            results[mode] = rows
            results["failed"] = results.get("failed", False) or _ours_failed(rows)
            on_update(results)

        measure_model(name, size, settings, baselines, on_update=update)
    return results


def parts(device_type: str) -> dict[str, Part]:
    """Lists the parts of the check for a device type, in the order in which they run."""
    on_gpu = device_type == "cuda"
    found = {"environment": Part(environment, 1.0), "tests": Part(tests, 4.0)}
    smallest_first = sorted(OPERATIONS.items(), key=lambda item: (item[1].weight, max(item[1].sizes)))
    for name, operation in smallest_first:
        found[name] = Part(functools.partial(benchmark_operation, name, False), operation.weight)
    for name, baselines in _MODELS.items() if on_gpu else list(_MODELS.items())[:1]:
        found[name] = Part(functools.partial(benchmark_model, name, baselines, False), 0.7)
    if on_gpu:
        found["neighborhood_compiled"] = Part(functools.partial(benchmark_operation, "neighborhood", True), 2.0)
        for name, baselines in _COMPILED_MODELS.items():
            run = functools.partial(benchmark_model, name, baselines, True)
            found[f"{name}_compiled"] = Part(run, 2.0)
    return found


_MODELS = {
    "van_b0": ("plain",),
    "halonet26t": ("timm",),
    "biformer_tiny": ("plain",),
    "nat_mini": ("plain",),
    "davit_tiny": ("timm",),
}
"""Models and their baselines, smallest first."""
_COMPILED_MODELS = {"davit_tiny": ("timm",), "nat_mini": ("flex",)}


def _selected(problem: Problem, compiled: bool) -> list[str]:
    """Selects the implementations to measure: attnzoo's fastest backend, and the baselines."""
    ours = next(iter(problem.implementations))
    baselines = [
        name
        for name, implementation in problem.implementations.items()
        if not name.startswith("attnzoo") and implementation.compiles == compiled
    ]
    variants = [] if compiled else [name for name in problem.implementations if name.startswith(f"{ours},")]
    return [ours, *variants, *baselines]


def _ours_failed(rows: dict[str, Any]) -> bool:
    """Checks whether attnzoo's own implementation failed. An error of a baseline is reported, but is not a failure."""
    return any("error" in row for name, row in rows.items() if name.startswith("attnzoo"))


def _command_output(command: list[str]) -> str | None:
    """Returns what a command prints, or None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
