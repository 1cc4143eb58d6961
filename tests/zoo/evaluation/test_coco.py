"""COCO's figures, against pycocotools and by hand; results files; several processes."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import distributed

from attnzoo.heads.structures import Detections
from attnzoo.zoo.data import CocoDetection, EvaluationSampler
from attnzoo.zoo.evaluation import coco
from attnzoo.zoo.evaluation.coco import METRIC_NAMES, CocoMetric
from attnzoo.zoo.evaluation.masks import decode_mask, encode_mask
from attnzoo.zoo.registry import METRICS

CATEGORY_IDS = (3, 90, 17)
"""By label; neither in order nor without gaps."""

NAMES = ("cat", "dog", "bird")
SIZE = (150, 200)


def random_box(random: np.random.RandomState) -> list[float]:
    """x, y, width, height: small, medium and large ones, with fractions of pixels."""
    side = random.choice([10, 20, 50, 120], size=2) * random.uniform(0.6, 1.1, size=2)
    x, y = random.uniform(0, 1, size=2) * np.array([SIZE[1] - side[0], SIZE[0] - side[1]])
    return [round(float(value), 2) for value in (x, y, *side)]


def disc(box: list[float]) -> np.ndarray:
    """An ellipse in a box, (height, width)."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    x, y, width, height = box
    return ((columns - x - width / 2) / (width / 2)) ** 2 + ((rows - y - height / 2) / (height / 2)) ** 2 <= 1


def truth_of(images: int, seed: int = 0) -> dict[str, Any]:
    """Annotations with crowds, areas that are not the box's, images without objects."""
    random, annotations = np.random.RandomState(seed), []
    for image in range(images):
        for _ in range(random.randint(0, 7)):
            box = random_box(random)
            mask = encode_mask(disc(box))
            crowd = int(random.uniform() < 0.15)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 + 7 * image,
                    "category_id": int(random.choice(CATEGORY_IDS)),
                    "bbox": box,
                    "area": float(disc(box).sum()),
                    "iscrowd": crowd,
                    "segmentation": mask if crowd or random.uniform() < 0.5 else [polygon(box)],
                }
            )
    return {
        "images": [{"id": 10 + 7 * image, "height": SIZE[0], "width": SIZE[1]} for image in range(images)],
        "categories": [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, NAMES, strict=True)],
        "annotations": annotations,
    }


def polygon(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y + height / 2, x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height]


