"""Every image's predicted labels, as a PNG."""

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
    """Writes each image's predicted labels to a PNG of class numbers, named as the image; adds no figures.

    Beside them is `index.json`: `{"classes": [...], "shift": 0, "files": [{"image": "val/a.jpg", "labels": "a.png"},
    ...]}`, in the data set's order.

    Args:
        out_dir: the folder for the files; a relative path starts at the current folder.
        shift: added to each label: 1 makes the numbers of ADE20K's own files and server, where 0 is "other".
        colours: give the PNGs the data set's palette, so that they can be looked at. The pixels' values stay the
            labels.
        folders: how many of the folders that an image lies in are kept in `out_dir`: where images of different folders
            have the same names.

    Raises:
        ValueError: `shift` or `folders` is out of range.
    """

    def __init__(self, out_dir: str = "predictions", shift: int = 0, colours: bool = False, folders: int = 0) -> None:
        super().__init__()
        if not isinstance(shift, int) or not 0 <= shift <= 255:
            raise ValueError(f"shift is a whole number from 0 to 255, not {shift!r}.")
        if not isinstance(folders, int) or folders < 0:
            raise ValueError(f"folders is a whole number from 0 on, not {folders!r}.")
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
        """Writes a batch.

        Args:
            data_batch: not used.
            data_samples: a prediction an image, with `label_map` (H, W), `index` and `path`.

        Raises:
            ValueError: a label plus `shift` does not fit into 8 bits, or the data set has no palette.
        """
        for sample in data_samples:
            values = sample["label_map"].detach().cpu().numpy().astype(np.int64) + self.shift
            path = Path(sample["path"])
            if values.size and not 0 <= values.min() <= values.max() <= 255:
                raise ValueError(
                    f"{path} has the predictions {values.min()} to {values.max()} (shift {self.shift} included), but "
                    "a PNG's values are 0 to 255."
                )
            kept = path.parent.parts[-self.folders :] if self.folders else ()
            name = Path(*kept, f"{path.stem}.png").as_posix()
            write_bytes(self.out_dir / name, self._encode(values.astype(np.uint8)))
            self.results.append((sample["index"], str(path), name))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Writes the list of files, on the main process.

        Args:
            results: (index, image, file) of each sample.

        Returns:
            Nothing.

        Raises:
            ValueError: images of one name in different folders have overwritten each other.
        """
        images: dict[str, str] = {}
        for _, path, name in results:
            if name in images:
                raise ValueError(
                    f"{images[name]} and {path} were both written to {self.out_dir / name}: set "
                    f"folders={self.folders + 1}, which keeps their folders apart."
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
                raise ValueError("The data set's metainfo has no `palette`: leave colours=False.")
            image.putpalette([0] * 3 * self.shift + [part for colour in palette for part in colour])
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()
