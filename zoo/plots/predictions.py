"""Grid of images with a classifier's predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ..analysis.predictions import Prediction
from .figures import new_figure, new_grid, to_png
from .tables import shorten_class_name

_MAX_NAME_LENGTH = 14


def draw_predictions(
    predictions: Sequence[Prediction],
    load_image: Callable[[Prediction], Image.Image],
    columns: int = 8,
    title: str | None = None,
) -> bytes:
    """Plots images in a grid with their predictions; wrong predictions have a red frame and title.

    Args:
        predictions: Predictions to plot, in order.
        load_image: Returns the image of a prediction.
        columns: Number of images per row.
        title: Heading.

    Returns:
        The PNG.

    Raises:
        ValueError: `predictions` is empty.
    """
    if not predictions:
        raise ValueError("There are no predictions to plot.")
    columns = min(columns, len(predictions))
    rows = math.ceil(len(predictions) / columns)
    figure = new_figure(1.7 * columns + 0.2, 2.15 * rows + (0.45 if title else 0.1), title=title)
    for axes, prediction in zip(new_grid(figure, rows, columns), predictions, strict=False):
        image = load_image(prediction)
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        interpolation = "nearest" if max(image.size) < 100 else "antialiased"
        axes.imshow(np.asarray(image.convert("RGB")), interpolation=interpolation)
        name = shorten_class_name(prediction.predicted_name, _MAX_NAME_LENGTH)
        text = f"{name}  {_percent(prediction.score)}"
        if prediction.label is None:
            axes.set_title(text, fontsize=9)
        elif prediction.correct:
            axes.set_title(text, fontsize=9, color="tab:green")
        else:
            label = shorten_class_name(prediction.label_name, _MAX_NAME_LENGTH)
            axes.set_title(f"{text}\nis {label}", fontsize=9, color="tab:red", fontweight="bold")
            for spine in axes.spines.values():
                spine.set(color="tab:red", linewidth=3)
    return to_png(figure)


def _percent(score: float) -> str:
    percent = 100 * score
    return "100 %" if percent >= 99.95 else f"{percent:.1f} %"
