"""What the zoo's metrics share: every sample counted once, however many processes there are."""

from __future__ import annotations

from typing import Any

from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric


class GatheredMetric(BaseMetric):
    """A metric over samples that are known by their index in the data set.

    mmengine's own gathering cuts off the last samples where processes have different numbers of them, and relies on an
    order. Here results are put together by index: a sample that several processes had counts once, and a missing one
    is an error.

    A subclass keeps in `results` one tuple a sample, its index first.

    Args:
        prefix: of the results' names, "prefix/top1"; None for none.
    """

    default_prefix = ""

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)

    def evaluate(self, size: int) -> dict[str, Any]:
        """Computes the figures from what all processes have seen.

        Args:
            size: number of samples in the data set.

        Returns:
            The same on every process.

        Raises:
            ValueError: the samples seen are not all of the data set's.
        """
        gathered = all_gather_object(list(self.results))
        self.results.clear()
        by_index = {result[0]: result for results in gathered for result in results}
        if len(by_index) != size:
            raise ValueError(
                f"{type(self).__name__} has seen {len(by_index)} of the data set's {size} samples: an evaluation must "
                "see each one. Use EvaluationSampler, and leave drop_last out of the data loader."
            )
        figures = self.compute_metrics([by_index[index] for index in sorted(by_index)])
        return {f"{self.prefix}/{name}" if self.prefix else name: value for name, value in figures.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """The data set's class names; empty where it has told none."""
        return tuple((self.dataset_meta or {}).get("classes") or ())
