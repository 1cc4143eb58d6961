"""attnzoo.Predictor on detectors and segmentors: its results equal an evaluation's, for any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnzoo import Predictor
from attnzoo.zoo.data.common.collate import dense_collate
from attnzoo.zoo.data.detection.coco import CocoDetection
from attnzoo.zoo.inference import DetectionResult, SegmentationResult
from attnzoo.zoo.registry import DATASETS, MODELS
from support import painted, painted_coco

BACKBONE = {
    "type": "nat_mini",
    "features_only": True,
    "depths": (1, 1, 1),
    "embed_dims": (16, 32, 64),
    "num_heads": (1, 2, 4),
    "kernel_size": 3,
}
PREPROCESSOR = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "size_divisor": 32}
MASK_RCNN = {
    "type": "TwoStageDetector",
    "backbone": BACKBONE,
    "neck": {"type": "FPN", "out_channels": 16, "num_outs": 3},
    "rpn_head": {
        "type": "RPNHead",
        "in_channels": 16,
        "feat_channels": 16,
        "anchor_generator": {"strides": (4, 8, 16), "scales": (4,)},
        "test_proposals": {"nms_pre": 50, "max_per_img": 20},
    },
    "roi_head": {
        "type": "StandardRoIHead",
        "num_classes": 3,
        "in_channels": 16,
        "strides": (4, 8, 16),
        "bbox_head": {"fc_channels": 32},
        "mask_head": {"num_convs": 1, "conv_channels": 16},
    },
    "data_preprocessor": PREPROCESSOR,
}
SEGMENTOR = {
    "type": "Segmentor",
    "backbone": BACKBONE,
    "decode_head": {"type": "MLPHead", "num_classes": 4, "in_index": (0, 1, 2), "channels": 16},
    "data_preprocessor": PREPROCESSOR,
}


def detection_config(root: Path, transform: dict[str, Any] | None = None) -> dict[str, Any]:
    dataset = {
        "type": "CocoDetection",
        "root": str(root),
        "split": "train2017",
        "transform": transform or {"type": "DetectionTest", "scale": (160, 96)},
        "min_size": 1,
    }
    return {"model": MASK_RCNN, "test_dataloader": {"dataset": dataset}}


def segmentation_config(root: Path, transform: dict[str, Any] | None = None) -> dict[str, Any]:
    dataset = {
        "type": "SegmentationFolders",
        "root": str(root),
        "classes": ["sky", "sea", "sand", "ship"],
        "transform": transform or {"type": "SegmentationTest", "scale": (96, 64)},
    }
    return {"model": SEGMENTOR, "test_dataloader": {"dataset": dataset}}


def weights_of(model: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Random weights with a strong last layer, so that every class is predicted somewhere."""
    torch.manual_seed(0)
    state = MODELS.build(model).state_dict()
    return {
        name: tensor * 30 if "fc_cls.weight" in name or "conv_seg.weight" in name else tensor
        for name, tensor in state.items()
    }


def evaluate(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Predicts for the data set's samples one at a time, as an evaluation does."""
    task = MODELS.build(config["model"])
    task.load_state_dict(weights)
    task.eval()
    dataset = DATASETS.build(config["test_dataloader"]["dataset"])
    with torch.no_grad():
        return [task.test_step(dense_collate([dataset[index]]))[0] for index in range(len(dataset))]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_coco.save(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted.save(tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize("batch_size", [1, 8])
def test_detections_equal_an_evaluations(coco: Path, batch_size: int):
    config = detection_config(coco)
    weights = weights_of(MASK_RCNN)
    expected = evaluate(config, weights)
    predictor = Predictor(config, weights, batch_size=batch_size)
    dataset: CocoDetection = DATASETS.build(config["test_dataloader"]["dataset"])
    results = predictor([dataset.path(index) for index in range(len(dataset))])
    assert predictor.kind == "detection"
    assert len(results) == len(expected) > 2
    assert sum(len(result) for result in results) > 10
    for result, entry in zip(results, expected, strict=True):
        found = entry["detections"]
        assert isinstance(result, DetectionResult)
        assert torch.equal(result.labels, found.labels)
        torch.testing.assert_close(result.scores, found.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(result.boxes, found.boxes, atol=1e-3, rtol=0)
        assert result.masks is not None
        assert result.masks.shape[1:] == result.size
        assert (result.masks != found.masks).float().mean() < 1e-3
    drawn = max(results, key=len)
    assert np.any(np.asarray(drawn.draw(0.0)) != np.asarray(drawn.draw(1.0)))
    assert len(drawn.to_dict()["detections"]) == len(drawn)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_label_maps_equal_an_evaluations(pairs: Path, batch_size: int):
    config = segmentation_config(pairs)
    weights = weights_of(SEGMENTOR)
    expected = evaluate(config, weights)
    predictor = Predictor(config, weights, batch_size=batch_size)
    results = predictor(pairs / "images")
    assert predictor.kind == "segmentation"
    assert predictor.classes == ("sky", "sea", "sand", "ship")
    assert len(torch.unique(torch.cat([result.label_map.flatten() for result in results]))) > 1
    for result, entry in zip(results, expected, strict=True):
        assert isinstance(result, SegmentationResult)
        assert result.label_map.shape == result.size
        assert (result.label_map != entry["label_map"]).float().mean() < 1e-3
        assert result.draw().height > result.size[0]


def test_results_do_not_depend_on_other_images_in_a_batch():
    weights = weights_of(SEGMENTOR)
    config = segmentation_config(Path("nowhere"))
    noise = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    images = [noise, noise[:, :50], noise[:30], noise[::-1], noise[5:, 40:], noise[:, ::-1]]
    together = Predictor(config, weights, batch_size=6)(images)
    for number, result in enumerate(together):
        alone = Predictor(config, weights, batch_size=1)(images[number])
        assert result.index == number
        assert (result.label_map != alone.label_map).float().mean() < 1e-3


@pytest.mark.parametrize(
    "size", [(1, 1), (300, 1), (1, 200), (97, 61)], ids=["1x1", "wide", "high", "sides that divide by nothing"]
)
def test_images_of_any_size(size: tuple[int, int]):
    image = Image.new("RGB", size, (200, 30, 30))
    for config in (detection_config(Path("nowhere")), segmentation_config(Path("nowhere"))):
        result = Predictor(config, weights_of(config["model"]))(image)
        assert result.size == (size[1], size[0])
        assert result.draw().width >= 96
        result.to_dict()


def test_several_views_of_an_image(coco: Path, pairs: Path):
    for config, folder in (
        (detection_config(coco, {"type": "DetectionViews", "scales": [(96, 96), (128, 128)]}), coco / "train2017"),
        (
            segmentation_config(pairs, {"type": "SegmentationViews", "scale": (96, 64), "ratios": [0.5, 1]}),
            pairs / "images",
        ),
    ):
        weights = weights_of(config["model"])
        expected = evaluate(config, weights)
        dataset = DATASETS.build(config["test_dataloader"]["dataset"])
        paths = [dataset[index]["path"] for index in range(len(dataset))]
        assert len(Predictor(config, weights)(folder)) >= len(expected)
        for result, entry in zip(Predictor(config, weights)(paths), expected, strict=True):
            if isinstance(result, DetectionResult):
                torch.testing.assert_close(result.scores, entry["detections"].scores, atol=1e-5, rtol=0)
            else:
                assert (result.label_map != entry["label_map"]).float().mean() < 1e-3


def test_published_weights_of_the_backbone_alone_are_rejected():
    with pytest.raises(ValueError, match="heads besides its backbone"):
        Predictor(segmentation_config(Path("nowhere")), True)
