"""Comparison of token mixers: trains one body with each mixer under the same recipe and seed, then measures all.

A finished training is not repeated, and an interrupted one is resumed, as long as the recipe is the same.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn
from tqdm import tqdm

from ...backbones.metaformer import MIXERS
from ...backbones.registry import model_arguments
from ...names import unknown_name
from ..config import check_config
from ..config.consistency import BuiltCheckHook
from ..config.parts import backbone_of
from ..files import write_bytes, write_json
from ..plots.comparison import comparison_table, draw_comparison
from ..plots.curves import draw_learning_curve
from ..registry import MODELS
from ..training import build_runner
from .comparison import Candidate
from .summary import count_macs, count_parameters, library_versions
from .timing import device_name, peak_memory, time_in_turns

OUTCOME = "outcome.json"
"""File in the folder of a mixer with the results of its training and the fingerprint of its recipe."""


@dataclasses.dataclass(frozen=True)
class MeasurementSettings:
    """How throughput and memory are measured.

    Attributes:
        batch_size: Images per batch.
        repeats: Number of timed turns per model.
        threads: torch's threads on a CPU.
    """

    batch_size: int = 64
    repeats: int = 10
    threads: int = 1


def check_recipe(cfg: Config, name: str, mixers: Sequence[str]) -> None:
    """Checks that a config can be trained with mixers and evaluated.

    Args:
        cfg: The config, with its custom imports done.
        name: Name of the config in error messages.
        mixers: Names of mixers; a name may have one mixer per stage, separated by commas.

    Raises:
        ConfigError: If the config is wrong.
        ValueError: If there is no such mixer, or the config has no body with a mixer, or no validation.
    """
    for mixer in ",".join(mixers).split(","):
        if mixer not in MIXERS:
            raise ValueError(unknown_name("mixer", mixer, MIXERS))
    backbone = backbone_of(cfg.to_dict())
    arguments = model_arguments(backbone[1]["type"]) if backbone is not None else None
    if backbone is None or backbone[0] != "model.backbone" or arguments is None or "mixer" not in arguments:
        raise ValueError(f"{name}: model.backbone must be a body that takes a mixer, such as metaformer_s12.")
    if not cfg.get("val_dataloader") or not cfg.get("val_evaluator"):
        raise ValueError(f"{name} has no val_dataloader or no val_evaluator, so the mixers cannot be compared.")
    check_config(cfg)


def with_mixer(recipe: Config, name: str) -> Config:
    """Copies a recipe and sets its mixer, and a work dir of its own."""
    cfg = copy.deepcopy(recipe)
    stages = name.split(",")
    cfg.model.backbone.mixer = stages[0] if len(stages) == 1 else stages
    cfg.work_dir = str(Path(recipe.work_dir) / name.replace(",", "+"))
    return cfg


def recipe_fingerprint(cfg: Config) -> str:
    """Returns a checksum of all settings that a training depends on."""
    content = {key: value for key, value in cfg.to_dict().items() if key not in ("work_dir", "resume", "launcher")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def train_mixer(cfg: Config, retrain: bool = False) -> dict[str, Any]:
    """Trains a mixer, unless it was trained with the same recipe before.

    Args:
        cfg: Config of the mixer; its `resume` is overwritten.
        retrain: Train even if there are results.

    Returns:
        The content of `OUTCOME`: `recipe`, `metrics`, `best` and `seconds`.

    Raises:
        Preempted: If the training was stopped by a signal.
    """
    path = Path(cfg.work_dir) / OUTCOME
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not retrain else {}
    same = known.get("recipe") == recipe_fingerprint(cfg)
    if same and "metrics" in known:
        return known
    cfg.resume = same  # checkpoints of another recipe are moved aside
    outcome = {"recipe": recipe_fingerprint(cfg), "seconds": known.get("seconds", 0.0) if same else 0.0}
    write_json(path, outcome)
    start = time.perf_counter()
    runner = build_runner(cfg)
    runner.register_hook(BuiltCheckHook())
    try:
        runner.train()
    finally:
        outcome["seconds"] = round(outcome["seconds"] + time.perf_counter() - start, 1)
        write_json(path, outcome)
    results = runner.results()
    outcome |= {"metrics": results["metrics"], "best": results["best"]}
    write_json(path, outcome)
    draw_learning_curve(cfg.work_dir)
    return outcome


def measure_mixers(cfgs: dict[str, Config], candidates: dict[str, Candidate], settings: MeasurementSettings) -> None:
    """Counts parameters and operations, and measures throughput and memory in alternation.

    Args:
        cfgs: Configs of the mixers to measure.
        candidates: Results of each mixer, which are filled in. A body that fails gets an `error`.
        settings: How to measure.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(settings.threads)
    steps: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, cfg in cfgs.items():
        try:
            own = _count_and_prepare(cfg, candidates[name], settings.batch_size, device)
        except Exception as error:  # the others can still be measured
            candidates[name].error = one_line(error)
            continue
        steps |= {(name, mode): step for mode, step in own.items()}
    with tqdm(total=settings.repeats + 1, unit="turn", desc="measuring", disable=None) as bar:
        labels = {" ".join(key): step for key, step in steps.items()}
        times = time_in_turns(labels, device, settings.repeats, bar.update)
    for name, mode in steps:
        latency = statistics.median(elapsed.wall for elapsed in times[f"{name} {mode}"])
        field = "throughput" if mode == "inference" else "train_throughput"
        setattr(candidates[name], field, settings.batch_size * 1e3 / latency)


