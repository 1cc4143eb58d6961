"""The base class of all data sets: reads samples, seeds their augmentation and replaces broken images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, ClassVar, TypeVar

from PIL import Image
from torch.utils.data import Dataset

from ...registry import TRANSFORMS
from ...seeding import derive_seed, isolated_randomness
from .decoding import BrokenImageError, decode_rgb, read_file
from .samplers import SampleKey

Sample = TypeVar("Sample")


class ImageDataset(Dataset[dict[str, Any]]):
    """Annotated images whose samples depend on (seed, epoch, index, repeat) alone.

    A sample is the same whichever worker builds it, whatever was built before it, and wherever a run was resumed.

    In training, a broken image (truncated, damaged, missing) is replaced by another one, which is drawn from the
    sample's own seed, and its path is listed under `broken`. In evaluation it raises, because metrics on other images
    would be wrong.

    A subclass passes its classes to this constructor and implements `__len__`, `path` and `load`. It usually derives
    from the base class of its task: `ClassificationDataset`, `DetectionDataset` or `SegmentationDataset`. A subclass of
    `ImageDataset` itself also sets `kind` and implements `transform_sample`.

    Args:
        name: Where the data set is stored, for messages.
        classes: Class names by label.
        transform: Config of a registered transform, or a callable. Its attribute `training` tells whether it augments.
        seed: Seed of the augmentation and of the choice of replacements.
        num_classes: Expected number of classes; None accepts any number.
        replace_broken: Whether broken images are replaced. None replaces them if the transform is for training.
        max_retries: Number of replacements to try before a sample raises.

    Attributes:
        kind: Task that the data set is for: "classification", "detection" or "segmentation".
        transform_example: Config of a transform, for messages.
        classes_argument: Constructor argument that chooses the classes, for messages.
        training: Whether the transform is for training.
        metainfo: What metrics need to know: `classes`, and more in subclasses.

    Raises:
        ValueError: If there is no transform, or the number of classes is not `num_classes`.
    """

    kind: ClassVar[str]
    transform_example: ClassVar[str] = "dict(type='...')"
    classes_argument: ClassVar[str] = "classes"

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        transform: dict[str, Any] | Callable[..., Any] | None = None,
        seed: int = 0,
        num_classes: int | None = None,
        replace_broken: bool | None = None,
        max_retries: int = 10,
    ) -> None:
        self.name = name
        if transform is None:
            raise ValueError(f"A data set needs a transform, such as {self.transform_example}.")
        self.classes = tuple(classes)
        if num_classes is not None and num_classes != len(self.classes):
            raise ValueError(
                f"{self} has {len(self.classes)} classes, not num_classes={num_classes}: correct the number or "
                f"{self.classes_argument}."
            )
        self.metainfo: dict[str, Any] = {"classes": self.classes}
        self.transform: Callable[..., Any] = TRANSFORMS.build(transform) if isinstance(transform, dict) else transform
        self.training: bool = getattr(self.transform, "training", False)
        self.seed = seed
        self.replace_broken = self.training if replace_broken is None else replace_broken
        self.max_retries = max_retries

    @classmethod
    def class_names(cls, **arguments: Any) -> tuple[str, ...] | None:
        """Finds the class names without building the data set or reading images.

        Args:
            **arguments: Arguments of the constructor, as in a config.

        Returns:
            Names by label; None if only the built data set knows them.

        Raises:
            ValueError: If the arguments name a file of class names that does not exist or is wrong.
        """
        return None

    @classmethod
    def class_palette(cls, **arguments: Any) -> list[list[int]] | None:
        """Finds the data set's own colors without building it.

        Args:
            **arguments: Arguments of the constructor, as in a config.

        Returns:
            [red, green, blue] by label, 0 to 255; None if the data set has no colors of its own.
        """
        return None

    @classmethod
    def check_paths(cls, **arguments: Any) -> Iterator[str]:
        """Finds files and folders that are missing, without building the data set.

        Args:
            **arguments: Arguments of the constructor, as in a config.

        Yields:
            One message each, beginning with the argument's name: "root: there is no data/pets." Callers prepend the key
            of the data set and a dot.
        """
        yield from ()

    def __str__(self) -> str:
        return f"The data set {self.name}"

    def __len__(self) -> int:
        """Returns the number of samples."""
        raise NotImplementedError

    def path(self, index: int) -> str:
        """Returns the path of a sample's image file, for messages and results."""
        raise NotImplementedError

    def load(self, index: int) -> Any:
        """Reads the content of a sample's files, which `transform_sample` takes.

        Raises:
            BrokenImageError: If a file cannot be read.
        """
        raise NotImplementedError

    def transform_sample(self, loaded: Any, index: int) -> dict[str, Any]:
        """Applies the transform; all random generators are seeded for this sample.

        Args:
            loaded: Result of `load`.
            index: Index of the loaded sample.

        Returns:
            The sample's own entries, such as `image` and `label`.
        """
        raise NotImplementedError

    def check(self) -> list[str]:
        """Checks the files before training starts.

        Returns:
            Sentences about what is unusual but not an error.

        Raises:
            ValueError: If there are errors; the message names them and their remedies.
        """
        return []

    def open(self, index: int) -> IO[bytes]:
        """Opens a sample's image file for `read_image`."""
        return open(self.path(index), "rb")

    def read_image(self, index: int) -> Image.Image:
        """Reads a sample's image as RGB with 8 bits per channel.

        Raises:
            BrokenImageError: If the file is missing or damaged.
            OSError: If the machine failed, with the path: too many open files, a failing disk, missing permissions.
        """
        path = self.path(index)
        return decode_rgb(read_file(path, lambda: self.open(index)), path)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Reads and transforms one sample.

        Args:
            key: What a sampler asks for; a plain index means epoch 0.

        Returns:
            What `transform_sample` returns; `index`, `epoch` and `repeat` of the key, as int; `path` of the image;
            `broken`, the paths of the broken files that this sample replaces. If it is a replacement, `index` is
            still the requested one, and the other entries belong to the replacement.

        Raises:
            BrokenImageError: If a file is broken and not to be replaced, or `max_retries` replacements are broken, too.
            IndexError: If there is no such sample.
        """
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        if not 0 <= key.index < len(self):
            raise IndexError(f"{self} has no sample {key.index}: its {len(self)} are numbered from 0.")
        seeds = (self.seed, key.epoch, key.index, key.repeat)
        loaded, index, broken = read_or_replace(
            self.load, key.index, len(self), seeds, self.replace_broken, self.max_retries
        )
        with isolated_randomness(derive_seed(*seeds, stream="augmentation")):
            sample = self.transform_sample(loaded, index)
        return {
            **sample,
            "index": key.index,
            "epoch": key.epoch,
            "repeat": key.repeat,
            "path": self.path(index),
            "broken": broken,
        }


def read_or_replace(
    read: Callable[[int], Sample], index: int, count: int, seeds: tuple[int, ...], replace: bool, max_retries: int
) -> tuple[Sample, int, list[str]]:
    """Reads a sample, or another one if its files are broken.

    Args:
        read: Reads the sample of an index; raises BrokenImageError.
        index: Index of the sample asked for.
        count: Number of samples.
        seeds: What the replacement is drawn from: (seed, epoch, index, repeat).
        replace: False raises instead of replacing.
        max_retries: Number of replacements that are tried.

    Returns:
        What was read, its index, and the paths of the broken files that were met before.

    Raises:
        BrokenImageError: If a file is broken and `replace` is False, or `max_retries` replacements are broken, too.
    """
    broken: list[str] = []
    current = index
    while True:
        try:
            return read(current), current, broken
        except BrokenImageError as error:
            if not replace:
                raise
            broken.append(error.path)
            if len(broken) > max_retries:
                reason = f"{error.reason}; {max_retries} others tried before are broken, too: {', '.join(broken[:-1])}"
                raise BrokenImageError.of(error.path, reason) from error
            current = derive_seed(*seeds, len(broken), stream="replacement") % count
