"""What is written and printed after a fine-tuning: metrics, plots, and the commands to run next."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from PIL import Image

from ..analysis.confusion import read_confusion
from ..analysis.predictions import Prediction, choose_predictions, read_predictions
from ..config import load_config
from ..evaluation import result_configs
from ..evaluation.checkpoints import (
    evaluation_config,
    evaluation_results,
    headline_metrics,
    load_evaluated_weights,
)
from ..files import write_bytes, write_json
from ..inference import Predictor
from ..plots.confusion import draw_confusion
from ..plots.curves import draw_learning_curve
from ..plots.gallery import draw_gallery
from ..plots.predictions import draw_predictions
from ..plots.tables import align_pairs
from ..tasks import task_kind
from ..tasks.base import TaskKind
from ..training import build_runner
from ..training.model_setup import unwrap_model
from ..work_dir import CONFIG, CONFUSION, RESULTS, find_best

CONFUSION_PLOT = "confusion.png"
PREDICTIONS_PLOT = "predictions.png"


def report(work_dir: Path) -> dict[str, float]:
    """Evaluates the best checkpoint of a work dir, plots what it learned, and prints a summary.

    Args:
        work_dir: Folder of a training with validation data.

    Returns:
        The metrics.
    """
    best = find_best(work_dir)
    metrics, kind, paths = _evaluate(work_dir, best)
    plots = [draw_learning_curve(work_dir)]
    if (work_dir / CONFUSION).is_file():
        plots.append(write_bytes(work_dir / CONFUSION_PLOT, draw_confusion(read_confusion(work_dir))))
    plots.append(_plot_errors(work_dir) if kind == "classification" else _plot_results(work_dir, paths))
    rows = [("checkpoint", str(best)), ("validation images", len(paths))]
    rows += [(name, f"{value:.2f}") for name, value in headline_metrics(metrics).items()]
    rows += [("plots", ", ".join(plot.name for plot in plots if plot is not None))]
    print(align_pairs(rows))
    print("\n".join(["Next:", *next_commands(work_dir)]))
    return metrics


def next_commands(work_dir: Path) -> list[str]:
    """Returns the commands that use a trained work dir."""
    return [
        f"  attnzoo predict photo.jpg --config {work_dir}",
        f"  attnzoo export {work_dir / CONFIG} --weights {work_dir}",
        f"  attnzoo test {work_dir / CONFIG} {work_dir}",
    ]


def _evaluate(work_dir: Path, checkpoint: Path) -> tuple[dict[str, Any], TaskKind, list[str]]:
    """Evaluates a checkpoint on the validation data, and writes the result files.

    Returns:
        The metrics, the kind of the task, and the paths of the images.
    """
    cfg = load_config(work_dir / CONFIG)
    cfg.work_dir = str(work_dir)
    cfg = evaluation_config(cfg, str(work_dir / CONFIG), pretrained=False)
    cfg.test_evaluator = result_configs(cfg.test_evaluator, cfg.work_dir, {"confusion"})
    runner = build_runner(cfg)
    model: Any = unwrap_model(runner.model)
    weights = load_evaluated_weights(model, str(checkpoint), raw=False)
    start = time.perf_counter()
    metrics = runner.test()
    loop: Any = runner.test_loop
    dataset, seconds = loop.dataloader.dataset, time.perf_counter() - start
    results = evaluation_results(metrics, len(dataset), seconds, model, weights, str(work_dir / CONFIG))
    write_json(work_dir / RESULTS, results)
    return metrics, task_kind(model), [dataset.path(index) for index in range(len(dataset))]


def _plot_results(work_dir: Path, paths: list[str], count: int = 8) -> Path:
    """Plots the objects or label maps that are predicted for some images."""
    chosen = paths[:: max(1, len(paths) // count)][:count]
    drawn = [result.draw() for result in Predictor(work_dir).stream(chosen)]
    return write_bytes(work_dir / PREDICTIONS_PLOT, draw_gallery(drawn, title="predictions for validation images"))


def _plot_errors(work_dir: Path, count: int = 32) -> Path:
    """Plots the predicted classes of images, the worst errors first."""
    predictions = read_predictions(work_dir)
    chosen = [predictions[index] for index in choose_predictions(predictions, count, wrong=count // 2)]
    correct = sum(one.correct for one in predictions)

    def load_image(prediction: Prediction) -> Image.Image:
        with Image.open(prediction.path) as image:
            return image.convert("RGB")

    content = draw_predictions(chosen, load_image, title=f"{correct} of {len(predictions)} validation images correct")
    return write_bytes(work_dir / PREDICTIONS_PLOT, content)
