"""What metrics report is asked of the metrics, those from outside the package included."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnzoo.zoo.evaluation import (
    Accuracy,
    MeanIoU,
    Metric,
    MetricInfo,
    evaluator_infos,
    find_metric_info,
    result_configs,
)
from attnzoo.zoo.evaluation.coco import METRIC_NAMES
from attnzoo.zoo.registry import METRICS


@pytest.fixture
def error_rate():
    """A metric from outside of which less is better, registered while a test runs."""

    class ErrorRate(Metric):
        @classmethod
        def metric_infos(cls, classes: Any = (), **arguments: Any) -> list[MetricInfo]:
            return [MetricInfo("wrong", higher_is_better=False, main=True, unit="%")]

        @classmethod
        def result_configs(cls, config: dict[str, Any], work_dir: Any, extras: Collection[str] = ()):
            return [{**config, "folder": str(work_dir)}, {"type": "PredictionWriter", "topk": 1}]

    METRICS.register_module(module=ErrorRate)
    yield
    METRICS.module_dict.pop("ErrorRate")


def names(evaluator: Any, **options: Any) -> list[str] | None:
    infos = evaluator_infos(evaluator, **options)
    return None if infos is None else [info.name for info in infos]


def test_the_names_of_an_evaluator_follow_its_arguments(error_rate: None):
    accuracy = {"type": "Accuracy", "topk": (1, 3), "per_class": True}
    assert names(accuracy) == ["top1", "top3", "mean_class_top1"]
    assert names([{"type": "Accuracy", "prefix": "a"}, {"type": "PredictionWriter"}]) == ["a/top1", "a/top5"]
    assert names([{"type": "ErrorRate"}, {"type": "Accuracy", "topk": (1,)}]) == ["wrong", "top1"]
    boxes = names({"type": "CocoMetric", "iou_types": "bbox"}) or []
    assert (len(boxes), boxes[0]) == (12, "bbox_mAP")
    assert len(names({"type": "CocoMetric"}) or ()) == 24


def test_names_after_classes_need_the_classes():
    evaluator = {"type": "MeanIoU", "per_class": True}
    assert names(evaluator) is None
    assert names(evaluator, classes=("a", "b")) == ["mIoU", "mAcc", "aAcc", "IoU.a", "IoU.b", "Acc.a", "Acc.b"]


def test_metrics_that_do_not_describe_themselves_leave_the_names_open():
    METRICS.register_module(name="Silent", module=type("Silent", (Metric,), {}))
    try:
        assert names([{"type": "Accuracy"}, {"type": "Silent"}]) is None
        assert names({"type": "DumpResults"}) is None  # mmengine's
    finally:
        METRICS.module_dict.pop("Silent")


@pytest.mark.parametrize(
    ("name", "main", "headline"),
    [
        ("top1", True, True),
        ("val/top3", False, True),
        ("coco/segm_mAP", True, True),
        ("bbox_mAP_75", False, True),
        ("bbox_AR_100", False, False),
        ("mIoU", True, True),
        ("IoU.traffic light", False, False),
    ],
)
def test_a_value_is_described_by_its_name(name: str, main: bool, headline: bool):
    info = find_metric_info(name)
    assert info is not None
    assert (info.main, info.headline, info.higher_is_better, info.unit) == (main, headline, True, "%")


def test_less_may_be_better_and_unknown_values_are_not_described(error_rate: None):
    info = find_metric_info("val/wrong")
    assert info is not None
    assert not info.higher_is_better
    for name in ("loss", "top", "topk", "mAP", "score"):
        assert find_metric_info(name) is None


def test_result_files_go_into_the_work_dir(error_rate: None, tmp_path: Path):
    accuracy = {"type": "Accuracy"}
    written = {"type": "PredictionWriter", "out_file": str(tmp_path / "predictions.json")}
    assert result_configs(accuracy, tmp_path) == [accuracy, written]
    with_confusion = result_configs(accuracy, tmp_path, {"confusion"})
    assert with_confusion == [{**accuracy, "out_file": str(tmp_path / "confusion.json")}, written]
    detection = result_configs({"type": "CocoMetric", "out_file": "mine"}, tmp_path)
    assert [one["out_file"] for one in detection] == ["mine", str(tmp_path / "predictions.json")]
    assert [one["type"] for one in result_configs([{"type": "MeanIoU"}], tmp_path)] == ["MeanIoU"]
    labels = result_configs([{"type": "MeanIoU"}], tmp_path, {"label_maps"})
    assert labels[1] == {"type": "SegmentationWriter", "out_dir": str(tmp_path / "label_maps")}
    outside = result_configs([{"type": "ErrorRate"}], tmp_path)
    assert outside == [{"type": "ErrorRate", "folder": str(tmp_path)}, {"type": "PredictionWriter", "topk": 1}]


def test_a_writer_of_the_config_is_not_doubled(tmp_path: Path):
    evaluator = [{"type": "PredictionWriter", "topk": 3, "out_file": "elsewhere.json"}, {"type": "Accuracy"}]
    writer, accuracy = result_configs(evaluator, tmp_path)
    assert writer == {"type": "PredictionWriter", "topk": 3, "out_file": str(tmp_path / "predictions.json")}
    assert accuracy == {"type": "Accuracy"}


def test_every_reported_value_is_described():
    classes = ("terrain", "car/truck")
    iou = MeanIoU(per_class=True)
    iou.dataset_meta = {"classes": classes}
    accuracy = Accuracy(topk=(1, 2), per_class=True)
    reported = {
        "MeanIoU": iou.compute_metrics([(0, np.array([0, 1, 3]), np.array([5, 2, 3]))]),
        "Accuracy": accuracy.compute_metrics([(0, 1, 0, 1, 2), (1, 0, 1, 1, 2)]),
        "CocoMetric": dict.fromkeys(f"{kind}_{name}" for kind in ("bbox", "segm") for name in METRIC_NAMES),
    }
    arguments = {"MeanIoU": {"per_class": True}, "Accuracy": {"topk": (1, 2), "per_class": True}}
    for metric, values in reported.items():
        evaluator = {"type": metric, "prefix": "val", **arguments.get(metric, {})}
        assert names(evaluator, classes=classes) == [f"val/{name}" for name in values]
        for name in (f"val/{value}" for value in values):
            info = find_metric_info(name)
            assert info is not None, name
            assert info.higher_is_better