def detections_of(truth: dict[str, Any], seed: int = 1, most: int = 130) -> list[dict[str, Any]]:
    """For every image objects that were moved a little, some under a wrong name, and others from nowhere."""
    random, samples = np.random.RandomState(seed), []
    for index, image in enumerate(truth["images"]):
        own = [one for one in truth["annotations"] if one["image_id"] == image["id"]]
        found = []
        for _ in range(random.randint(0, most) if index % 3 else 3 * (index % 2)):
            box, label = random_box(random), int(random.randint(3))
            if own and random.uniform() < 0.6:
                near = own[random.randint(len(own))]
                box = [round(value + random.normal(0, 3), 3) for value in near["bbox"]]
                box[2:] = [max(2.0, side) for side in box[2:]]
                label = CATEGORY_IDS.index(near["category_id"]) if random.uniform() < 0.8 else label
            found.append((round(float(random.uniform()), 2), label, box))  # of two digits: scores tie
        found.sort(key=lambda one: -one[0])
        boxes = torch.tensor([box for *_, box in found], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [torch.from_numpy(disc(box)) for *_, box in found]
        samples.append(
            {
                "index": index,
                "image_id": image["id"],
                "path": f"{image['id']}.jpg",
                "detections": Detections(
                    boxes.float(),
                    torch.tensor([score for score, *_ in found], dtype=torch.float32),
                    torch.tensor([label for _, label, _ in found], dtype=torch.int64),
                    torch.stack(masks) if masks else torch.zeros(0, *SIZE, dtype=torch.bool),
                ),
            }
        )
    return samples


@pytest.fixture
def truth(tmp_path: Path) -> dict[str, Any]:
    content = truth_of(24)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return content


def metric_for(path: Path, **options: Any) -> CocoMetric:
    metric = CocoMetric(**options)
    metric.dataset_meta = {"ann_file": str(path), "classes": NAMES, "categories": CATEGORY_IDS}
    return metric


def evaluate(metric: CocoMetric, samples: list[dict[str, Any]]) -> dict[str, Any]:
    metric.process({}, samples[: len(samples) // 2])
    metric.process({}, samples[len(samples) // 2 :])
    return metric.evaluate(len(samples))


def oracle(truth: dict[str, Any], results: str, iou_type: Any, image_ids: list[int] | None = None) -> list[float]:
    """The twelve figures of pycocotools, in percent."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = json.loads(json.dumps(truth))
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(results), iou_type)
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * value if value >= 0 else -1.0 for value in evaluation.stats]


def test_the_figures_are_those_of_pycocotools(tmp_path: Path, truth: dict[str, Any]):
    metric = metric_for(tmp_path / "truth.json", out_file=str(tmp_path / "found.json"))
    got = evaluate(metric, detections_of(truth))
    assert list(got) == [f"{iou_type}_{name}" for iou_type in ("bbox", "segm") for name in METRIC_NAMES]
    for iou_type in ("bbox", "segm"):
        expected = oracle(truth, str(tmp_path / f"found.{iou_type}.json"), iou_type)
        assert [got[f"{iou_type}_{name}"] for name in METRIC_NAMES] == pytest.approx(expected, abs=1e-9)
        assert all(1 < value < 99 for value in expected)


def test_they_follow_from_the_detections_themselves(tmp_path: Path, truth: dict[str, Any]):
    """What is written is rounded; the unrounded detections have the same figures here."""
    samples, entries = detections_of(truth), []
    for sample in samples:
        found = sample["detections"]
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True):
            x, y, right, low = box
            entries.append(
                {"image_id": sample["image_id"], "category_id": CATEGORY_IDS[label], "score": score}
                | {"bbox": [x, y, right - x, low - y]}
            )
    (tmp_path / "own.json").write_text(json.dumps(entries))
    got = evaluate(metric_for(tmp_path / "truth.json", iou_types="bbox"), samples)
    assert list(got.values()) == pytest.approx(oracle(truth, str(tmp_path / "own.json"), "bbox"), abs=1e-9)


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y + side]


def by_hand(tmp_path: Path, annotations: list[dict[str, Any]], images: int = 1) -> Path:
    content = {
        "images": [{"id": number, "height": 200, "width": 200} for number in range(images)],
        "categories": [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, NAMES, strict=True)],
        "annotations": annotations,
    }
    (tmp_path / "hand.json").write_text(json.dumps(content))
    return tmp_path / "hand.json"


def sample_of(boxes: list[list[float]], scores: list[float], labels: list[int], index: int = 0) -> dict[str, Any]:
    found = Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels).long())
    return {"index": index, "image_id": index, "path": f"{index}.jpg", "detections": found}


def test_a_case_by_hand(tmp_path: Path):
    """Three cats. The best detection is right; the next is wrong; the third has an IoU of 0.8 (80 of 100 rows).

    At IoU up to 0.8 (seven thresholds) recall is 1/3 at precision 1 and 2/3 at precision 2/3: of the 101 recall
    points, 34 (0 to 0.33) have precision 1 and 33 (to 0.66) 2/3. Above (three thresholds) there are only the 34.
    """
    annotations = [
        {"image_id": 0, "category_id": 3, "bbox": [0, 0, 100, 100], "area": 10_000},
        {"image_id": 0, "category_id": 3, "bbox": [100, 100, 100, 100], "area": 10_000},
        {"image_id": 0, "category_id": 3, "bbox": [0, 150, 40, 40], "area": 1600},
    ]
    metric = metric_for(by_hand(tmp_path, annotations), iou_types=["bbox"], per_class=True, out_file=tmp_path / "out")
    boxes = [square(0, 0, 100), square(60, 0, 100), [100.0, 100.0, 200.0, 180.0]]
    got = evaluate(metric, [sample_of(boxes, [0.9, 0.8, 0.7], [0, 0, 0])])
    loose, strict = (34 + 33 * 2 / 3) / 101, 34 / 101
    assert got["bbox_mAP"] == pytest.approx(100 * (7 * loose + 3 * strict) / 10, abs=1e-9)
    assert got["bbox_mAP_50"] == got["bbox_mAP_75"] == pytest.approx(100 * loose, abs=1e-9)
    assert got["bbox_AR_1"] == pytest.approx(100 / 3)
    assert got["bbox_AR_100"] == pytest.approx(100 * (7 * 2 / 3 + 3 / 3) / 10)
    assert (got["bbox_mAP_s"], got["bbox_AR_s"]) == (-1.0, -1.0)
    assert (got["bbox_mAP_m"], got["bbox_AR_m"]) == (0.0, 0.0)
    cat, dog, _ = json.loads((tmp_path / "out.classes.json").read_text())["classes"]
    assert cat == {
        "name": "cat",
        "category_id": 3,
        "objects": 3,
        "bbox_mAP": pytest.approx(got["bbox_mAP"]),
        "bbox_mAP_50": pytest.approx(got["bbox_mAP_50"]),
        "bbox_mAP_75": pytest.approx(got["bbox_mAP_75"]),
        "bbox_AR_100": pytest.approx(got["bbox_AR_100"]),
    }
    assert (dog["objects"], dog["bbox_mAP"]) == (0, -1.0)


def test_the_columns_of_a_class_by_hand(tmp_path: Path):
    """A dog that only the eleventh detection finds, with an IoU of 0.72: at five of the ten thresholds."""
    dog = {"image_id": 0, "category_id": 90, "bbox": [0, 0, 100, 100], "area": 10_000}
    metric = metric_for(by_hand(tmp_path, [dog]), iou_types=["bbox"], per_class=True, out_file=tmp_path / "out")
    boxes = [square(120, 120, 5 + number) for number in range(10)] + [[0.0, 0.0, 100.0, 72.0]]
    got = evaluate(metric, [sample_of(boxes, [1 - 0.05 * number for number in range(11)], [1] * 11)])
    dog = json.loads((tmp_path / "out.classes.json").read_text())["classes"][1]
    expected = {"mAP": 100 / 22, "mAP_50": 100 / 11, "mAP_75": 0.0, "AR_100": 50.0}
    assert {name: dog[f"bbox_{name}"] for name in expected} == pytest.approx(expected)
    assert {name: got[f"bbox_{name}"] for name in expected} == pytest.approx(expected)
    assert got["bbox_AR_10"] == 0.0


def test_an_annotation_with_the_id_0_counts(tmp_path: Path):
    """Evaluators take a match with the id 0 for none."""
    path = by_hand(tmp_path, [{"id": 0, "image_id": 0, "category_id": 3, "bbox": [0, 0, 100, 100]}])
    got = evaluate(metric_for(path, iou_types="bbox"), [sample_of([square(0, 0, 100)], [0.9], [0])])
    assert got["bbox_mAP"] == pytest.approx(100)
    assert got["bbox_mAP_l"] == pytest.approx(100)  # the area that was not given


def test_crowds_are_neither_missed_nor_wrong_to_find(tmp_path: Path):
    crowd = {"image_id": 0, "category_id": 3, "bbox": [0, 0, 200, 100], "area": 20_000, "iscrowd": 1}
    cat = {"image_id": 0, "category_id": 3, "bbox": [0, 100, 100, 100], "area": 10_000, "iscrowd": 0}
    path = by_hand(tmp_path, [crowd, cat])
    boxes = [square(0, 0, 90), square(90, 0, 90), square(0, 100, 100)]
    metric = metric_for(path, iou_types="bbox", per_class=True, out_file=tmp_path / "out")
    got = evaluate(metric, [sample_of(boxes, [0.9, 0.8, 0.7], [0, 0, 0])])
    assert got["bbox_mAP"] == pytest.approx(100)
    assert json.loads((tmp_path / "out.classes.json").read_text())["classes"][0]["objects"] == 1


def test_without_any_detection_all_figures_are_0(tmp_path: Path, truth: dict[str, Any]):
    empty = [
        {**sample, "detections": Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), masks)}
        for sample in detections_of(truth)
        for masks in [torch.zeros(0, *SIZE, dtype=torch.bool)]
    ]
    metric = metric_for(tmp_path / "truth.json", out_file=str(tmp_path / "found"), per_class=True)
    assert set(evaluate(metric, empty).values()) == {0.0}
    assert json.loads((tmp_path / "found.segm.json").read_text()) == []


def test_a_set_without_any_object_has_no_figures(tmp_path: Path):
    path = by_hand(tmp_path, [], images=2)
    samples = [sample_of([square(0, 0, 50)], [0.5], [1], index) for index in range(2)]
    assert set(evaluate(metric_for(path, iou_types="bbox"), samples).values()) == {-1.0}


def test_only_the_images_that_were_evaluated_count(tmp_path: Path, truth: dict[str, Any]):
    samples = [{**sample, "index": place} for place, sample in enumerate(detections_of(truth)[5:14])]
    metric = metric_for(tmp_path / "truth.json", iou_types="bbox", out_file=str(tmp_path / "part"))
    got = list(evaluate(metric, samples).values())
    ids = [sample["image_id"] for sample in samples]
    assert got == pytest.approx(oracle(truth, str(tmp_path / "part.bbox.json"), "bbox", ids), abs=1e-9)
    assert got != pytest.approx(oracle(truth, str(tmp_path / "part.bbox.json"), "bbox"), abs=1)


def test_a_subset_of_classes_is_evaluated_alone(tmp_path: Path, truth: dict[str, Any]):
    samples = detections_of(truth)
    for sample in samples:
        found = sample["detections"]
        own = found.labels == 1
        sample["detections"] = Detections(
            found.boxes[own], found.scores[own], torch.zeros(int(own.sum())).long(), found.masks[own]
        )
    metric = CocoMetric(ann_file=str(tmp_path / "truth.json"), out_file=str(tmp_path / "dogs"))
    metric.dataset_meta = {"classes": ("dog",)}  # its category is found by name
    got = evaluate(metric, samples)
    dogs = {**truth, "annotations": [one for one in truth["annotations"] if one["category_id"] == 90]}
    dogs["categories"] = [one for one in truth["categories"] if one["id"] == 90]
    assert {one["category_id"] for one in json.loads((tmp_path / "dogs.bbox.json").read_text())} == {90}
    for iou_type in ("bbox", "segm"):
        expected = oracle(dogs, str(tmp_path / f"dogs.{iou_type}.json"), iou_type)
        assert [got[f"{iou_type}_{name}"] for name in METRIC_NAMES] == pytest.approx(expected, abs=1e-9)


def test_results_files_have_cocos_form(tmp_path: Path, truth: dict[str, Any]):
    sample = detections_of(truth)[3]
    assert len(sample["detections"]) == 3
    metric = metric_for(tmp_path / "truth.json", out_file=str(tmp_path / "new" / "found"))
    evaluate(metric, [{**sample, "index": 0}])
    boxes, masks = (json.loads((tmp_path / f"new/found.{iou_type}.json").read_text()) for iou_type in ("bbox", "segm"))
    assert [set(one) for one in boxes] == [{"image_id", "category_id", "bbox", "score"}] * 3
    assert [set(one) for one in masks] == [{"image_id", "category_id", "segmentation", "score"}] * 3
    found = sample["detections"]
    for place, (box, mask) in enumerate(zip(boxes, masks, strict=True)):
        assert box["image_id"] == mask["image_id"] == sample["image_id"] == 31
        assert box["category_id"] == mask["category_id"] == CATEGORY_IDS[found.labels[place]]
        x, y, width, height = box["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx(found.boxes[place].tolist(), abs=2e-3)
        assert all(len(str(value).partition(".")[2]) <= 3 for value in box["bbox"])
        assert box["score"] == pytest.approx(float(found.scores[place]), abs=1e-6)
        assert (decode_mask(mask["segmentation"]) == found.masks[place].numpy()).all()
        assert mask["segmentation"]["counts"].isascii()


def test_annotations_without_masks_are_told_before_anything_runs(tmp_path: Path, truth: dict[str, Any]):
    for annotation in truth["annotations"][:4]:
        annotation["segmentation"] = []
    (tmp_path / "bare.json").write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=r"bare\.json has no masks for 4 of \d+ objects.*iou_types=\('bbox',\)"):
        metric_for(tmp_path / "bare.json")
    assert evaluate(metric_for(tmp_path / "bare.json", iou_types="bbox"), detections_of(truth))["bbox_mAP"] > 0


def test_a_model_without_masks_is_told(tmp_path: Path, truth: dict[str, Any]):
    with pytest.raises(ValueError, match="predicts no masks"):
        metric_for(tmp_path / "truth.json").process({}, [sample_of([], [], [])])


def test_a_test_set_without_annotations_gives_results_alone(tmp_path: Path, truth: dict[str, Any]):
    samples = detections_of(truth)
    del truth["annotations"]
    (tmp_path / "test.json").write_text(json.dumps(truth))
    with pytest.raises(ValueError, match="Set out_file of CocoMetric"):
        metric_for(tmp_path / "test.json")
    assert evaluate(metric_for(tmp_path / "test.json", out_file=str(tmp_path / "found")), samples) == {}
    assert len(json.loads((tmp_path / "found.bbox.json").read_text())) == sum(len(one["detections"]) for one in samples)


def test_detections_that_are_not_finite_are_left_out(tmp_path: Path):
    path = by_hand(tmp_path, [{"image_id": 0, "category_id": 3, "bbox": [0, 0, 100, 100]}])
    bad = [square(0, 0, 100), square(float("nan"), 0, 5), square(0, 0, float("inf")), square(0, 0, 100)]
    metric = metric_for(path, iou_types="bbox", out_file=str(tmp_path / "found"))
    got = evaluate(metric, [sample_of(bad, [float("nan"), 0.9, 0.8, 0.7], [0, 0, 0, 0])])
    assert got["bbox_mAP"] == pytest.approx(100)
    assert len(json.loads((tmp_path / "found.bbox.json").read_text())) == 1


def test_predictions_of_another_data_set_are_refused(tmp_path: Path, truth: dict[str, Any]):
    samples = detections_of(truth)
    stray = [{**samples[0], "image_id": 5}, *samples[1:]]
    with pytest.raises(ValueError, match=r"1 of the 24 images with predictions are not in .*truth\.json.* id 5"):
        evaluate(metric_for(tmp_path / "truth.json"), stray)
    twice = [{**samples[0], "image_id": samples[1]["image_id"]}, *samples[1:]]
    with pytest.raises(ValueError, match="duplicate images: 24 samples, but 23 image ids"):
        evaluate(metric_for(tmp_path / "truth.json"), twice)
    found = samples[1]["detections"]
    found.labels[0] = 3
    with pytest.raises(ValueError, match=r"class 3 \(from 0\) in image 17: the data set has 3 classes"):
        evaluate(metric_for(tmp_path / "truth.json"), samples)


def test_masks_of_another_size_are_refused(tmp_path: Path, truth: dict[str, Any]):
    samples = detections_of(truth)
    samples[1]["detections"].masks = samples[1]["detections"].masks.transpose(1, 2)
    with pytest.raises(ValueError, match=r"image 17 have 200 x 150 pixels .*the image has 150 x 200"):
        evaluate(metric_for(tmp_path / "truth.json"), samples)


def test_wrong_arguments_and_files_raise(tmp_path: Path, truth: dict[str, Any]):
    with pytest.raises(ValueError, match=r"Unknown IoU type 'box'\. Did you mean 'bbox'"):
        METRICS.build({"type": "CocoMetric", "iou_types": ("box",)})
    with pytest.raises(ValueError, match="must be 'bbox', 'segm' or both, got none"):
        CocoMetric(iou_types=())
    with pytest.raises(ValueError, match="the data set has no annotation file"):
        CocoMetric().dataset_meta = {"classes": NAMES}
    with pytest.raises(ValueError, match=r"nowhere\.json cannot be read"):
        metric_for(tmp_path / "nowhere.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match="not an annotation file in COCO's format"):
        metric_for(tmp_path / "list.json")
    with pytest.raises(ValueError, match=r"Unknown category 'brid'\. Did you mean 'bird'"):
        CocoMetric(ann_file=str(tmp_path / "truth.json")).dataset_meta = {"classes": ("brid",)}
    metric = CocoMetric()
    with pytest.raises(ValueError, match="Unknown category id 4"):
        metric.dataset_meta = {"ann_file": str(tmp_path / "truth.json"), "categories": (3, 4)}


def test_the_data_set_tells_what_the_metric_needs(tmp_path: Path, truth: dict[str, Any]):
    for image in truth["images"]:
        image["file_name"] = f"{image['id']}.png"
        Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / image["file_name"])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    dataset = CocoDetection(
        str(tmp_path), annotations="truth.json", transform={"type": "DetectionTest"}, classes=["cat", "dog"]
    )
    metric = CocoMetric(iou_types="bbox")
    metric.dataset_meta = dataset.metainfo
    samples = [dataset[index] for index in range(len(dataset))]
    for sample in samples:
        own = [one for one in truth["annotations"] if one["image_id"] == sample["image_id"] and not one["iscrowd"]]
        own = [one for one in own if one["category_id"] in (3, 90)]
        boxes = torch.tensor([one["bbox"] for one in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([[3, 90].index(one["category_id"]) for one in own]).long()
        sample["detections"] = Detections(boxes, torch.ones(len(own)), labels)
    assert evaluate(metric, samples)["bbox_mAP"] == pytest.approx(100)


def test_the_log_has_a_table_of_classes(tmp_path: Path, truth: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    lines: list[str] = []
    monkeypatch.setattr(coco, "print_log", lambda message, *_, **__: lines.append(message))
    metric = metric_for(tmp_path / "truth.json", per_class=True)
    got = evaluate(metric, detections_of(truth))
    heading, columns, *rows = lines[-1].splitlines()
    assert heading == "Classes:"
    assert columns.split()[:4] == ["class", "objects", "bbox_mAP", "bbox_mAP_50"]
    assert [row.split()[0] for row in rows] == list(NAMES)
    assert np.mean([float(row.split()[2]) for row in rows]) == pytest.approx(got["bbox_mAP"], abs=0.01)
    assert len({len(line) for line in [columns, *rows]}) == 1


def evaluate_as(rank: int, folder: Path, queue: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        samples = detections_of(truth_of(24))
        own = [samples[key.index] for key in EvaluationSampler(samples)]
        metric = metric_for(folder / "truth.json", out_file=str(folder / "shared"))
        metric.process({}, own)
        figures = metric.evaluate(len(samples))
        # What fails on the main process fails on all, instead of leaving the others waiting.
        metric = metric_for(folder / "truth.json")
        metric.process({}, [{**sample, "image_id": 5 + sample["index"]} for sample in own])
        try:
            metric.evaluate(len(samples))
            error = ""
        except ValueError as failure:
            error = str(failure)
        queue.put((rank, len(own), figures, "predictions and ground truth belong to different data sets" in error))
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_evaluate_as_one_does(tmp_path: Path, truth: dict[str, Any]):
    alone = evaluate(metric_for(tmp_path / "truth.json", out_file=str(tmp_path / "alone")), detections_of(truth))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=evaluate_as, args=(rank, tmp_path, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    try:
        results = sorted((queue.get(timeout=60) for _ in workers), key=lambda one: one[0])
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()
    assert results == [(0, 12, alone, True), (1, 12, alone, True)]
    for iou_type in ("bbox", "segm"):
        assert (tmp_path / f"shared.{iou_type}.json").read_bytes() == (tmp_path / f"alone.{iou_type}.json").read_bytes()
