"""Labels of points overlap neither each other nor the points, as long as there is room."""

from __future__ import annotations

from itertools import combinations

from matplotlib.text import Annotation

from attnzoo.zoo.plots.figures import new_figure
from attnzoo.zoo.plots.labels import label_points


def place(points: list[tuple[float, float]]) -> tuple[list[Annotation], list, int]:
    """Labels points in [0, 1]; returns the labels, their boxes, and the number of lines to distant points."""
    figure = new_figure(5, 5)
    figure.set_layout_engine("none")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label_points(axes, [(f"point {index}", x, y, "black") for index, (x, y) in enumerate(points)])
    labels = [child for child in axes.texts if isinstance(child, Annotation)]
    renderer = figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    frame = axes.get_window_extent(renderer)
    boxes = [label.get_window_extent(renderer) for label in labels]
    assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in boxes)
    return labels, boxes, len(axes.lines)


def test_a_single_label_is_to_the_right_of_its_point():
    (label,), _, lines = place([(0.5, 0.5)])
    assert label.get_position()[0] > 0
    assert lines == 0


def test_labels_at_the_border_stay_inside():
    labels, _, _ = place([(0.99, 0.5)])
    assert labels[0].get_position()[0] < 0


def test_crowded_labels_do_not_overlap_and_are_connected_with_their_points():
    _, boxes, lines = place([(0.5 + 0.005 * index, 0.5) for index in range(6)])
    # Boxes may touch.
    inner = [box.padded(-0.1) for box in boxes]
    assert not any(one.overlaps(other) for one, other in combinations(inner, 2))
    assert lines > 0
