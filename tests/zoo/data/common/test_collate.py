import mmengine.registry as roots
import pytest
import torch

from attnzoo.zoo.data import (
    DetectionTest,
    ImageClassificationDataset,
    SampleKey,
    classification_collate,
    dense_collate,
)
from attnzoo.zoo.registry import FUNCTIONS
from attnzoo.zoo.training.loaders import build_dataloader
from support import painted_coco

TRAIN = {"type": "SmallImageTrain", "size": 16}
EVALUATION = {"type": "Evaluation", "size": 16, "crop_pct": 1.0}


class Untouched(DetectionTest):
    """Returns images as they are, with annotations."""

    training = True

    def apply(self, sample):
        pass


@pytest.fixture
def folder(make_folder):
    return make_folder(count=5)


def test_classification_batches_have_the_form_that_tasks_expect(folder):
    dataset = ImageClassificationDataset(str(folder), transform=TRAIN)
    batch = classification_collate([dataset[SampleKey(2, 1, 1)], dataset[SampleKey(2, 8, 0)]])
    assert batch["image"].shape == (2, 3, 16, 16)
    assert batch["label"].tolist() == [0, 1]
    assert batch["label"].dtype == torch.int64
    assert (batch["index"], batch["epoch"], batch["repeat"]) == ([1, 8], [2, 2], [1, 0])
    assert batch["path"] == [str(folder / "cat/1.png"), str(folder / "dog/3.png")]
    assert batch["broken"] == []


def test_images_of_different_sizes_raise(folder):
    samples = [ImageClassificationDataset(str(folder), transform={**EVALUATION, "size": size})[0] for size in (8, 9)]
    with pytest.raises(ValueError, match=r"\(3, 8, 8\) and \(3, 9, 9\)"):
        classification_collate(samples)


def test_the_collate_function_is_found_in_both_registries():
    found = roots.FUNCTIONS.get("classification_collate"), FUNCTIONS.get("classification_collate")
    assert found == (classification_collate, classification_collate)


def test_dense_batches_are_lists(tmp_path):
    root = painted_coco.save(tmp_path)
    loader = build_dataloader(
        {
            "dataset": {
                "type": "CocoDetection",
                "root": str(root),
                "split": "train2017",
                "transform": Untouched(),
            },
            "sampler": {"type": "EpochSampler", "shuffle": False},
            "batch_sampler": {"type": "AspectRatioBatchSampler"},
            "batch_size": 2,
            "collate_fn": {"type": "dense_collate"},
        },
        seed=1,
    )
    batches = list(loader)
    assert [batch["image_id"] for batch in batches] == [[11, 30], [5]]
    assert [tuple(image.shape) for image in batches[0]["image"]] == [(3, 120, 160), (3, 90, 130)]
    assert [len(target) for target in batches[0]["target"]] == [3, 1]
    assert batches[0]["broken"] == []


def test_the_broken_images_of_all_samples_are_listed():
    common = {"image": torch.zeros(3, 2, 2), "label": 0, "index": 0, "epoch": 0, "repeat": 0, "path": ""}
    samples = [{**common, "broken": broken} for broken in (["a.png"], [], ["b.png", "c.png"])]
    for collate in (classification_collate, dense_collate):
        assert collate(samples)["broken"] == ["a.png", "b.png", "c.png"]


def test_samples_with_different_keys_raise():
    with pytest.raises(ValueError, match="differ in their keys"):
        dense_collate([{"image": 1, "broken": []}, {"views": 1, "broken": []}])
