"""COCO's metrics for boxes and masks: average precision and recall."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from ...deprecated_paths import renamed_names
from ...names import unknown_name
from ..files import write_json
from ..registry import METRICS
from ..work_dir import PREDICTIONS
from .base import Metric, MetricInfo
from .coco_files import Entry, category_ids_of, ground_truth, read_annotation_file, write_results
from .masks import encode_mask

IOU_TYPES = ("bbox", "segm")
METRIC_NAMES = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l", "AR_1", "AR_10", "AR_100", "AR_s", "AR_m", "AR_l")
"""COCO's twelve metrics, in the order of its own summary."""

HEADLINES = ("mAP", "mAP_50", "mAP_75")
"""The metrics that papers report."""

NO_OBJECTS = -1.0
"""Value of a metric over objects of which there are none, as in COCO's own tools."""

BOX_DIGITS = 3  # a thousandth of a pixel
SCORE_DIGITS = 6


@METRICS.register_module()
class CocoMetric(Metric):
    """Box AP and mask AP as defined by COCO (Lin et al., ECCV 2014), computed by faster-coco-eval, in percent.

    Each IoU type has twelve metrics: `bbox_mAP` (IoU 0.50 to 0.95), `bbox_mAP_50`, `bbox_mAP_75`; `bbox_mAP_s`,
    `bbox_mAP_m` and `bbox_mAP_l` (objects with an area below 32^2 pixels, below 96^2 pixels, and larger); `bbox_AR_1`,
    `bbox_AR_10` and `bbox_AR_100` (recall with that many detections per image); `bbox_AR_s`, `bbox_AR_m` and
    `bbox_AR_l`; and the same for `segm`. A metric over objects of which there are none is -1.

    The ground truth is taken from the annotation file, for the images and classes of the data set. The data set's
    `metainfo` has `ann_file`, `classes` and `categories` (category ids by label). Without `categories`, ids are found
    by class names.

    The values that are evaluated are those that are written: coordinates are rounded to 1e-3 pixels, scores to 1e-6.
    Masks are run-length encoded batch by batch.

    Args:
        ann_file: Annotation file. Defaults to that of the data set.
        iou_types: "bbox", "segm" or both.
        per_class: Log a table with the AP of each class. With `out_file`, also write it to `<out_file>.classes.json`.
        out_file: Prefix of the files with detections in COCO's results format, as its server accepts them:
            `<out_file>.bbox.json` and `<out_file>.segm.json`. Required if the annotation file has no annotations, as
            for COCO's test sets; no metrics are reported then.
        prefix: See `Metric`.

    Raises:
        ValueError: An IoU type is unknown, or none is given.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        iou_types: Sequence[str] = IOU_TYPES,
        per_class: bool = False,
        out_file: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        if isinstance(iou_types, str):
            iou_types = (iou_types,)
        for iou_type in iou_types:
            if iou_type not in IOU_TYPES:
                raise ValueError(unknown_name("IoU type", iou_type, IOU_TYPES))
        if not iou_types:
            raise ValueError("iou_types must be 'bbox', 'segm' or both, got none.")
        self.ann_file = ann_file
        self.iou_types = tuple(name for name in IOU_TYPES if name in iou_types)
        self.per_class = per_class
        self.out_file = None if out_file is None else str(out_file).removesuffix(".json")

    @classmethod
    def metric_infos(
        cls, classes: Sequence[str] | None = (), iou_types: Sequence[str] = IOU_TYPES, **arguments: Any
    ) -> list[MetricInfo]:
        """Describes the twelve metrics of each IoU type."""
        return [
            MetricInfo(f"{iou_type}_{name}", main=name == "mAP", headline=name in HEADLINES, unit="%")
            for iou_type in ([iou_types] if isinstance(iou_types, str) else iou_types)
            for name in METRIC_NAMES
        ]

    @classmethod
    def result_configs(
        cls, config: dict[str, Any], work_dir: str | os.PathLike[str], extras: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Writes detections in COCO's results format, unless the config does already, and adds a `DetectionWriter`."""
        folder = Path(work_dir)
        return [
            {**config, "out_file": config.get("out_file") or str(folder / "coco")},
            {"type": "DetectionWriter", "out_file": str(folder / PREDICTIONS)},
        ]

    @property
    def dataset_meta(self) -> dict | None:
        """The data set's `metainfo`."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Sets the data set's `metainfo` and checks, before anything runs, that it can be evaluated.

        Raises:
            ValueError: The annotation file does not exist, or lacks a category, the masks that are to be evaluated, or
                all annotations although no results are written.
        """
        self._dataset_meta = dataset_meta
        content = read_annotation_file(self._path())
        category_ids = self._category_ids(content)
        if "annotations" in content:
            ground_truth(content, self._path(), None, category_ids, masks="segm" in self.iou_types)
        elif self.out_file is None:
            raise ValueError(
                f"{self._path()} has no annotations, so no metrics can be computed. Set out_file of CocoMetric to "
                "write results."
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Processes the predictions of a batch.

        Args:
            data_batch: Unused.
            data_samples: One prediction per image with `index`, `image_id`, `path` and `detections` in pixels of the
                original image. Detections whose box or score is not finite are left out.

        Raises:
            ValueError: Masks are to be evaluated, but the model predicts none.
        """
        for sample in data_samples:
            detections = sample["detections"]
            if "segm" in self.iou_types and detections.masks is None:
                raise ValueError(
                    "The model predicts no masks, so mask AP cannot be computed. Evaluate only boxes: "
                    "iou_types=('bbox',)."
                )
            boxes = detections.boxes.double().numpy().reshape(-1, 4)
            scores = detections.scores.double().numpy()
            finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
            boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
            masks = None
            if "segm" in self.iou_types:
                masks = [encode_mask(detections.masks[place]) for place in np.flatnonzero(finite)]
            self.results.append(
                (
                    sample["index"],
                    int(sample["image_id"]),
                    boxes[finite].round(BOX_DIGITS),
                    scores[finite].round(SCORE_DIGITS),
                    detections.labels.numpy()[finite],
                    masks,
                    int((~finite).sum()),
                )
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Evaluates on the main process and broadcasts the metrics to the others.

        Args:
            results: (index, image id, boxes as x, y, width, height, scores, labels, masks, number of detections left
                out) of each image.

        Returns:
            The metrics in percent; empty if the annotation file has no annotations.

        Raises:
            ValueError: The predictions do not match the annotation file.
        """
        outcome: list[Any] = [None, None]
        if is_main_process():
            try:
                outcome[0] = self._evaluate(results)
            except ValueError as error:
                outcome[1] = str(error)
        broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise ValueError(outcome[1])
        return outcome[0]

    def _evaluate(self, results: list[Any]) -> dict[str, float]:
        content = read_annotation_file(self._path())
        category_ids = self._category_ids(content)
        left_out = sum(result[-1] for result in results)
        if left_out:
            print_log(f"CocoMetric: left out {left_out} detections that are not finite.", "current", level=30)
        image_ids = [result[1] for result in results]
        if len(set(image_ids)) < len(image_ids):
            raise ValueError(
                f"The data set has duplicate images: {len(image_ids)} samples, but {len(set(image_ids))} image ids."
            )
        entries = {iou_type: _entries(results, category_ids, iou_type) for iou_type in self.iou_types}
        if self.out_file is not None:
            for iou_type, found in entries.items():
                path = f"{self.out_file}.{iou_type}.json"
                size = write_results(path, found)
                print_log(f"{path}: {len(found)} detections in {len(results)} images, {size / 1e6:.2f} MB", "current")
        if "annotations" not in content:
            print_log(f"{self._path()} has no annotations, so no metrics were computed.", "current")
            return {}
        truth = ground_truth(content, self._path(), image_ids, category_ids, masks="segm" in self.iou_types)
        if "segm" in self.iou_types:
            _check_sizes(entries["segm"], truth, self._path())
        metrics: dict[str, float] = {}
        table = _class_table(truth, category_ids) if self.per_class else []
        for iou_type in self.iou_types:
            evaluation = _run(truth, entries[iou_type], iou_type)
            for name, value in zip(METRIC_NAMES, evaluation.stats, strict=True):
                metrics[f"{iou_type}_{name}"] = _percent(value)
            if self.per_class:
                for row, values in zip(table, _by_class(evaluation, category_ids), strict=True):
                    row.update({f"{iou_type}_{name}": value for name, value in values.items()})
        if self.per_class:
            print_log(format_class_table(table), "current")
            if self.out_file is not None:
                write_json(f"{self.out_file}.classes.json", {"classes": table})
        return metrics

    def _path(self) -> str:
        path = self.ann_file or (self.dataset_meta or {}).get("ann_file")
        if not path:
            raise ValueError("CocoMetric: the data set has no annotation file. Set ann_file.")
        return str(path)

    def _category_ids(self, content: dict[str, Any]) -> list[int]:
        """Returns the category ids by label."""
        known = (self.dataset_meta or {}).get("categories")
        if known is not None:
            return [int(category_id) for category_id in known]
        if self.classes:
            return category_ids_of(content, self.classes, self._path())
        return sorted(int(category["id"]) for category in content["categories"])


def _entries(results: Sequence[Any], category_ids: Sequence[int], iou_type: str) -> list[Entry]:
    """Detections as COCO's format for results has them.

    Raises:
        ValueError: a label has no category.
    """
    entries = []
    for _, image_id, boxes, scores, labels, masks, _ in results:
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(category_ids):
            raise ValueError(
                f"The model has found something of class {labels.max()} (from 0) in image {image_id}: the data set has "
                f"{len(category_ids)} classes."
            )
        for place, label in enumerate(labels):
            entry: Entry = {"image_id": image_id, "category_id": category_ids[label]}
            if iou_type == "bbox":
                entry["bbox"] = boxes[place].tolist()
            else:
                # Without a box: evaluators would use its area instead of the mask's.
                entry["segmentation"] = masks[place]
            entries.append({**entry, "score": float(scores[place])})
    return entries


def _check_sizes(entries: Sequence[Entry], truth: Mapping[str, Any], path: str) -> None:
    """Raises if a mask does not have the size of its image, which evaluators do not notice."""
    sizes = {int(image["id"]): [image["height"], image["width"]] for image in truth["images"]}
    for entry in entries:
        size, right = entry["segmentation"]["size"], sizes[entry["image_id"]]
        if size != right:
            raise ValueError(
                f"The masks of image {entry['image_id']} have {size[0]} x {size[1]} pixels (height x width), the image "
                f"has {right[0]} x {right[1]} in {path}."
            )


def _run(truth: dict[str, Any], entries: Sequence[Entry], iou_type: str) -> COCOeval_faster:
    coco = COCO(truth)
    # The evaluator adds keys to each entry.
    evaluation = COCOeval_faster(coco, coco.loadRes([dict(entry) for entry in entries]), iou_type)  # pyright: ignore[reportArgumentType]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def _percent(value: float) -> float:
    return NO_OBJECTS if value < 0 else 100 * float(value)


def _mean(values: np.ndarray) -> float:
    valid = values[values > -1]
    return 100 * float(valid.mean()) if valid.size else NO_OBJECTS


def _class_table(truth: Mapping[str, Any], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    names = {int(category["id"]): category["name"] for category in truth["categories"]}
    objects = dict.fromkeys(category_ids, 0)
    for annotation in truth["annotations"]:
        objects[int(annotation["category_id"])] += not annotation["iscrowd"]
    return [
        {"name": names[category_id], "category_id": category_id, "objects": objects[category_id]}
        for category_id in category_ids
    ]


def _by_class(evaluation: COCOeval_faster, category_ids: Sequence[int]) -> list[dict[str, float]]:
    """Returns mAP, mAP_50, mAP_75 and AR_100 of each class in percent."""
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    thresholds, rows = evaluation.params.iouThrs, {}
    for place, category_id in enumerate(evaluation.params.catIds):
        own = precision[:, :, place, 0, -1]
        rows[int(category_id)] = {
            "mAP": _mean(own),
            "mAP_50": _mean(own[np.isclose(thresholds, 0.5)]),
            "mAP_75": _mean(own[np.isclose(thresholds, 0.75)]),
            "AR_100": _mean(recall[:, place, 0, -1]),
        }
    return [rows[category_id] for category_id in category_ids]


def format_class_table(table: Sequence[Mapping[str, Any]]) -> str:
    """Formats the metrics of the classes as a text table.

    Args:
        table: Rows with `name`, `objects` and the metrics.

    Returns:
        A heading and one line per class, in columns. "-" stands for a metric over no objects.
    """
    columns = [key for key in table[0] if key != "category_id"] if table else []
    cells = [["class", *columns[1:]]]
    for row in table:
        values = [row[column] for column in columns[2:]]
        cells.append(
            [
                str(row["name"]),
                str(row["objects"]),
                *("-" if value == NO_OBJECTS else f"{value:.2f}" for value in values),
            ]
        )
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
    lines = []
    for line in cells:
        first, *others = (
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join([first, *others]))
    return "\n".join(["Classes:", *lines])


__getattr__ = renamed_names(__name__, {"FIGURES": "METRIC_NAMES"})
