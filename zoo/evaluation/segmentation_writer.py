"""Writes predicted label maps as PNG files."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from PIL import Image

from ..files import write_bytes, write_json
from ..registry import METRICS
from .base import ResultWriter


@METRICS.register_module()
class SegmentationWriter(ResultWriter):
    """Writes the predicted label map of each image to a PNG with the image's name.

    `index.json` in the same folder lists them in the order of the data set: `{"classes": [...], "shift": 0, "files":
    [{"image": "val/a.jpg", "labels": "a.png"}, ...]}`.

    Args:
        out_dir: Folder for the files.
        shift: Added to each label. 1 converts to the labels of ADE20K's files and server, where 0 means "other".
        colours: Store the data set's palette in the PNGs, so that viewers show colors. Pixel values remain labels.
        folders: Number of parent folders of an image that are kept in `out_dir`, for images in different folders with
            the same name.

    Raises:
        ValueError: `shift` or `folders` is out of range.
    """

    def __init__(self, out_dir: str = "predictions", shift: int = 0, colours: bool = False, folders: int = 0) -> None:
        super().__init__()
        if not isinstance(shift, int) or not 0 <= shift <= 255:
            raise ValueError(f"shift must be an integer between 0 and 255, got {shift!r}.")
        if not isinstance(folders, int) or folders < 0:
            raise ValueError(f"folders must be an integer >= 0, got {folders!r}.")
        self.out_dir = Path(out_dir)
        self.shift = shift
        self.colours = colours
        self.folders = folders

    @classmethod
    def result_configs(
        cls, config: dict[str, Any], work_dir: str | os.PathLike[str], extras: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Moves the output into the work dir."""
        return [{**config, "out_dir": str(Path(work_dir) / "label_maps")}]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Writes the label maps of a batch.

        Args:
            data_batch: Unused.
            data_samples: One prediction per image with `label_map` (H, W), `index` and `path`.

        Raises:
            ValueError: A label plus `shift` does not fit into 8 bits, or the data set has no palette.
        """
        for sample in data_samples:
            values = sample["label_map"].detach().cpu().numpy().astype(np.int64) + self.shift
            path = Path(sample["path"])
            if values.size and not 0 <= values.min() <= values.max() <= 255:
                raise ValueError(
                    f"The values of a PNG must be between 0 and 255, got {values.min()} to {values.max()} for {path} "
                    f"with shift={self.shift}."
                )
            kept = path.parent.parts[-self.folders :] if self.folders else ()
            name = Path(*kept, f"{path.stem}.png").as_posix()
            write_bytes(self.out_dir / name, self._encode(values.astype(np.uint8)))
            self.results.append((sample["index"], str(path), name))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Writes `index.json` on the main process.

        Args:
            results: (index, image, file) of each sample.

        Returns:
            An empty dict.

        Raises:
            ValueError: Images in different folders have the same name, so that one has overwritten the other.
        """
        images: dict[str, str] = {}
        for _, path, name in results:
            if name in images:
                raise ValueError(
                    f"{images[name]} and {path} were both written to {self.out_dir / name}. Set "
                    f"folders={self.folders + 1} to keep their parent folders."
                )
            images[name] = path
        if is_main_process():
            files = [{"image": path, "labels": name} for _, path, name in results]
            content = {"classes": list(self.classes), "shift": self.shift, "files": files}
            write_json(self.out_dir / "index.json", content, indent=1)
        return {}

    def _encode(self, values: np.ndarray) -> bytes:
        image = Image.fromarray(values)
        if self.colours:
            palette = (self.dataset_meta or {}).get("palette")
            if palette is None:
                raise ValueError("colours=True needs a `palette` in the metainfo of the data set.")
            image.putpalette([0] * 3 * self.shift + [part for colour in palette for part in colour])
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()
