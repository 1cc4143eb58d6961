"""Results of models that are compared under one recipe."""

from __future__ import annotations

from dataclasses import dataclass

from ...deprecated_paths import renamed_names


@dataclass
class Candidate:
    """Results of one model; None where a value is not known.

    Attributes:
        name: Name in tables and plots.
        top1: Accuracy after the last epoch in percent.
        best_top1: Best accuracy of all evaluations in percent. The evaluations also selected it.
        parameters: Number of parameters.
        macs: Multiply-accumulates per image.
        throughput: Images per second in inference.
        train_throughput: Images per second in training steps.
        peak_bytes: Peak memory of tensors in inference, without weights and images.
        train_peak_bytes: The same for a training step.
        seconds: Training time, including evaluations.
        error: Why values are missing.
    """

    name: str
    top1: float | None = None
    best_top1: float | None = None
    parameters: int | None = None
    macs: int | None = None
    throughput: float | None = None
    train_throughput: float | None = None
    peak_bytes: int | None = None
    train_peak_bytes: int | None = None
    seconds: float | None = None
    error: str | None = None


__getattr__ = renamed_names(__name__, {"Contender": "Candidate"})
