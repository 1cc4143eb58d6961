"""The predictor: one call from images to results."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from PIL import Image
from torch import nn
from tqdm import tqdm

from ...names import unknown_name
from ..data.common.decoding import BrokenImageError
from .building import Weights, build
from .class_names import parse_class_names
from .inputs import Inputs, count_inputs, find_sources, is_single
from .preprocessing import batch_key, prepare_image
from .results import ClassificationResult, DetectionResult, Result, SegmentationResult
from .sources import DownloadLimits, FileSource, Source, URLSource

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PROGRESS_DELAY = 2.0  # seconds until a progress bar appears


class Skipped(NamedTuple):
    """An input that could not be read.

    Attributes:
        index: Position among the inputs, starting at 0.
        name: File name or URL, or the position in words.
        reason: What was wrong.
    """

    index: int
    name: str
    reason: str


class _Pending(NamedTuple):
    """An input whose image is being read."""

    index: int
    source: Source
    image: Future[Image.Image] | None


class _Loaded(NamedTuple):
    """An image that is ready for prediction."""

    index: int
    source: Source
    image: Image.Image
    sample: dict[str, Any]


class Predictor:
    """Predicts for images in any form, with a model, its weights, its preprocessing and its class names.

        predictor = attnzoo.Predictor("nat_mini.in1k")
        result = predictor("cat.jpg")                      # one image: one result
        results = predictor(["a.jpg", "photos/", array])   # several images: a list
        for result in predictor.stream(camera):            # one by one, from any iterator
            result.draw().save(...)

    An image is a path, an http or https URL, a PIL image in any mode, an array (height, width, 3) in RGB (or gray, or
    with an alpha channel, which is dropped) or a tensor (3, height, width); pixels are uint8, or floats from 0 to 1.
    Several images are a folder (searched recursively, in natural order), a glob pattern ("photos/**/*.jpg"), an array
    or tensor with one more dimension, and lists and iterators of all of these. As in training, an EXIF orientation is
    not applied.

    Results do not depend on the batch size: a batch contains only images that have the same size after the transform.

    Args:
        model: One of
            - the name of a model ("nat_mini", "nat_mini.in1k", "hf-hub:owner/name", "local-dir:folder"):
              classification, with the preprocessing that its published accuracy was measured with;
            - a config: its path, the name of a shipped one, or an mmengine Config or dict, with the transform of its
              `test_dataloader`;
            - the work dir of a training: its config.py (which is executed, like any config) and its best checkpoint;
            - a checkpoint in such a work dir;
            - a torch module: a task of the zoo, or a classifier that returns logits.
        weights: A path, URL, "hf-hub:owner/name", "local-dir:folder", work dir or state dict; True for published
            weights, False for none. By default those of the model. A config of a detector or segmentor has those of
            `attnzoo.zoo.catalog`, if its recipe is listed there; other configs need this argument.
        device: By default "cuda" if it is available, else "cpu".
        batch_size: Largest number of images in a batch.
        transform: Replacement for the model's own transform: a config of a registered transform, or a callable. For
            classification it maps a PIL image to a tensor (3, H, W); for a module without `pretrained_cfg` it must also
            normalize.
        classes: Class names by label, instead of those from the config or the work dir: a list, a file, or
            "imagenet-1k".
        topk: Number of classes that a classification result lists.
        dtype: "bfloat16" or "float16" for mixed precision; None or "float32" for full precision.
        channels_last: Whether to store the model's weights in this memory format.
        workers: Number of threads that read images ahead.
        on_error: "skip" skips images that cannot be read, with a warning, and lists them in `skipped`; "raise" raises.
            A single image always raises.
        progress: Whether to show a progress bar on stderr. None shows one if stderr is a terminal and the work takes
            longer than 2 seconds.
        keep_images: Whether results keep their images in memory. None keeps downloaded images only; files are read
            again when a result is drawn.
        use_ema: Whether to use averaged weights if a checkpoint has both kinds; None does what the evaluation does.
        cfg_options: Changes to a config: a dict by dotted key, or "key=value" strings.
        timeout: Longest time to download an image, in seconds.
        max_megabytes: Largest file to download.
        check: Whether to check the keys and types of a config's model before it is built. False is for code whose
            arguments the check cannot follow.

    Attributes:
        task: The model with its preprocessor, in evaluation mode.
        kind: "classification", "detection" or "segmentation".
        classes: Class names by label; empty if they are unknown, then classes are named by number.
        palette: Colors by label, if the data set has its own.
        name: Name of the model or config.
        weights: Description of where the weights came from.
        skipped: Inputs that the last call skipped.

    Raises:
        ValueError: An argument is wrong, there is no such model, or the weights do not fit.
        OSError: The weights cannot be read or downloaded.
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
        check: bool = True,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("topk", topk), ("workers", workers)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")
        if on_error not in ("skip", "raise"):
            raise ValueError(unknown_name("on_error", on_error, ("skip", "raise")))
        self.device = choose_device(device)
        self._dtype = _choose_dtype(dtype)
        loaded = build(model, weights, transform, use_ema, cfg_options, check)
        self.kind, self.transform, self.name, self.weights = loaded.kind, loaded.transform, loaded.name, loaded.weights
        self.palette = loaded.palette
        self.classes = loaded.classes if classes is None else parse_class_names(classes)
        num_classes = getattr(loaded.task, "num_classes", 0)  # 0 if unknown
        if classes is not None and num_classes and len(self.classes) != num_classes:
            raise ValueError(f"classes has {len(self.classes)} names, but the model has {num_classes} classes.")
        self.task: Any = loaded.task.to(self.device)
        if channels_last:
            self.task = self.task.to(memory_format=torch.channels_last)
        self.task.eval()
        self.batch_size, self.topk, self.workers = batch_size, topk, workers
        self.on_error, self.progress, self.keep_images = on_error, progress, keep_images
        self.limits = DownloadLimits(timeout, max_megabytes)
        self.skipped: list[Skipped] = []

    def __repr__(self) -> str:
        return f"Predictor({self.name}: {self.kind}, weights {self.weights}, {self.device})"

    def __call__(self, inputs: Inputs) -> Any:
        """Predicts for all inputs.

        Args:
            inputs: See the class.

        Returns:
            For one image a `ClassificationResult`, `DetectionResult` or `SegmentationResult`. Otherwise a list of them
            in the order of the inputs, without skipped ones (`index` is the position of a result's input).

        Raises:
            ValueError: An input is not an image, or a folder has none.
            BrokenImageError: (a ValueError) An image cannot be read, and it is the only one or `on_error` is "raise".
        """
        single = is_single(inputs)
        results = list(self._predict(inputs, "raise" if single else self.on_error, self.progress))
        return results[0] if single else results

    def stream(self, inputs: Inputs, progress: bool | None = False) -> Generator[Any, None, None]:
        """Predicts for one input after the other, with few of them in memory.

        Args:
            inputs: See the class. From an iterator, no more elements are taken ahead than a batch needs.
            progress: Whether to show a progress bar, as for the class.

        Yields:
            The results in the order of the inputs.

        Raises:
            ValueError: See `__call__`.
        """
        return self._predict(inputs, self.on_error, progress)

    def _predict(self, inputs: Inputs, on_error: str, progress: bool | None) -> Generator[Any, None, None]:
        """Reads images in threads and predicts for windows of them."""
        self.skipped = []
        # In a larger window, more images have the same size.
        window = self.batch_size * (4 if self.kind != "classification" and self.batch_size > 1 else 1)
        # The elements of an iterator, such as a camera's, may not exist yet.
        ahead = window if isinstance(inputs, Iterator) else 2 * window
        hidden = not sys.stderr.isatty() if progress is None else not progress
        total = None if hidden else count_inputs(inputs)
        delay = _PROGRESS_DELAY if progress is None else 0.0
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="attnzoo-reading")
        count = 0
        try:
            with tqdm(total=total, unit="image", disable=hidden, delay=delay, leave=bool(progress)) as bar:
                pending: deque[_Pending] = deque()
                for index, source in enumerate(find_sources(inputs, self.limits)):
                    count += 1
                    in_thread = isinstance(source, (FileSource, URLSource))
                    pending.append(_Pending(index, source, pool.submit(source.read) if in_thread else None))
                    if len(pending) >= ahead:
                        yield from self._predict_window([pending.popleft() for _ in range(window)], on_error)
                        bar.update(window)
                while pending:
                    remaining = min(window, len(pending))
                    yield from self._predict_window([pending.popleft() for _ in range(remaining)], on_error)
                    bar.update(remaining)
        finally:
            pool.shutdown(cancel_futures=True)
        if self.skipped:
            listed = "; ".join(f"{one.name} ({one.reason})" for one in self.skipped[:3])
            warnings.warn(
                f"{len(self.skipped)} of {count} inputs could not be read and were skipped: {listed}"
                f"{'; ...' if len(self.skipped) > 3 else ''}. `predictor.skipped` lists all of them.",
                stacklevel=3,
            )

    def _predict_window(self, pending: Sequence[_Pending], on_error: str) -> Iterator[Any]:
        """Predicts for some images, in batches of equal size, and yields the results in order."""
        groups: dict[Any, list[_Loaded]] = {}
        for index, source, future in pending:
            try:
                image = source.read() if future is None else future.result()
            except BrokenImageError as error:
                if on_error == "raise":
                    raise
                self.skipped.append(Skipped(index, source.name, error.reason or str(error)))
                continue
            sample = prepare_image(image, self.kind, self.transform)
            groups.setdefault(batch_key(sample), []).append(_Loaded(index, source, image, sample))
        results: dict[int, Any] = {}
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                batch = group[start : start + self.batch_size]
                for loaded, output in zip(batch, self._run_model(batch), strict=True):
                    results[loaded.index] = self._build_result(loaded, output)
        for index in sorted(results):
            yield results[index]

    def _run_model(self, batch: Sequence[_Loaded]) -> list[dict[str, Any]]:
        data: dict[str, Any] = {key: [loaded.sample[key] for loaded in batch] for key in batch[0].sample}
        if self.kind == "classification":
            data["image"] = torch.stack(data["image"])
        data |= {"index": [loaded.index for loaded in batch], "path": [loaded.source.name for loaded in batch]}
        precision = (
            torch.autocast(self.device.type, dtype=self._dtype) if self._dtype is not None else contextlib.nullcontext()
        )
        self.task.eval()
        with torch.inference_mode(), precision:
            return self.task.test_step(data)

    def _build_result(self, loaded: _Loaded, output: Mapping[str, Any]) -> Result:
        downloaded = isinstance(loaded.source, URLSource)
        keep = downloaded if self.keep_images is None else self.keep_images
        common: dict[str, Any] = {
            "path": loaded.source.path,
            "index": loaded.index,
            "size": (loaded.image.height, loaded.image.width),
            "classes": self.classes,
            "source": loaded.source,
            "kept_image": loaded.image if keep else None,
        }
        # Tensors are cloned because those created in inference mode cannot be changed in place outside of it.
        if self.kind == "classification":
            return ClassificationResult(scores=output["scores"].clone(), topk=self.topk, **common)
        if self.kind == "segmentation":
            return SegmentationResult(label_map=output["label_map"].clone(), palette=self.palette, **common)
        detections = output["detections"]
        return DetectionResult(
            boxes=detections.boxes.float().clone(),
            labels=detections.labels.clone(),
            scores=detections.scores.float().clone(),
            masks=None if detections.masks is None else detections.masks.clone(),
            **common,
        )


def choose_device(device: str | torch.device | None) -> torch.device:
    """Returns the device to predict on: the given one, or a GPU if there is one, else the CPU.

    Raises:
        ValueError: There is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"There is no device {device!r}; examples are 'cpu', 'cuda' and 'cuda:0'.") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"There is no device {device!r}: torch sees {torch.cuda.device_count()} GPUs.")
    return chosen


def _choose_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(unknown_name("dtype", name, _DTYPES))
    return _DTYPES[name]
