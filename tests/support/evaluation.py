"""Predictions of classifiers and segmentors with labels, and their evaluation by a metric."""

from __future__ import annotations

import torch

from attnzoo.zoo.registry import METRICS

CLASS_NAMES = ("sky", "tree", "cat", "dog", "never")


def classified(count=50, classes=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, classes, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator).tolist()
    return [
        {"scores": row, "label": label, "index": index, "path": f"{index}.png"}
        for index, (row, label) in enumerate(zip(scores, labels, strict=True))
    ]


def evaluate(metric, samples, size=None):
    metric.process({}, samples[: len(samples) // 2])
    metric.process({}, samples[len(samples) // 2 :])
    return metric.evaluate(len(samples) if size is None else size)


def segmented(count=6, classes=4, seed=0):
    """Returns label maps of different sizes, with predictions that are correct for about two thirds of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(count):
        size = (20 + index, 30 - index)
        truth = torch.randint(0, classes, size, generator=generator)
        wrong = torch.rand(size, generator=generator) < 0.4
        predicted = torch.where(wrong, torch.randint(0, classes, size, generator=generator), truth)
        truth[torch.rand(size, generator=generator) < 0.1] = 255
        samples.append(
            {"label_map": predicted, "truth": truth.to(torch.uint8), "index": index, "path": f"in/{index}.png"}
        )
    return samples


def metric(kind="MeanIoU", classes=CLASS_NAMES, **arguments):
    made = METRICS.build({"type": kind, **arguments})
    made.dataset_meta = {"classes": classes}
    return made
