"""A training log of a detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attnzoo.zoo.work_dir import SCALARS


def write_log(work_dir: Path, scale: float = 1.0, iterations: int = 40) -> Path:
    """Writes a log with 10 iterations per epoch, of which every fifth is logged, and one evaluation per epoch."""
    work_dir.mkdir(parents=True)
    records: list[dict[str, Any]] = []
    for iteration in range(5, iterations + 1, 5):
        epoch = (iteration - 1) // 10 + 1
        values = {"lr": 1e-3 / iteration, "time": 0.5, "data_time": 0.1, "loss": scale / iteration}
        records.append({"mode": "train", "epoch": epoch, "iter": iteration, **values, "loss_rpn_cls": 0.1, "acc": 50.0})
        if iteration % 10 == 0:
            metrics = {"bbox_mAP": 10 * scale * (epoch % 3), "bbox_mAP_50": 20.0 * epoch, "loss": 3.0 - epoch}
            records.append({"mode": "val", "epoch": epoch, "iter": iteration, **metrics})
    (work_dir / SCALARS).write_text("".join(json.dumps(record) + "\n" for record in records))
    return work_dir
