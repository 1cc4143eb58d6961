"""Random samples of a data set."""

from __future__ import annotations

from pathlib import Path

from attnzoo.zoo.analysis.samples import choose_samples, get_sample
from attnzoo.zoo.data.common.samplers import SampleKey
from attnzoo.zoo.data.detection.coco import CocoDetection
from support import painted_coco


def test_samples_are_distinct_and_seeded():
    assert choose_samples(10, 4, 1) == choose_samples(10, 4, 1)
    assert choose_samples(10, 4, 1) != choose_samples(10, 4, 2)
    assert sorted(choose_samples(10, 20)) == list(range(10))


def test_objects_are_added_in_evaluation_only(tmp_path: Path):
    root = str(painted_coco.save(tmp_path / "coco"))
    evaluation = CocoDetection(root, "train2017", transform={"type": "DetectionTest", "scale": (200, 200)}, min_size=1)
    assert evaluation[0]["target"] is None
    assert get_sample(evaluation, 0)["target"] is not None
    training = CocoDetection(
        root, "train2017", transform={"type": "DetectionTrain", "scales": [(200, 200)]}, min_size=1
    )
    assert get_sample(training, 0, epoch=3)["image"].equal(training[SampleKey(3, 0)]["image"])
