import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from attnzoo.zoo.data import (
    BrokenImageError,
    EpochSampler,
    SampleKey,
    SegmentationDataset,
    SegmentationFolders,
    dense_collate,
)
from attnzoo.zoo.data.segmentation.dataset import Pair
from support import painted

CLASSES = ("red", "green", "blue", "yellow")
TRAIN = {"type": "SegmentationTrain", "scale": (60, 30), "crop_size": (24, 24)}
TEST = {"type": "SegmentationTest", "scale": (60, 30)}


def folders(root, **arguments):
    return SegmentationFolders(str(root), **{"classes": CLASSES, "transform": TEST, **arguments})


@pytest.fixture
def root(tmp_path):
    return painted.save(tmp_path)


def same(first, second):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one.values(), other.values(), strict=True)
    )


def test_label_values_map_the_values_of_the_files(root):
    dataset = folders(root, classes=("warm", "cold"), label_values={0: 0, 1: 1, 2: 1, 3: 0, 255: 255})
    original = painted.labels(0)
    expected = np.select([np.isin(original, (0, 3)), original == 255], [0, 255], 1)
    np.testing.assert_array_equal(dataset[0]["label_map"], expected)


def test_labels_out_of_range_name_the_file(root):
    with pytest.raises(ValueError, match=r"labels/00\.png has the value 3: with 3 classes, values must be in \[0, 2\]"):
        folders(root, classes=CLASSES[:3])[0]


def test_images_and_labels_of_different_size_raise(root):
    Image.fromarray(painted.labels(1, 30, 41)).save(root / "labels/01.png")
    message = r"images/01\.jpg is 40x30 pixels, its label image .*labels/01\.png is 41x30"
    with pytest.raises(ValueError, match=message):
        folders(root)[1]
    with pytest.raises(ValueError, match=f"errors in 1 of all 4 samples:\n.*{message}"):
        folders(root).check()


def batches(root, workers, epoch=0):
    dataset = folders(root, transform=TRAIN)
    sampler = EpochSampler(dataset)
    sampler.set_epoch(epoch)
    return list(DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=dense_collate))


def test_samples_depend_on_seed_epoch_and_index_alone(root):
    dataset, other = folders(root, transform=TRAIN), folders(root, transform=TRAIN, seed=1)
    keys = [SampleKey(0, 1), SampleKey(1, 1), SampleKey(0, 1, 1), SampleKey(0, 2)]
    first = [dataset[key] for key in keys]
    torch.manual_seed(5)
    assert same(first, [folders(root, transform=TRAIN)[key] for key in keys])
    images = {sample["image"].numpy().tobytes() for sample in [*first, other[1]]}
    assert len(images) == 5


def test_batches_do_not_depend_on_the_workers(root):
    expected = batches(root, workers=0, epoch=2)
    got = batches(root, workers=2, epoch=2)
    for one, other in zip(expected, got, strict=True):
        assert one["path"] == other["path"]
        for key in ("image", "label_map"):
            assert all(torch.equal(a, b) for a, b in zip(one[key], other[key], strict=True))


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_broken_files_are_replaced_in_training_and_raise_in_evaluation(root, folder):
    (path,) = (root / folder).glob("01.*")
    path.write_bytes(path.read_bytes()[:60])
    dataset = folders(root, transform=TRAIN)
    sample = dataset[SampleKey(0, 1)]
    assert set(sample["broken"]) == {str(path)}
    assert sample["index"] == 1
    assert sample["path"] != str(root / "images/01.jpg")
    assert same([sample], [folders(root, transform=TRAIN)[1]])
    with pytest.raises(BrokenImageError, match=path.name):
        folders(root)[1]
    for one in (root / folder).iterdir():
        one.write_bytes(b"nothing")
    with pytest.raises(BrokenImageError, match="2 others tried before are broken, too"):
        folders(root, transform=TRAIN, max_retries=2)[0]


def test_checks_report_unusual_files(root):
    Image.fromarray(painted.paint(painted.labels(8))).save(root / "labels" / "alone.png")
    Image.fromarray(np.full((30, 40), 255, np.uint8)).save(root / "labels/00.png")
    (root / "labels/03.png").write_bytes(b"nothing")
    findings = "\n".join(folders(root, classes=(*CLASSES, "never")).check())
    assert "1 label images have no image, such as" in findings
    assert "1 of all 4 samples cannot be read:\nThe image" in findings
    assert f"1 of all 4 label images have only ignored pixels: {root / 'labels/00.png'}." in findings
    assert "1 of 5 classes do not occur in the labels of all 4 samples: never." in findings


def test_checks_list_the_first_errors_and_count_the_others(tmp_path):
    root = painted.save(tmp_path, 8)
    for path in (root / "labels").iterdir():
        Image.fromarray(np.full((30, 40), 9, np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=r"errors in 8 of all 8 samples:\n.*00\.png has the value 9.*\n(.*\n){4}and 3 more"
    ):
        folders(root).check()


def test_large_sets_are_sampled(root):
    (root / "labels/02.png").unlink()
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(root / "labels/02.png")
    dataset = folders(root)
    outcomes = []
    for seed in range(8):
        try:
            outcomes.append(dataset.check(most=2, seed=seed))
        except ValueError as error:
            outcomes.append(str(error).splitlines()[0].rsplit("in ", 1)[1])
    assert "1 of 2 out of 4 samples:" in outcomes
    assert any(isinstance(outcome, list) for outcome in outcomes)


class Halves(SegmentationDataset):
    """Images whose left half is of class 0 and whose right half is of class 1."""

    def __init__(self, files, **options):
        super().__init__("halves", [Pair(file, None) for file in files], ("left", "right"), **options)

    def path(self, index):
        return self.pairs[index].image

    def read_labels(self, index):
        width, height = Image.open(self.path(index)).size
        return np.repeat([[0, 1]], width // 2, axis=1).repeat(height, axis=0).astype(np.uint8)


def test_a_minimal_data_set(root):
    dataset = Halves([str(root / "images/00.jpg")], transform={"type": "SegmentationTest", "scale": (40, 30)})
    sample = dataset[0]
    assert dataset.kind == "segmentation"
    assert sample["label_map"].shape == (30, 40)
    assert sample["label_map"].float().mean() == 0.5
    assert sample["image"].shape == (3, 30, 40)
