"""Predictions of a classifier with three classes, and the predictions.json of an evaluation."""

from __future__ import annotations

from pathlib import Path

import torch

from attnzoo.zoo.analysis.predictions import Prediction
from attnzoo.zoo.evaluation import PredictionWriter

CLASSES = ("cat", "dog", "a name that is far too long to print")


def prediction(index: int, label: int | None, predicted: int, score: float = 0.75) -> Prediction:
    name = "None" if label is None else CLASSES[label]
    return Prediction(index, f"images/{index}.png", label, name, predicted, CLASSES[predicted], score)


def write_predictions(path: Path, predictions: list[Prediction]) -> None:
    """Writes predictions in the format of an evaluation."""
    writer = PredictionWriter(str(path), topk=2)
    writer.dataset_meta = {"classes": CLASSES}
    for one in predictions:
        scores = torch.full((3,), (1 - one.score) / 2)
        scores[one.predicted] = one.score
        writer.process(None, [{"index": one.index, "path": one.path, "label": one.label, "scores": scores}])
    writer.evaluate(len(predictions))


def twenty_predictions() -> list[Prediction]:
    """Returns predictions with increasing scores, of which every fifth is wrong."""
    return [prediction(i, label=i % 3, predicted=(i + (i % 5 == 0)) % 3, score=0.5 + i / 64) for i in range(20)]
