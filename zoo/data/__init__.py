"""Image data: which images, in which order, read and augmented how."""

from .samplers import EpochSampler, EvaluationSampler, SampleKey

__all__ = ["EpochSampler", "EvaluationSampler", "SampleKey"]
