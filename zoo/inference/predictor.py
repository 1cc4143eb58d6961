"""One call from images to results."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn
from tqdm import tqdm

from ...names import unknown_name
from ..data.common.decoding import BrokenImageError
from .building import Weights, build
from .class_names import given_classes
from .inputs import AddressSource, FileSource, Inputs, Limits, Source, count_inputs, find_sources, is_single
from .results import ClassificationResult, DetectionResult, Result, SegmentationResult

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SECONDS_WITHOUT_BAR = 2.0
_MOST_ELONGATED = 100  # long side over short side; a classifier's resizing would make a strip of gigabytes


class Skipped(NamedTuple):
    """An input that could not be read.

    Attributes:
        index: its position among the inputs, from 0.
        name: the file or address, or which input it was.
        reason: what was wrong.
    """

    index: int
    name: str
    reason: str


class _Read(NamedTuple):
    """An image that waits for its prediction."""

    index: int
    source: Source
    image: Image.Image
    sample: dict[str, Any]


class Predictor:
    """Predicts for images in any form: a model, its weights, its preparation of images, and its classes' names.

        predictor = attnzoo.Predictor("nat_mini.in1k")
        result = predictor("cat.jpg")                      # one image, one result
        results = predictor(["a.jpg", "photos/", array])   # several images, a list
        for result in predictor.stream(camera):            # one after the other, from any iterator
            result.draw().save(...)

    An image is a path, an http or https address, a PIL image of any mode, an array (height, width, 3) in RGB (also
    gray, or with transparency, which is dropped) or a tensor (3, height, width); pixels are uint8, or floats of 0 to 1.
    Several are a folder (through all its levels, in natural order), a pattern ("photos/**/*.jpg"), an array or tensor
    with one dimension more, and lists and iterators of all of these. As in training, an EXIF orientation is not
    applied.

    Results do not depend on the batch size: only images that are of one size after the transform go through the model
    together.

    Args:
        model: one of
            - a model's name ("nat_mini", "nat_mini.in1k", "hf-hub:owner/name", "local-dir:folder"): classification,
              with images prepared as its published accuracy was measured;
            - a config: its path, a shipped one's name, or an mmengine Config or dict; images are prepared by the
              transform of its `test_dataloader`;
            - the work dir of a training: its config.py (which is run, as any config) and its best checkpoint;
            - a torch module: a task of the zoo, or a classifier that gives logits.
        weights: a path, address, "hf-hub:owner/name", "local-dir:folder", work dir or state dict; True for published
            weights, False for none. By default those that belong to the model; a config has none and needs some.
        device: by default "cuda" where there is one, else "cpu".
        batch_size: how many images at most go through the model together.
        transform: instead of the model's own: a config of TRANSFORMS, or a callable. For classification it takes a PIL
            image and gives a tensor (3, H, W); a module without `pretrained_cfg` needs one that also normalises.
        classes: names by label, instead of those that are found in the config or the work dir: a list, a file, or
            "imagenet-1k".
        topk: how many classes a classification lists.
        dtype: "bfloat16" or "float16" for mixed precision; None or "float32" for none.
        channels_last: keep the model's weights in that memory format.
        workers: threads that read images ahead.
        on_error: "skip" leaves out images that cannot be read, tells of them in a warning, and lists them in `skipped`;
            "raise" raises. A single image always raises.
        progress: whether to show a progress bar on stderr. None: where stderr is a terminal, and the work takes longer
            than 2 seconds.
        keep_images: whether results hold their images in memory. None: only those that were fetched by address; files
            are read again where a result is drawn.
        use_ema: averaged weights, where a checkpoint has both; None as the evaluation does.
        cfg_options: changes to a config: a dict by dotted key, or "key=value" strings.
        timeout: the longest that fetching an image may take, in seconds.
        max_megabytes: the largest file that is fetched.

    Attributes:
        task: the model with its preprocessor, in evaluation mode.
        kind: "classification", "detection" or "segmentation".
        classes: names by label; empty where they are not known, then results are named by number.
        palette: colours by label, where the data set has its own.
        name: of the model or config.
        weights: where the weights came from, in words.
        skipped: what the last call left out.

    Raises:
        ValueError: an argument is wrong, there is no such model, or weights do not fit.
        OSError: weights cannot be read or fetched.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Config | Mapping[str, Any] | nn.Module,
        weights: Weights = None,
        *,
        device: str | torch.device | None = None,
        batch_size: int = 8,
        transform: dict[str, Any] | Callable[..., Any] | None = None,
        classes: Sequence[str] | str | os.PathLike[str] | None = None,
        topk: int = 5,
        dtype: str | torch.dtype | None = None,
        channels_last: bool = False,
        workers: int = 4,
        on_error: str = "skip",
        progress: bool | None = None,
        keep_images: bool | None = None,
        use_ema: bool | None = None,
        cfg_options: Mapping[str, Any] | Sequence[str] | None = None,
        timeout: float = 20.0,
        max_megabytes: float = 64.0,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("topk", topk), ("workers", workers)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is a whole number from 1 on, not {value!r}.")
        if on_error not in ("skip", "raise"):
            raise ValueError(unknown_name("on_error", on_error, ("skip", "raise")))
        self.device = choose_device(device)
        self._dtype = _choose_dtype(dtype)
        built = build(model, weights, transform, use_ema, cfg_options)
        self.kind, self.transform, self.name, self.weights = built.kind, built.transform, built.name, built.weights
        self.palette = built.palette
        self.classes = built.classes if classes is None else given_classes(classes)
        count = getattr(built.task, "num_classes", 0)  # 0 where nobody knows
        if classes is not None and count and len(self.classes) != count:
            raise ValueError(f"classes has {len(self.classes)} names, the model has {count} classes.")
        self.task: Any = built.task.to(self.device)
        if channels_last:
            self.task = self.task.to(memory_format=torch.channels_last)
        self.task.eval()
        self.batch_size, self.topk, self.workers = batch_size, topk, workers
        self.on_error, self.progress, self.keep_images = on_error, progress, keep_images
        self.limits = Limits(timeout, max_megabytes)
        self.skipped: list[Skipped] = []

    def __repr__(self) -> str:
        return f"Predictor({self.name}: {self.kind}, weights {self.weights}, {self.device})"

    def __call__(self, inputs: Inputs) -> Any:
        """Predicts for all inputs.

        Args:
            inputs: see the class.

        Returns:
            For one image its `ClassificationResult`, `DetectionResult` or `SegmentationResult`; otherwise a list of
            them in the order of the inputs, without those that were skipped (a result's `index` tells its place).

        Raises:
            ValueError: an input is no image, or there is none in a folder.
            BrokenImageError: (a ValueError) the only image, or with on_error="raise" any, cannot be read.
        """
        single = is_single(inputs)
        results = list(self._predict(inputs, "raise" if single else self.on_error, self.progress))
        return results[0] if single else results

    def stream(self, inputs: Inputs, progress: bool | None = False) -> Generator[Any, None, None]:
        """Predicts for one input after the other, with few of them in memory.

        Args:
            inputs: see the class. Of an iterator, as many elements as a batch needs are taken ahead.
            progress: as the class's; off by default.

        Yields:
            The results in the order of the inputs.

        Raises:
            ValueError: see `__call__`.
        """
        return self._predict(inputs, self.on_error, progress)

    # -- From inputs to batches ----------------------------------------------------------------------------------------

    def _predict(self, inputs: Inputs, on_error: str, progress: bool | None) -> Generator[Any, None, None]:
        self.skipped = []
        # Among more images there are more of one size.
        window = self.batch_size * (4 if self.kind != "classification" and self.batch_size > 1 else 1)
        # What comes from an iterator may not be there yet.
        ahead = window if isinstance(inputs, Iterator) else 2 * window
        hidden = not sys.stderr.isatty() if progress is None else not progress
        total = None if hidden else count_inputs(inputs)
        delay = _SECONDS_WITHOUT_BAR if progress is None else 0.0
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="attnzoo-reading")
        taken = 0
        try:
            with tqdm(total=total, unit="image", disable=hidden, delay=delay, leave=bool(progress)) as bar:
                waiting: deque[tuple[int, Source, Future[Image.Image] | None]] = deque()
                for index, source in enumerate(find_sources(inputs, self.limits)):
                    taken += 1
                    reads_long = isinstance(source, (FileSource, AddressSource))
                    waiting.append((index, source, pool.submit(source.read) if reads_long else None))
                    if len(waiting) >= ahead:
                        yield from self._window([waiting.popleft() for _ in range(window)], on_error)
                        bar.update(window)
                while waiting:
                    count = min(window, len(waiting))
                    yield from self._window([waiting.popleft() for _ in range(count)], on_error)
                    bar.update(count)
        finally:
            pool.shutdown(cancel_futures=True)
        if self.skipped:
            shown = "; ".join(f"{one.name} ({one.reason})" for one in self.skipped[:3])
            warnings.warn(
                f"{len(self.skipped)} of {taken} inputs could not be read and were skipped: {shown}"
                f"{'; ...' if len(self.skipped) > 3 else ''}. `predictor.skipped` lists all.",
                stacklevel=3,
            )

    def _window(
        self, waiting: Sequence[tuple[int, Source, Future[Image.Image] | None]], on_error: str
    ) -> Iterator[Any]:
        """Predicts for some images, in batches of one size, and gives the results in order."""
        groups: dict[Any, list[_Read]] = {}
        for index, source, future in waiting:
            try:
                image = source.read() if future is None else future.result()
            except BrokenImageError as error:
                if on_error == "raise":
                    raise
                self.skipped.append(Skipped(index, source.name, error.reason or str(error)))
                continue
            sample = self._prepare(image)
            groups.setdefault(_size_key(sample), []).append(_Read(index, source, image, sample))
        results: dict[int, Any] = {}
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                batch = group[start : start + self.batch_size]
                for one, output in zip(batch, self._run(batch), strict=True):
                    results[one.index] = self._result(one, output)
        for index in sorted(results):
            yield results[index]

    def _prepare(self, image: Image.Image) -> dict[str, Any]:
        """Transforms an image as the evaluation's data set does."""
        if self.kind == "classification":
            tensor = self.transform(_less_elongated(image))
            if not isinstance(tensor, torch.Tensor) or tensor.ndim != 3:
                what = f"{tuple(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                raise ValueError(f"The transform must give a tensor (3, height, width), not {what}.")
            return {"image": tensor}
        array = np.asarray(image)
        if self.kind == "segmentation":
            sample = self.transform(array, None)
        else:
            from ..data.detection.annotated_image import AnnotatedImage

            sample = self.transform(AnnotatedImage(array, (array.shape[0], array.shape[1])))
        return {key: value for key, value in sample.items() if key in ("image", "info", "views")}

    # -- Through the model ---------------------------------------------------------------------------------------------

    def _run(self, batch: Sequence[_Read]) -> list[dict[str, Any]]:
        data: dict[str, Any] = {key: [one.sample[key] for one in batch] for key in batch[0].sample}
        if self.kind == "classification":
            data["image"] = torch.stack(data["image"])
        data |= {"index": [one.index for one in batch], "path": [one.source.name for one in batch]}
        precision = (
            torch.autocast(self.device.type, dtype=self._dtype) if self._dtype is not None else contextlib.nullcontext()
        )
        self.task.eval()
        with torch.inference_mode(), precision:
            return self.task.test_step(data)

    def _result(self, one: _Read, output: Mapping[str, Any]) -> Result:
        fetched = isinstance(one.source, AddressSource)
        keep = fetched if self.keep_images is None else self.keep_images
        facts: dict[str, Any] = {
            "path": one.source.path,
            "index": one.index,
            "size": (one.image.height, one.image.width),
            "classes": self.classes,
            "source": one.source,
            "kept_image": one.image if keep else None,
        }
        # Clones, because what inference mode has made cannot be changed in place outside of it.
        if self.kind == "classification":
            return ClassificationResult(scores=output["scores"].clone(), topk=self.topk, **facts)
        if self.kind == "segmentation":
            return SegmentationResult(label_map=output["label_map"].clone(), palette=self.palette, **facts)
        found = output["detections"]
        return DetectionResult(
            boxes=found.boxes.float().clone(),
            labels=found.labels.clone(),
            scores=found.scores.float().clone(),
            masks=None if found.masks is None else found.masks.clone(),
            **facts,
        )


def choose_device(device: str | torch.device | None) -> torch.device:
    """Finds the device to predict on.

    Args:
        device: None takes a GPU where there is one.

    Raises:
        ValueError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"There is no device {device!r}: it is 'cpu', 'cuda' or 'cuda:0'.") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"The device {device!r} is asked for, but torch sees {torch.cuda.device_count()} GPUs.")
    return chosen


def _choose_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(unknown_name("dtype", name, _DTYPES))
    return _DTYPES[name]


def _size_key(sample: Mapping[str, Any]) -> Any:
    if "views" in sample:
        return tuple(tuple(view["image"].shape) for view in sample["views"])
    return tuple(sample["image"].shape)


def _less_elongated(image: Image.Image) -> Image.Image:
    """Cuts a very long strip to its middle."""
    width, height = image.size
    if max(width, height) <= _MOST_ELONGATED * min(width, height):
        return image
    if width > height:
        left = (width - _MOST_ELONGATED * height) // 2
        return image.crop((left, 0, left + _MOST_ELONGATED * height, height))
    top = (height - _MOST_ELONGATED * width) // 2
    return image.crop((0, top, width, top + _MOST_ELONGATED * width))
