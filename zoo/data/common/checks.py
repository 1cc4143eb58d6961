"""Checks of data sets before training: their classes, which samples are read, and how findings are listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...seeding import derive_seed

MOST_NAMED = 5
"""Number of findings of one kind that are named; the others are counted."""


def choose(count: int, most: int, seed: int) -> list[int]:
    """Draws `most` of `count` indices at random, in ascending order; all of them if there are no more."""
    if count <= most:
        return list(range(count))
    generator = np.random.default_rng(derive_seed(seed, stream="checks"))
    return sorted(int(index) for index in generator.choice(count, most, replace=False))


def first_lines(lines: Sequence[str]) -> str:
    """Joins the first few lines, and a line that counts the others."""
    more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return "\n".join([*lines[:MOST_NAMED], *more])


def first_names(names: Sequence[Any]) -> str:
    """Joins the first few names by commas, and counts the others: "a, b, ... (3 more)"."""
    more = f", ... ({len(names) - MOST_NAMED} more)" if len(names) > MOST_NAMED else ""
    return ", ".join(str(name) for name in names[:MOST_NAMED]) + more


def check_num_classes(num_classes: int, dataset: Any, key: str = "model.backbone.num_classes") -> None:
    """Raises if a model and a data set differ in their number of classes.

    Args:
        num_classes: Number of the model's classes.
        dataset: Anything with `classes`.
        key: Key of the model's number in its config, for the message.

    Raises:
        ValueError: If they differ; the message names both and the remedy.
    """
    given = len(dataset.classes)
    if given == num_classes:
        return
    remedy = f"set {key}={given}"
    if getattr(dataset, "classes_argument", None) == "class_map":
        remedy += f", or give the data set a class_map of {num_classes} classes (for ImageNet, class_map='imagenet-1k')"
    raise ValueError(f"{key} is {num_classes}, but {dataset} has {given} classes: {remedy}.")


def check_same_classes(train: Any, evaluation: Any) -> None:
    """Raises if two data sets label their classes differently: labels after the first difference would be wrong.

    Args:
        train: The training data set, with `classes`.
        evaluation: The other data set.

    Raises:
        ValueError: If they differ; the message names the first differences and the remedy.
    """
    first, second = tuple(train.classes), tuple(evaluation.classes)
    if first == second:
        return
    missing = [name for name in first if name not in set(second)]
    extra = [name for name in second if name not in set(first)]
    difference = [f"lacks {', '.join(missing[:5])}"] if missing else []
    difference += [f"has {', '.join(extra[:5])} in addition"] if extra else []
    remedy = getattr(train, "classes_argument", "classes")
    raise ValueError(
        f"{evaluation} has {len(second)} classes, {train} has {len(first)}: the former "
        f"{' and '.join(difference) or 'orders them differently'}. Give both the same {remedy}."
    )