def one_line(error: BaseException) -> str:
    """Formats an exception as one line."""
    return f"{type(error).__name__}: {str(error).strip() or 'no reason given'}".splitlines()[0]


def write_comparison(
    recipe: Config, name: str, candidates: Sequence[Candidate], settings: MeasurementSettings
) -> list[Path]:
    """Writes comparison.json, comparison.md and, if there is an accuracy, comparison.png into the work dir.

    Args:
        recipe: The recipe.
        name: Name of its config.
        candidates: Results of the mixers.
        settings: How they were measured.

    Returns:
        The files.
    """
    folder, size, loop = Path(recipe.work_dir), _image_size(recipe), recipe.train_cfg
    length = f"{loop.max_epochs} epochs" if "max_epochs" in loop else f"{loop.max_iters} iterations"
    seed = (recipe.get("randomness") or {}).get("seed")
    setting = f"{recipe.model.backbone.type}, {length}, seed {seed}, {size[0]}x{size[1]} pixels"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured = f"batch {settings.batch_size} in float32 on {device_name(device)}"
    if device.type == "cpu":
        measured += ", 1 thread" if settings.threads == 1 else f", {settings.threads} threads"
    report = {
        "config": name,
        "setting": setting,
        "measured": measured,
        "versions": library_versions(),
        "candidates": [dataclasses.asdict(candidate) for candidate in candidates],
    }
    text = f"""# Comparison of token mixers: {name}

{setting}, one run each.

Accuracy is measured on the validation images, after the last epoch and as the best of all evaluations, which also
selected it. Throughput and memory (peak of tensors beyond weights and images): {measured}.
MACs are multiply-accumulates per image; FLOPs are twice as many.

{comparison_table(candidates)}

![Accuracy against cost](comparison.png)
"""
    written = [write_json(folder / "comparison.json", report), write_bytes(folder / "comparison.md", text.encode())]
    if any(candidate.top1 is not None for candidate in candidates):
        title = f"Token mixers in one body: {name}"
        written.append(draw_comparison(candidates, folder / "comparison.png", title, f"{setting}; {measured}"))
    return written


def _image_size(cfg: Config) -> tuple[int, int]:
    """Returns height and width of the evaluated images, or else of those that the body is made for."""
    size = cfg.val_dataloader.dataset.get("transform", {}).get("size") or cfg.model.backbone.get("img_size", 224)
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def build_body(cfg: Config) -> nn.Module:
    """Builds the backbone of a config with new weights."""
    return MODELS.build({**cfg.model.backbone.to_dict(), "pretrained": False, "checkpoint_path": None})


def _count_and_prepare(
    cfg: Config, candidate: Candidate, batch_size: int, device: torch.device
) -> dict[str, Callable[[], Any]]:
    """Counts operations, parameters and memory of a body; returns its inference and training step."""
    size, channels = _image_size(cfg), cfg.model.backbone.get("in_chans", 3)
    with torch.device("meta"):
        candidate.macs = count_macs(build_body(cfg), size, channels)
    torch.manual_seed(0)
    model = build_body(cfg).to(device)
    candidate.parameters = count_parameters(model)[0]
    images = torch.randn(batch_size, channels, *size, device=device)
    steps: dict[str, Callable[[], Any]] = {
        "inference": torch.inference_mode()(partial(copy.deepcopy(model).eval(), images)),
        "training": partial(_training_step, model.train(), images),
    }
    for step in steps.values():
        step()  # warms up
    candidate.peak_bytes = peak_memory(steps["inference"], device)
    candidate.train_peak_bytes = peak_memory(steps["training"], device)
    return steps


def _training_step(model: nn.Module, images: torch.Tensor) -> None:
    """Computes forward and backward pass, without updating the weights."""
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    nn.functional.cross_entropy(model(images), labels).backward()
    model.zero_grad(set_to_none=True)
