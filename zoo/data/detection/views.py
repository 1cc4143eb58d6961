"""Test-time augmentation of detectors: several scales of an image, and their flips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ...registry import TRANSFORMS
from .annotated_image import AnnotatedImage
from .transforms import DetectionTest, check_scales


@TRANSFORMS.register_module()
class DetectionViews:
    """Returns an image at several scales, each also flipped horizontally; for evaluation.

    A detector finds objects in each view and merges them (`heads.views.merge_views`). Each view is resized as by
    `DetectionTest`.

    Args:
        scales: Limits (long, short) of the sides of each view in pixels, in any order.
        flip: Whether every view is also returned flipped.

    Raises:
        ValueError: If there is no scale, or one is not two positive integers.
    """

    training = False

    def __init__(self, scales: Sequence[Sequence[int]] = ((1333, 800),), flip: bool = True) -> None:
        self.resizes = [DetectionTest(scale) for scale in check_scales("scales", scales)]
        self.flip = flip

    def __call__(self, sample: AnnotatedImage) -> dict[str, Any]:
        """Creates the views.

        Args:
            sample: The original image; it is not changed.

        Returns:
            `views`: a list of dicts with `image` (3, height, width) uint8 and `info`; each view is followed by its
            flip.
        """
        views = []
        for resize in self.resizes:
            view = dataclasses.replace(sample)
            resize.apply(view)
            views.append({"image": view.pixels(), "info": view.info()})
            if self.flip:
                view.hflip()
                views.append({"image": view.pixels(), "info": view.info()})
        return {"views": views}
