"""Checks of arguments that several transforms take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ....names import unknown_name


def check_size(size: int | Sequence[int], name: str = "size") -> tuple[int, int]:
    """Returns (height, width) of a size given as one number or two.

    Raises:
        ValueError: If it is anything but one or two positive integers.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if not _are_two_lengths(sides):
        raise ValueError(f"{name} must be a positive integer or (height, width) in pixels, got {size!r}.")
    return sides[0], sides[1]


def check_scale(scale: Sequence[int], name: str = "scale", example: str = "(2048, 512)") -> tuple[int, int]:
    """Returns a scale as a pair.

    Raises:
        ValueError: If it is anything but two positive integers.
    """
    if not isinstance(scale, Sequence) or not _are_two_lengths(scale):
        raise ValueError(f"{name} must be two positive integers in pixels, such as {example}, got {scale!r}.")
    return scale[0], scale[1]


def check_choice(name: str, given: str, allowed: Iterable[str]) -> None:
    """Raises a ValueError if a name is not one of those allowed; the message has the nearest ones."""
    allowed = tuple(allowed)
    if given not in allowed:
        raise ValueError(unknown_name(name, given, allowed))


def check_probability(name: str, value: float) -> None:
    """Raises a ValueError if a probability is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a probability in [0, 1], got {value!r}.")


def _are_two_lengths(sides: Sequence[int]) -> bool:
    return len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
