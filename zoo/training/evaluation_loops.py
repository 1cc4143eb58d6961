"""Evaluation loops, in training and afterwards, with averaged weights if there are any."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from ...names import unknown_name
from ..registry import LOOPS
from .distributed import any_process, broadcast_buffers, gather_objects
from .loops import batch_iterator

_DTYPES = ("bfloat16", "float16")


class EvaluationLoop(BaseLoop):
    """Evaluates a data set with metrics.

    Args:
        runner: The Runner.
        dataloader: The data loader, or its config.
        evaluator: The metrics, or their configs.
        amp_dtype: "bfloat16" or "float16" for mixed precision, or None.

    Raises:
        ValueError: The dtype is unknown.
    """

    mode: str

    def __init__(
        self, runner: Any, dataloader: DataLoader | dict, evaluator: Any, amp_dtype: str | None = None
    ) -> None:
        super().__init__(runner, dataloader)
        if amp_dtype is not None and amp_dtype not in _DTYPES:
            raise ValueError(unknown_name(f"{self.mode}_cfg.amp_dtype", amp_dtype, _DTYPES))
        self.amp_dtype = amp_dtype
        self.evaluator = evaluator if isinstance(evaluator, Evaluator) else runner.build_evaluator(evaluator)
        self.dataset: Any = self.dataloader.dataset
        if hasattr(self.dataset, "metainfo"):
            self.evaluator.dataset_meta = self.dataset.metainfo

    def run(self) -> dict[str, Any]:
        """Evaluates, passes the metrics to the hooks, and returns them."""
        metrics = self.evaluate()
        if metrics is None:
            self.runner.stop()
        assert metrics is not None
        self.report(metrics)
        return metrics

    def evaluate(self) -> dict[str, Any] | None:
        """Evaluates, with the averaged weights if there are any.

        Returns:
            The metrics; those of the model's own weights, if they are evaluated as well, start with "raw_". None if
            training was asked to stop in the meantime.
        """
        runner = self.runner
        runner.call_hook(f"before_{self.mode}")
        runner.call_hook(f"before_{self.mode}_epoch")
        runner.model.eval()
        ema = runner.ema
        average = ema.average if ema is not None else None
        with average.applied() if average is not None else contextlib.nullcontext():
            metrics = self._evaluate_once()
        if metrics is not None and ema is not None and average is not None and ema.evaluate_raw:
            raw = self._evaluate_once()
            metrics = None if raw is None else {**metrics, **{f"raw_{name}": value for name, value in raw.items()}}
        return metrics

    def report(self, metrics: dict[str, Any]) -> None:
        """Passes the metrics to the hooks."""
        self.runner.last_metrics = metrics
        self.runner.call_hook(f"after_{self.mode}_epoch", metrics=metrics)
        self.runner.call_hook(f"after_{self.mode}")

    @torch.no_grad()
    def _evaluate_once(self) -> dict[str, Any] | None:
        runner = self.runner
        broadcast_buffers(runner.model)
        # Processes may differ by one batch, but must communicate equally often.
        common = min(gather_objects(len(self.dataloader)))
        with batch_iterator(self.dataloader) as next_batch:
            for batch_idx in range(len(self.dataloader)):
                stop = runner.stop_request.received is not None
                if batch_idx < common and runner.is_training and any_process(stop):
                    for metric in self.evaluator.metrics:
                        metric.results.clear()
                    return None
                batch = next_batch()
                runner.call_hook(f"before_{self.mode}_iter", batch_idx=batch_idx, data_batch=batch)
                with self._autocast():
                    outputs = getattr(runner.model, f"{self.mode}_step")(batch)
                self.evaluator.process(data_samples=outputs, data_batch=batch)
                runner.call_hook(f"after_{self.mode}_iter", batch_idx=batch_idx, data_batch=batch, outputs=outputs)
        return self.evaluator.evaluate(len(self.dataset))

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        device = next(self.runner.model.parameters()).device.type
        return torch.autocast(device, dtype=getattr(torch, self.amp_dtype))


@LOOPS.register_module()
class ValLoop(EvaluationLoop):
    """Evaluation in training, with the arguments of `EvaluationLoop`."""

    mode = "val"


@LOOPS.register_module()
class TestLoop(EvaluationLoop):
    """Evaluation after training, with the arguments of `EvaluationLoop`."""

    mode = "test"
