"""Several views of an image for test-time augmentation of detectors: scales, and mirrored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ...registry import TRANSFORMS
from .annotated_image import AnnotatedImage
from .transforms import DetectionTest, check_scales


@TRANSFORMS.register_module()
class DetectionViews:
    """Gives an image in several sizes, each also mirrored left and right; for evaluation.

    A detector finds objects in each view and merges them (`heads.views.merge_views`). Each view is resized as
    `DetectionTest` does it.

    Args:
        scales: pairs of (long, short) sides, in any order, that the views must fit in, in pixels.
        flip: also give every view mirrored.

    Raises:
        ValueError: there is no scale, or one is not two positive whole numbers.
    """

    training = False

    def __init__(self, scales: Sequence[Sequence[int]] = ((1333, 800),), flip: bool = True) -> None:
        self.resizes = [DetectionTest(scale) for scale in check_scales("scales", scales)]
        self.flip = flip

    def __call__(self, sample: AnnotatedImage) -> dict[str, Any]:
        """Makes the views.

        Args:
            sample: the image as it is stored; stays as it is.

        Returns:
            `views`: a list of dicts with `image` (3, height, width) uint8 and `info`; after each view its mirror image.
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
