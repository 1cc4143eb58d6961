"""Evaluation, during training and alone; with averaged weights where training has them."""

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
from .loops import batches

_DTYPES = ("bfloat16", "float16")


class EvaluationLoop(BaseLoop):
    """One pass over a data set and its metrics.

    Args:
        runner: the Runner.
        dataloader: the data, or their config.
        evaluator: the metrics, or their config.
        amp_dtype: "bfloat16" or "float16" for mixed precision; None is none.

    Raises:
        ValueError: the dtype is unknown.
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
        """Evaluates and reports to the hooks.

        Returns:
            The metrics.
        """
        metrics = self.evaluate()
        if metrics is None:
            self.runner.stop()
        assert metrics is not None
        self.report(metrics)
        return metrics

    def evaluate(self) -> dict[str, Any] | None:
        """Evaluates, with the averaged weights where there are some.

        Returns:
            The metrics ("raw_..." are the model's own weights', where they are wanted too); None where training was
            asked to stop meanwhile.
        """
        runner = self.runner
        runner.call_hook(f"before_{self.mode}")
        runner.call_hook(f"before_{self.mode}_epoch")
        runner.model.eval()
        ema = runner.ema
        average = ema.average if ema is not None else None
        with average.applied() if average is not None else contextlib.nullcontext():
            metrics = self._pass()
        if metrics is not None and ema is not None and average is not None and ema.evaluate_raw:
            raw = self._pass()
            metrics = None if raw is None else {**metrics, **{f"raw_{name}": value for name, value in raw.items()}}
        return metrics

    def report(self, metrics: dict[str, Any]) -> None:
        """Tells the hooks what came out."""
        self.runner.last_metrics = metrics
        self.runner.call_hook(f"after_{self.mode}_epoch", metrics=metrics)
        self.runner.call_hook(f"after_{self.mode}")

    @torch.no_grad()
    def _pass(self) -> dict[str, Any] | None:
        runner = self.runner
        broadcast_buffers(runner.model)
        # Processes may differ by a batch, and must ask each other equally often.
        common = min(gather_objects(len(self.dataloader)))
        with batches(self.dataloader) as following:
            for batch_idx in range(len(self.dataloader)):
                asked = runner.stop_request.received is not None
                if batch_idx < common and runner.is_training and any_process(asked):
                    for metric in self.evaluator.metrics:
                        metric.results.clear()
                    return None
                batch = following()
                runner.call_hook(f"before_{self.mode}_iter", batch_idx=batch_idx, data_batch=batch)
                with self._precision():
                    outputs = getattr(runner.model, f"{self.mode}_step")(batch)
                self.evaluator.process(data_samples=outputs, data_batch=batch)
                runner.call_hook(f"after_{self.mode}_iter", batch_idx=batch_idx, data_batch=batch, outputs=outputs)
        return self.evaluator.evaluate(len(self.dataset))

    def _precision(self) -> contextlib.AbstractContextManager:
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        device = next(self.runner.model.parameters()).device.type
        return torch.autocast(device, dtype=getattr(torch, self.amp_dtype))


@LOOPS.register_module()
class ValLoop(EvaluationLoop):
    """Evaluation during training; arguments of `EvaluationLoop`."""

    mode = "val"


@LOOPS.register_module()
class TestLoop(EvaluationLoop):
    """Evaluation of a finished model; arguments of `EvaluationLoop`."""

    mode = "test"
