"""Images with one label each, for training and evaluating classifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
from PIL import Image

from ...registry import DATASETS
from ..common import class_maps
from ..common.dataset import ImageDataset
from ..common.decoding import decode_rgb, read_content, retry_reading
from ..common.paths import did_you_mean, missing_path
from .sources import build_source, folder_class_names


class ClassificationDataset(ImageDataset):
    """Images with one label each. Subclasses find the files and know the classes.

    `load` returns the RGB image (PIL) and its label, counting from 0. A sample has `image`, the transform's (3, height,
    width) tensor, and `label`.
    """

    kind: ClassVar[str] = "classification"
    transform_example: ClassVar[str] = "dict(type='Evaluation', size=224)"

    def load(self, index: int) -> tuple[Image.Image, int]:
        """Reads an image and its label.

        Raises:
            BrokenImageError: If the image cannot be read.
        """
        raise NotImplementedError

    def transform_sample(self, loaded: tuple[Image.Image, int], index: int) -> dict[str, Any]:
        """Returns the transformed `image` and its `label`."""
        image, label = loaded
        return {"image": self.transform(image), "label": label}


@DATASETS.register_module()
class ImageClassificationDataset(ClassificationDataset):
    """A classification data set in any of the usual layouts (this package's README lists them).

    Args:
        root: A folder, a .tar file, or the name of a Hugging Face data set.
        split: A folder or tar file in `root`, or a split of the Hugging Face data set.
        reader: "auto", "folder", "tar" or "hfds".
        class_map: Labels by class name: a file, a dict, a list, or "imagenet-1k". None numbers the classes in natural
            order.
        annotations: File with a path and a label per line, for images that are not in one folder per class.
        reader_options: Options for "hfds".
        transform: Config of a registered transform, or a callable from a PIL image to a (3, height, width) tensor.
        **options: See `ImageDataset`.

    Attributes:
        class_to_idx: Labels by class name.

    Raises:
        ValueError: If the files are missing, empty or contradictory (see `build_source`), or see `ImageDataset`.
    """

    classes_argument: ClassVar[str] = "class_map"

    def __init__(
        self,
        root: str,
        split: str | None = None,
        reader: str = "auto",
        class_map: str | Mapping[str, int] | Sequence[str] | None = None,
        annotations: str | None = None,
        reader_options: Mapping[str, Any] | None = None,
        transform: dict[str, Any] | Callable[[Image.Image], torch.Tensor] | None = None,
        **options: Any,
    ) -> None:
        self.root = root
        self.split = split
        self.source = build_source(root, split, reader, class_map, annotations, reader_options)
        super().__init__(root + (f" ({split})" if split else ""), self.source.classes, transform, **options)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}

    @classmethod
    def class_names(cls, **arguments: Any) -> tuple[str, ...] | None:
        """Reads the class map, or lists the folders if there is one per class."""
        class_map = arguments.get("class_map")
        if class_map is not None:
            return class_maps.class_names(class_maps.load_class_map(class_map, arguments.get("root") or ""))
        if arguments.get("annotations"):
            return None
        return folder_class_names(
            arguments.get("root") or "", arguments.get("split"), arguments.get("reader") or "auto"
        )

    @classmethod
    def check_paths(cls, **arguments: Any) -> Iterator[str]:
        """Checks that `root` and the folder or tar file of the split exist."""
        root, split = arguments.get("root"), arguments.get("split")
        if not root or arguments.get("reader") == "hfds" or root.startswith("hfds/"):
            return
        folder = Path(root).expanduser()
        if not folder.exists():
            yield missing_path("root", root)
        elif split and folder.is_dir() and not arguments.get("annotations"):
            places = (folder / split, folder / f"{split}.tar")
            if not any(place.exists() for place in places):
                yield f"split: there is neither a folder {places[0]} nor {places[1].name}.{did_you_mean(places[0])}"

    def __len__(self) -> int:
        return len(self.source)

    def path(self, index: int) -> str:
        """Returns the path of an image, or a tar file's path and the name of the member in it."""
        return self.source.path(index)

    def load(self, index: int) -> tuple[Image.Image, int]:
        """Reads an image and its label; see `ClassificationDataset.load`."""
        path = self.path(index)

        def read() -> tuple[IO[bytes], int]:
            file, label = self.source.open(index)
            return read_content(file, path), label

        content, label = retry_reading(read, path)
        return decode_rgb(content, path), label
