"""COCO's figures for boxes and masks: average precision and recall."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from ...names import unknown_name
from ..files import write_json
from ..registry import METRICS
from ..work_dir import PREDICTIONS
from .base import Metric, MetricInfo
from .coco_files import Entry, category_ids_of, ground_truth, read_annotation_file, write_results
from .masks import encode_mask

IOU_TYPES = ("bbox", "segm")
FIGURES = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l", "AR_1", "AR_10", "AR_100", "AR_s", "AR_m", "AR_l")
"""COCO's twelve, in the order of its own summary."""

HEADLINES = ("mAP", "mAP_50", "mAP_75")
"""Those that papers report."""

NO_OBJECTS = -1.0
"""A figure over objects of which there are none, as COCO's own tools have it."""

BOX_DIGITS = 3  # a thousandth of a pixel
SCORE_DIGITS = 6


@METRICS.register_module()
class CocoMetric(Metric):
    """Box AP and mask AP as COCO defines them, by faster-coco-eval, in percent (Lin et al., ECCV 2014).

    For each type the twelve figures `bbox_mAP` (IoU 0.50 to 0.95), `bbox_mAP_50`, `bbox_mAP_75`, `bbox_mAP_s`,
    `bbox_mAP_m`, `bbox_mAP_l` (objects under 32 squared pixels, under 96 squared, larger), `bbox_AR_1`, `bbox_AR_10`,
    `bbox_AR_100` (recall with so many detections an image), `bbox_AR_s`, `bbox_AR_m`, `bbox_AR_l`, and the same for
    `segm`. A figure over objects of which there are none is -1.

    The ground truth is the annotation file's, of the images that the data set has and of its classes. The data set's
    `metainfo` tells `ann_file`, `classes`, and `categories`, their ids by label; without the latter, they are found by
    the classes' names.

    What is written is what is evaluated: coordinates in thousandths of a pixel, scores in millionths. Masks are kept as
    run lengths from the moment they are seen.

    Args:
        ann_file: annotation file; None for the data set's own.
        iou_types: "bbox", "segm" or both.
        per_class: log a table of each class's AP; with `out_file` also written as `<out_file>.classes.json`.
        out_file: where to write detections in COCO's format for results, ready for its server: `<out_file>.bbox.json`
            and `<out_file>.segm.json`; None for nowhere. Needed where the annotation file has no annotations, as those
            of COCO's test sets: then there are no figures.
        prefix: of the figures' names.

    Raises:
        ValueError: there is no such type.
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
            raise ValueError("iou_types names nothing to evaluate: 'bbox', 'segm' or both.")
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
            for name in FIGURES
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
        """What the data set tells of itself."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Takes it, and finds out before anything runs whether it can be evaluated.

        Raises:
            ValueError: there is no annotation file, or it lacks a category, or masks that are to be evaluated, or any
                annotations where results are not written either.
        """
        self._dataset_meta = dataset_meta
        content = read_annotation_file(self._path())
        category_ids = self._category_ids(content)
        if "annotations" in content:
            ground_truth(content, self._path(), None, category_ids, masks="segm" in self.iou_types)
        elif self.out_file is None:
            raise ValueError(
                f"{self._path()} has no annotations, so there are no figures: give CocoMetric an out_file for results."
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Takes note of a batch.

        Args:
            data_batch: not used.
            data_samples: a prediction an image, with `index`, `image_id`, `path` and `detections` in the original
                image's pixels. Detections whose box or score is not finite are left out.

        Raises:
            ValueError: masks are to be evaluated, and none were predicted.
        """
        for sample in data_samples:
            detections = sample["detections"]
            if "segm" in self.iou_types and detections.masks is None:
                raise ValueError(
                    "The model predicts no masks: mask AP cannot be computed. Evaluate boxes alone: "
                    "iou_types=('bbox',)."
                )
            boxes = detections.boxes.double().numpy().reshape(-1, 4)
            scores = detections.scores.double().numpy()
            sound = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
            boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
            masks = None
            if "segm" in self.iou_types:
                masks = [encode_mask(detections.masks[place]) for place in np.flatnonzero(sound)]
            self.results.append(
                (
                    sample["index"],
                    int(sample["image_id"]),
                    boxes[sound].round(BOX_DIGITS),
                    scores[sound].round(SCORE_DIGITS),
                    detections.labels.numpy()[sound],
                    masks,
                    int((~sound).sum()),
                )
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Evaluates on the main process; the others get the figures from there.

        Args:
            results: (index, image id, boxes as x, y, width, height, scores, labels, masks, number of detections left
                out) of each image.

        Returns:
            The figures, in percent; none where the annotation file has no annotations.

        Raises:
            ValueError: predictions do not fit the annotation file.
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
            print_log(f"CocoMetric: {left_out} detections are not finite, and left out.", "current", level=30)
        image_ids = [result[1] for result in results]
        if len(set(image_ids)) < len(image_ids):
            raise ValueError(
                f"The data set has images twice: {len(image_ids)} samples, {len(set(image_ids))} image ids."
            )
        entries = {iou_type: _entries(results, category_ids, iou_type) for iou_type in self.iou_types}
        if self.out_file is not None:
            for iou_type, found in entries.items():
                path = f"{self.out_file}.{iou_type}.json"
                size = write_results(path, found)
                print_log(f"{path}: {len(found)} detections in {len(results)} images, {size / 1e6:.2f} MB", "current")
        if "annotations" not in content:
            print_log(f"{self._path()} has no annotations: there are no figures.", "current")
            return {}
        truth = ground_truth(content, self._path(), image_ids, category_ids, masks="segm" in self.iou_types)
        if "segm" in self.iou_types:
            _check_sizes(entries["segm"], truth, self._path())
        figures: dict[str, float] = {}
        table = _class_table(truth, category_ids) if self.per_class else []
        for iou_type in self.iou_types:
            evaluation = _run(truth, entries[iou_type], iou_type)
            for name, value in zip(FIGURES, evaluation.stats, strict=True):
                figures[f"{iou_type}_{name}"] = _percent(value)
            if self.per_class:
                for row, values in zip(table, _by_class(evaluation, category_ids), strict=True):
                    row.update({f"{iou_type}_{name}": value for name, value in values.items()})
        if self.per_class:
            print_log(format_class_table(table), "current")
            if self.out_file is not None:
                write_json(f"{self.out_file}.classes.json", {"classes": table})
        return figures

    def _path(self) -> str:
        path = self.ann_file or (self.dataset_meta or {}).get("ann_file")
        if not path:
            raise ValueError("CocoMetric: the data set tells no annotation file; give one as ann_file.")
        return str(path)

    def _category_ids(self, content: dict[str, Any]) -> list[int]:
        """The category ids by label."""
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
                # No box: evaluators would take its area for the mask's.
                entry["segmentation"] = masks[place]
            entries.append({**entry, "score": float(scores[place])})
    return entries


def _check_sizes(entries: Sequence[Entry], truth: Mapping[str, Any], path: str) -> None:
    """Finds masks that are not as large as their image: evaluators would compare them in silence, run by run."""
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
    # Evaluators add keys of their own to each entry.
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
    """mAP, mAP_50, mAP_75 and AR_100 of each class, in percent."""
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
    """Writes the classes' figures as a text table.

    Args:
        table: rows with `name`, `objects` and the figures.

    Returns:
        A heading and a line a class, in columns; "-" where there are no objects.
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
