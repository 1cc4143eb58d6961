"""Dry runs: descriptions of schedules. The command's tests run a complete dry run."""

from __future__ import annotations

from types import SimpleNamespace

from attnzoo.zoo.training.dry_run import describe_schedule


class Triangle:
    """Rises to twice the base rate, then falls to half of it."""

    base_values = (0.1, 0.2)

    def rate(self, iteration: int, base: float) -> float:
        return base * (1 + iteration / 50) if iteration <= 50 else base * (2 - 1.5 * (iteration - 50) / 49)


def test_a_schedule_is_described_by_its_highest_base_rate():
    assert describe_schedule(Triangle(), 100) == "Triangle: learning rate 0.2 at first, 0.4 at most, 0.1 at last"


def test_a_schedule_without_rates_is_described_by_its_name():
    assert describe_schedule(SimpleNamespace(), 10) == "SimpleNamespace"
