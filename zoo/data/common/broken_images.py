"""Counts the images that training could not read."""

from __future__ import annotations

import collections
import logging
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook

from ...files import write_json
from ...registry import HOOKS
from ...work_dir import BROKEN_IMAGES
from .text_files import read_json


@HOOKS.register_module()
class BrokenImagesHook(Hook):
    """Collects the broken images of an epoch from all processes, logs them, and writes them to the work directory.

    The file has one entry per epoch with broken images: `[{"epoch": 1, "count": 2, "paths": {"a.jpg": 2}}, ...]`,
    counting epochs from 1. An epoch that was interrupted is counted from where it was resumed.

    Args:
        filename: Name of the file in the work directory.
    """

    priority = "LOW"

    def __init__(self, filename: str = BROKEN_IMAGES) -> None:
        self.filename = filename
        self._paths: list[str] = []

    def before_train_epoch(self, runner: Any) -> None:
        """Starts counting."""
        self._paths = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Collects a batch's broken images."""
        if data_batch is not None:
            self._paths += data_batch.get("broken", ())

    def after_train_epoch(self, runner: Any) -> None:
        """Gathers the counts of all processes, logs them and writes the file."""
        gathered = all_gather_object(self._paths)
        counts = collections.Counter(path for paths in gathered for path in paths)
        if not counts or not is_main_process():
            return
        epoch = runner.epoch + 1
        total = sum(counts.values())
        file = Path(runner.work_dir) / self.filename
        some = ", ".join(path for path, _ in counts.most_common(3))
        message = f"Epoch {epoch}: {total} broken images were replaced by others ({len(counts)} files: {some}"
        runner.logger.log(logging.WARNING, f"{message}{', ...' if len(counts) > 3 else ''}). All are listed in {file}.")
        entries = [entry for entry in self._read(file, runner.logger) if entry["epoch"] < epoch]
        entries.append({"epoch": epoch, "count": total, "paths": dict(sorted(counts.items()))})
        write_json(file, entries, indent=1)

    def _read(self, file: Path, logger: logging.Logger) -> list[dict[str, Any]]:
        """Reads the entries of earlier epochs; none from a file that is damaged, which is replaced with a warning."""
        if not file.exists():
            return []
        try:
            entries = read_json(file)
            if not all(isinstance(entry["epoch"], int) for entry in entries):
                raise TypeError("an epoch is not an integer")
            return list(entries)
        except (ValueError, TypeError, KeyError) as error:
            logger.warning(f"{file} is damaged and will be replaced, without its earlier epochs: {error!r}.")
            return []
